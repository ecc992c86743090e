"""A warped patch shows what its matrix says, in 2D and 3D, against geometry worked by hand and against scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from SemiSegLib.config import AugmentationSettings
from SemiSegLib.data.warping import Resampler, Warp, random_warp

STILL = AugmentationSettings(turn=0, tilt=0, scale=0, stretch=0, elastic=0)


def ramp(shape):
    """Three volumes whose values are the voxels' own x, y and z."""
    return [np.broadcast_to(axis, shape).astype(np.float32) for axis in np.ogrid[tuple(slice(n) for n in shape)]]


def test_without_changes_a_patch_is_the_crop():
    volume = np.random.default_rng(0).normal(size=(20, 18, 16)).astype(np.float32)
    warp = random_warp(np.random.default_rng(1), (9.5, 8.5, 7.5), (8, 6, 4), (1, 1, 1), STILL)
    expected = volume[6:14, 6:12, 6:10]
    for smooth in (True, False):
        np.testing.assert_allclose(Resampler(warp, (8, 6, 4))(volume, smooth), expected, atol=1e-5)


def test_outside_the_scan_is_padding():
    cut = Resampler(random_warp(np.random.default_rng(1), (0.5, 4, 4), (8, 8, 8), (1, 1, 1), STILL), (8, 8, 8))
    mask = cut(np.ones((9, 9, 9), np.uint8), smooth=False, padding=255)
    assert mask[:3].eq(255).all()
    assert mask[3:, 1:].eq(1).all()
    assert cut(np.ones((9, 9, 9), np.float16), smooth=True)[:2].eq(0).all()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 1.0, 2.0)])
def test_turns_are_rigid_in_the_patient_whatever_the_voxels(spacing):
    """Distances between a patch's voxels, in mm, are those between the places they come from."""
    settings = AugmentationSettings(turn=40, tilt=30, scale=0, stretch=0, elastic=0)
    warp = random_warp(np.random.default_rng(3), (30, 30, 30), (16, 16, 16), spacing, settings)
    corners = np.array([[0, 0, 0, 1], [15, 0, 0, 1], [0, 15, 0, 1], [0, 0, 15, 1], [15, 15, 15, 1]], float)
    places = (corners @ warp.matrix.T)[:, :3] * spacing
    before = corners[:, :3] * spacing
    for one, two in ((0, 1), (0, 2), (0, 3), (0, 4), (1, 4)):
        expected = np.linalg.norm(before[one] - before[two])
        assert np.linalg.norm(places[one] - places[two]) == pytest.approx(expected, rel=1e-9)
    assert abs(np.linalg.norm(warp.matrix[:3, :3] - np.eye(3))) > 0.1


def test_the_image_agrees_with_scipy():
    volume = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(40, 40, 40)), 2).astype(np.float32)
    settings = AugmentationSettings(elastic=0, mirror_axes=(0, 1))
    warp = random_warp(np.random.default_rng(5), (20, 19, 21), (16, 16, 16), (1, 1, 1), settings)
    expected = ndimage.affine_transform(
        volume, warp.matrix[:3, :3], warp.matrix[:3, 3], output_shape=(16, 16, 16), order=1
    )
    np.testing.assert_allclose(Resampler(warp, (16, 16, 16))(volume, True), expected, atol=1e-4)


def test_image_and_mask_stay_together():
    """Also under elastic deformation: where a sharp image is bright, its mask is set."""
    inside = np.zeros((40, 40, 40), np.uint8)
    inside[12:28, 12:28, 12:28] = 1
    settings = AugmentationSettings(elastic=2.0, elastic_probability=1.0)
    cut = Resampler(random_warp(np.random.default_rng(7), (20, 20, 20), (24, 24, 24), (1, 1, 1), settings), (24,) * 3)
    image, mask = cut(inside, smooth=True), cut(inside, smooth=False)
    assert ((image > 0.75) <= (mask == 1)).all()
    assert ((image < 0.25) <= (mask == 0)).all()
    assert 0.2 < mask.mean() < 0.8


def test_only_axes_that_may_be_are_mirrored():
    seen = set()
    for seed in range(60):
        settings = AugmentationSettings(turn=0, tilt=0, scale=0, stretch=0, elastic=0, mirror_axes=(1,))
        warp = random_warp(np.random.default_rng(seed), (8, 8, 8), (4, 4, 4), (1, 1, 1), settings)
        seen.add(tuple(np.sign(np.diag(warp.matrix)[:3]).astype(int)))
    assert seen == {(1, 1, 1), (1, -1, 1)}


def test_slices_stay_in_their_plane():
    x, y, z = ramp((30, 30, 9))
    settings = AugmentationSettings(elastic=2.0, elastic_probability=1.0)
    warp = random_warp(np.random.default_rng(2), (15, 15, 4), (16, 16, 1), (1.5, 1.5, 10), settings)
    cut = Resampler(warp, (16, 16, 1))
    np.testing.assert_allclose(cut(z, smooth=True), 4, atol=1e-4)
    assert cut(x, smooth=True).std() > 1
    assert cut(y, smooth=True).std() > 1


def test_bumps_move_what_is_shown_by_as_many_voxels():
    x, y, z = ramp((40, 40, 40))
    matrix = np.eye(4)
    matrix[:3, 3] = 10
    bumps = np.zeros((3, 3, 3, 3), np.float32)
    bumps[0], bumps[2] = 2.0, -1.5
    cut = Resampler(Warp(matrix, bumps), (8, 8, 8))
    steps = torch.arange(8, dtype=torch.float32)
    np.testing.assert_allclose(cut(x, True)[:, 0, 0], 12 + steps, atol=1e-4)
    np.testing.assert_allclose(cut(y, True)[0, :, 0], 10 + steps, atol=1e-4)
    np.testing.assert_allclose(cut(z, True)[0, 0, :], 8.5 + steps, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_warps_as_the_cpu_does():
    volume = np.random.default_rng(0).normal(size=(40, 40, 40)).astype(np.float32)
    settings = AugmentationSettings(elastic=2.0, elastic_probability=1.0, mirror_axes=(0, 1))
    warp = random_warp(np.random.default_rng(5), (20, 19, 21), (16, 16, 16), (1, 1, 1), settings)
    found = Resampler(warp, (16, 16, 16), "cuda")(volume, True)
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), Resampler(warp, (16, 16, 16))(volume, True), atol=1e-4, rtol=1e-4)


def test_what_is_read_of_a_scan_suffices_under_the_strongest_deformation():
    """Against a volume that is read whole: the patch is the same."""
    volume = np.random.default_rng(0).normal(size=(60, 60, 60)).astype(np.float32)
    settings = AugmentationSettings(turn=90, tilt=60, scale=0.5, elastic=6.0, elastic_probability=1.0)
    for seed in range(5):
        warp = random_warp(np.random.default_rng(seed), (30, 28, 33), (24, 24, 24), (1, 2, 0.7), settings)
        cut = Resampler(warp, (24, 24, 24))
        part = cut(volume, True)
        cut.lowest, cut.highest = np.full(3, -1000), np.full(3, 1000)
        torch.testing.assert_close(part, cut(volume, True), atol=1e-4, rtol=1e-4)
