"""A network over a whole scan: the windows must not show."""

import numpy as np
import pytest
import torch
from torch import nn

from SemiSegLib.compute.devices import Compute
from SemiSegLib.config import InferenceSettings
from SemiSegLib.data.components import cleaned, largest_components
from SemiSegLib.inference.windows import predict_probabilities
from SemiSegLib.networks.output import NetworkOutput

CPU = Compute(torch.device("cpu"), torch.float32, "")


class Pointwise(nn.Module):
    """Logits that depend on the voxel alone: every window must give the same answer."""

    def __init__(self):
        super().__init__()
        self.sides = []

    def forward(self, image):
        self.sides += [tuple(image.shape[2:])] * len(image)
        return NetworkOutput(torch.cat([-image, image, 0.5 * image], 1), None, image, [image])


def expected(image):
    return torch.stack([-image, image, 0.5 * image]).softmax(0)


@pytest.mark.parametrize(
    "settings",
    [
        InferenceSettings(),
        InferenceSettings(window="whole"),
        InferenceSettings(window="whole", window_voxels=32 * 32 * 32),
        InferenceSettings(stride=(9, 9, 4)),
        InferenceSettings(mirror=True),
        InferenceSettings(mirror=True, overlap=0.25),
    ],
    ids=["windows", "whole", "pieces", "papers", "mirrored", "little overlap"],
)
@pytest.mark.parametrize("shape", [(50, 41, 37), (20, 70, 33), (16, 16, 8)])
def test_windows_do_not_show(settings, shape):
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = predict_probabilities(Pointwise(), image, (32, 32, 16), settings, CPU)
    torch.testing.assert_close(found, expected(image), atol=1e-5, rtol=0)


def test_a_scan_that_fits_goes_through_once_in_multiples_of_16():
    network = Pointwise()
    predict_probabilities(network, torch.zeros(50, 41, 10), (32, 32, 16), InferenceSettings(window="whole"), CPU)
    assert network.sides == [(64, 48, 16)]


def test_windows_respect_the_budget():
    network = Pointwise()
    budget = 48 * 48 * 32
    settings = InferenceSettings(window="whole", window_voxels=budget)
    predict_probabilities(network, torch.zeros(100, 90, 60), (32, 32, 16), settings, CPU)
    assert len(network.sides) > 4
    assert max(x * y * z for x, y, z in network.sides) <= budget


def test_a_few_voxels_more_than_the_patch_need_no_second_window():
    network = Pointwise()
    image = torch.randn(96, 64, 68, generator=torch.Generator().manual_seed(0))
    found = predict_probabilities(network, image, (64, 64, 64), InferenceSettings(), CPU)
    assert network.sides == [(64, 64, 80)] * 2  # 96 is 1.5 times the patch's side, 80 only 1.25 times
    torch.testing.assert_close(found, expected(image), atol=1e-5, rtol=0)


def test_the_papers_windows_are_those_of_ua_mt():
    """sx = ceil((112 - 32) / 18) + 1 and so on, the last window clamped to the border (UA-MT, test_util.py)."""
    network = Pointwise()
    settings = InferenceSettings(stride=(18, 18, 4))
    predict_probabilities(network, torch.zeros(112, 80, 30), (32, 32, 16), settings, CPU)
    assert len(network.sides) == 6 * 4 * 5
    assert set(network.sides) == {(32, 32, 16)}


def test_slices():
    image = torch.randn(50, 41, 7, generator=torch.Generator().manual_seed(0))
    network = Pointwise()
    found = predict_probabilities(network, image, (32, 64), InferenceSettings(mirror=True), CPU)
    torch.testing.assert_close(found, expected(image), atol=1e-5, rtol=0)
    assert set(network.sides) == {(64, 64)}


def test_largest_component_of_each_class():
    mask = torch.zeros(10, 10, 10, dtype=torch.uint8).numpy()
    mask[1:4, 1:4, 1:4], mask[6, 6, 6] = 1, 1
    mask[8:, 8:, 8:], mask[0, 9, 9] = 2, 2
    found = largest_components(mask, 3)
    assert (found == 1).sum() == 27
    assert (found == 2).sum() == 8
    assert found[6, 6, 6] == found[0, 9, 9] == 0


def test_of_touching_structures_only_parts_of_the_largest_whole_count():
    """A chamber (1) within its wall (2), and beside them a larger piece of 1 that touches nothing."""
    mask = torch.zeros(14, 12, 3, dtype=torch.uint8).numpy()
    mask[1:7, 1:7] = 2
    mask[3:5, 3:5] = 1
    mask[9:13, 1:5] = 1
    heart = mask.copy()
    heart[9:] = 0
    assert (mask == 1).sum() > 2 * (heart == 1).sum()
    assert (largest_components(mask, 2) == 1)[9:].sum() == 48  # the wrong one, without
    settings = InferenceSettings(largest_component=True, touching=True)
    foreground = np.where(mask > 0, 0.8, 0.1)  # sure of nothing: size decides
    assert (cleaned(mask, foreground, 2, settings) == heart).all()
    assert (cleaned(mask, foreground, 2, InferenceSettings(touching=True)) == mask).all()
    assert not cleaned(mask * 0, foreground, 2, settings).any()


def test_of_touching_structures_the_part_that_is_sure_counts_not_a_larger_doubtful_one():
    mask = np.zeros((20, 12, 3), np.uint8)
    mask[1:6, 1:7], mask[3:5, 3:5] = 2, 1
    mask[9:19, 1:11], mask[12:16, 3:9] = 2, 1  # a stomach
    foreground = np.where(mask > 0, 0.85, 0.05)
    foreground[2:5, 2:6] = 0.97
    foreground[10, 2:5] = 0.93
    heart = mask.copy()
    heart[9:] = 0
    settings = InferenceSettings(largest_component=True, touching=True)
    assert (cleaned(mask, foreground, 2, settings) == heart).all()
    assert (cleaned(mask, np.where(mask > 0, 0.85, 0.05), 2, settings)[9:] > 0).any()
