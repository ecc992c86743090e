"""SimCVD: the slices, the head and the weights of Eq. 1 to 6."""

import math

import pytest
import torch

from SemiSegLib.methods.simcvd import MethodSettings, SliceHead, boundary_slices
from SemiSegLib.schedules import Step

torch.set_num_threads(1)
SMALL = {"pool": 16, "hidden": 32, "embedding": 16}


def test_slices_are_image_plus_distance_map_cut_along_the_last_axis():
    image, sdm = torch.randn(2, 1, 4, 5, 3), torch.randn(2, 2, 4, 5, 3)
    slices = boundary_slices(image, sdm)
    assert slices.shape == (2, 6, 1, 4, 5)
    for channel in range(2):
        for patch in range(2):
            for z in range(3):
                expected = image[patch, 0, :, :, z] + sdm[patch, channel, :, :, z]
                assert torch.equal(slices[channel, 3 * patch + z, 0], expected)


def test_in_2d_a_patch_is_one_slice():
    image, sdm = torch.randn(3, 1, 4, 5), torch.randn(3, 2, 4, 5)
    slices = boundary_slices(image, sdm)
    assert slices.shape == (2, 3, 1, 4, 5)
    assert torch.equal(slices[1, 2, 0], image[2, 0] + sdm[2, 1])


def test_the_head_has_the_documented_size():
    assert sum(p.numel() for p in SliceHead(MethodSettings()).parameters()) == 4_293_248


def test_alpha_dropout_is_the_only_difference_between_a_slice_and_its_positive():
    head, slices = SliceHead(MethodSettings(**SMALL)), torch.randn(3, 1, 12, 12)
    assert not torch.equal(head(slices), head(slices))
    head.eval()
    assert torch.equal(head(slices), head(slices))


def test_the_weights_are_the_papers(make_method, make_batch):
    method, batch = make_method("simcvd", **SMALL), make_batch()
    ramp = math.exp(-5 * (1 - 3 / 8) ** 2)
    weights = {name: term.weight for name, term in method.losses(batch, Step(3, 8)).items()}
    expected = {"supervised": 1, "sdm": 0.1}
    expected |= {"contrast": 0.5, "distillation": 0.1, "consistency": 0.1 * ramp}
    assert weights == pytest.approx(expected)
    method.settings.ramp = "all"
    weights = {name: term.weight for name, term in method.losses(batch, Step(3, 8)).items()}
    assert weights == pytest.approx({**expected, "contrast": 0.5 * ramp, "distillation": 0.1 * ramp})


def test_each_term_reaches_the_networks_it_should(make_method, make_batch):
    method, batch = make_method("simcvd", (32, 32), 3, **SMALL), make_batch((32, 32), 3)
    terms = method.losses(batch, Step(3, 8))

    def reached(term):
        method.zero_grad(set_to_none=True)
        terms[term].value.backward(retain_graph=True)
        parts = {"mask": method.student.mask_head, "sdm": method.student.sdm_head, "head": method.student_head}
        return {name for name, part in parts.items() if any(p.grad is not None for p in part.parameters())}

    assert reached("supervised") == {"mask"}
    assert reached("sdm") == {"sdm"}
    assert reached("contrast") == {"sdm", "head"}
    assert reached("distillation") == set()
    assert reached("consistency") == {"mask"}


def test_a_slice_is_contrasted_within_its_class(make_method):
    """With equal embeddings of all slices of a class the loss is 2 log n, n counting one class's slices."""
    method = make_method("simcvd", classes=3, **SMALL)
    for parameter in [*method.student_head.parameters(), *method.teacher_head.parameters()]:
        parameter.data.zero_()
    method.student_head.layers[-1].bias.data.fill_(1.0)
    method.teacher_head.layers[-1].bias.data.fill_(1.0)
    slices = torch.randn(2, 10, 1, 8, 8)
    assert method._contrast(slices, slices).item() == pytest.approx(2 * math.log(10), rel=1e-5)


def test_the_head_of_the_teacher_follows_too(make_method, make_batch, train_steps):
    method = make_method("simcvd", **SMALL)
    train_steps(method, make_batch(), last=1)
    pairs = zip(method.student_head.parameters(), method.teacher_head.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
