"""Intensity changes: what each does to a patch, worked by hand or against scipy, and what must stay as it was."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from SemiSegLib.data import intensity
from SemiSegLib.data.intensity import change_intensity


@pytest.fixture
def patch():
    return torch.from_numpy(np.random.default_rng(0).normal(1.0, 2.0, (14, 12, 10)).astype(np.float32))


def test_the_same_random_numbers_give_the_same_patch(patch):
    one, two = (change_intensity(patch, np.random.default_rng(4)) for _ in range(2))
    assert torch.equal(one, two)
    others = [change_intensity(patch, np.random.default_rng(seed)) for seed in range(30)]
    assert sum(not torch.equal(patch, other) for other in others) > 15
    assert all(other.isfinite().all() and other.shape == patch.shape for other in others)


def test_strength_zero_changes_nothing(patch):
    assert all(torch.equal(patch, change_intensity(patch, np.random.default_rng(seed), 0.0)) for seed in range(20))


def test_blur_is_scipys(patch):
    expected = ndimage.gaussian_filter(patch.numpy(), 0.8, mode="nearest", radius=2)
    np.testing.assert_allclose(intensity._blur(patch, 0.8), expected, atol=1e-5)


def test_a_slice_is_not_blurred_across(patch):
    flat = patch[..., :1]
    expected = ndimage.gaussian_filter(flat.numpy(), (0.8, 0.8, 0), mode="nearest", radius=(2, 2, 0))
    np.testing.assert_allclose(intensity._blur(flat, 0.8), expected, atol=1e-5)
    assert intensity._low_resolution(flat, 0.5).shape == flat.shape


def test_contrast_keeps_mean_and_range_of_a_symmetric_patch():
    values = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).reshape(5, 1, 1)
    np.testing.assert_allclose(intensity._contrast(values, 0.5).flatten(), [-1, -0.5, 0, 0.5, 1], atol=1e-6)
    np.testing.assert_allclose(intensity._contrast(values, 1.5).flatten(), [-2, -1.5, 0, 1.5, 2], atol=1e-6)


def test_gamma_bends_between_the_ends_and_keeps_mean_and_sd(patch):
    changed = intensity._gamma(patch, 1.4)
    assert float(changed.mean()) == pytest.approx(float(patch.mean()), abs=1e-4)
    assert float(changed.std()) == pytest.approx(float(patch.std()), rel=1e-4)
    assert torch.equal(changed.flatten().argsort(), patch.flatten().argsort())  # the order of brightness stays
    assert not torch.allclose(changed, patch, atol=0.05)


def test_a_constant_patch_stays_finite():
    still = torch.full((8, 8, 4), 3.0)
    assert all(change_intensity(still, np.random.default_rng(seed), 3.0).isfinite().all() for seed in range(20))


def test_low_resolution_loses_single_voxels_and_keeps_plateaus():
    wide = torch.zeros(16, 16, 16)
    wide[:, :8] = 1.0
    found = intensity._low_resolution(wide, 0.5)
    assert found[:, :6].eq(1).all()
    assert found[:, 10:].eq(0).all()
    point = torch.zeros(16, 16, 16)
    point[8, 8, 8] = 8.0
    assert float(intensity._low_resolution(point, 0.5).max()) < 8.0
