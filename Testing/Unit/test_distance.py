"""Signed distance maps against SciPy, brute force and formulas."""

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from SemiSegLib.data.distance import (
    DistanceError,
    distance_to,
    inner_boundary,
    label_distances,
    normalise,
)

BALL_SHAPE = (112, 112, 80)


def signed_distance(mask, spacing):
    """The map of a mask with one class."""
    return label_distances(mask, (1,), spacing)[0]


def scipy_signed_distance(mask, spacing):
    """The papers' definition, written with SciPy alone."""
    if mask.all() or not mask.any():
        return np.zeros(mask.shape)
    outside = ndimage.distance_transform_edt(~mask, spacing)
    inside = ndimage.distance_transform_edt(mask, spacing)
    sdm = outside - inside
    sdm[mask & ~ndimage.binary_erosion(mask, border_value=1)] = 0
    return sdm


def ball(shape=BALL_SHAPE, radius=20.0, spacing=(1.0, 1.0, 1.0)):
    axes = [(np.arange(n) - n // 2) * s for n, s in zip(shape, spacing, strict=True)]
    radii = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))
    return radii <= radius, radii


masks = hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=8).flatmap(lambda s: hnp.arrays(bool, s))
sizes = st.floats(0.3, 6.0)


@settings(max_examples=150, deadline=None)
@given(mask=masks, spacing=st.tuples(sizes, sizes, sizes))
def test_equals_scipy_for_any_mask_and_spacing(mask, spacing):
    spacing = spacing[: mask.ndim]
    np.testing.assert_allclose(
        signed_distance(mask, spacing), scipy_signed_distance(mask, spacing), rtol=1e-5, atol=1e-5
    )


def test_ball_is_negative_inside_and_extreme_at_centre_and_farthest_corner():
    mask, radii = ball()
    sdm = signed_distance(mask, (1, 1, 1))
    assert sdm.dtype == np.float32
    assert (sdm[~mask] > 0).all()
    assert (sdm[mask] <= 0).all()
    # A voxel centre is at most one diagonal away from the sphere that the voxels stand for.
    outside = ~mask
    assert np.abs(sdm[outside] - (radii[outside] - 20)).max() <= np.sqrt(3)
    scaled = normalise(sdm)
    assert scaled.min() == scaled[56, 56, 40] == -1
    assert scaled.max() == scaled[0, 0, 0] == 1


def test_slab_of_anisotropic_voxels_by_hand():
    mask = np.zeros((9, 3), dtype=bool)
    mask[2:7] = True
    expected = np.array([5, 2.5, 0, -5, -7.5, -5, 0, 2.5, 5], dtype=np.float32)
    np.testing.assert_allclose(signed_distance(mask, (2.5, 1)), np.repeat(expected[:, None], 3, axis=1))


def test_memory_order_of_the_mask_does_not_matter():
    mask = np.random.default_rng(0).random((7, 9, 5)) < 0.3
    expected = signed_distance(mask, (1, 2, 3))
    np.testing.assert_array_equal(signed_distance(np.asfortranarray(mask), (1, 2, 3)), expected)
    np.testing.assert_array_equal(signed_distance(np.repeat(mask, 2, axis=0)[::2], (1, 2, 3)), expected)


def test_real_left_atrium_equals_scipy(shared_data):
    label = nibabel.load(sorted((shared_data / "la" / "labels").glob("*.nii.gz"))[0])
    mask = np.asarray(label.dataobj)[::2, ::2, ::2] > 0
    spacing = (1.25, 1.25, 2.5)
    np.testing.assert_allclose(
        signed_distance(mask, spacing), scipy_signed_distance(mask, spacing), rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize("value", [False, True])
def test_mask_without_border_gives_zeros(value):
    sdm = signed_distance(np.full((4, 5, 6), value), (1, 1, 1))
    assert sdm.shape == (4, 5, 6)
    assert not sdm.any()
    assert not normalise(sdm).any()


def test_thin_mask_normalises_without_division_by_zero():
    mask = np.zeros((7, 7), dtype=bool)
    mask[3] = True
    scaled = normalise(signed_distance(mask, (1, 1)))
    assert np.isfinite(scaled).all()
    assert scaled.min() == 0
    assert scaled.max() == 1


def test_normalise_treats_each_map_of_a_stack_by_itself_and_keeps_nan():
    sdm = np.array([[-2.0, 0.0, 4.0, np.nan], [-10.0, -5.0, 1.0, 2.0], [np.nan] * 4], dtype=np.float32)
    expected = [[-1, 0, 1, np.nan], [-1, -0.5, 0.5, 1], [np.nan] * 4]
    np.testing.assert_allclose(normalise(sdm, dimensions=1), expected)
    np.testing.assert_allclose(normalise(sdm)[:2], [[-0.2, 0, 1, np.nan], [-1, -0.5, 0.25, 0.5]])


def test_inner_boundary_needs_a_shared_face_inside_the_image():
    mask = np.ones((4, 4), dtype=bool)
    mask[0, 0] = False
    expected = np.zeros((4, 4), dtype=bool)
    expected[0, 1] = expected[1, 0] = True
    np.testing.assert_array_equal(inner_boundary(mask), expected)


def test_one_map_for_each_class():
    mask = np.random.default_rng(1).integers(0, 4, (12, 10, 8))
    maps = label_distances(mask, (3, 1, 9), (1, 1, 2))
    assert maps.shape == (3, 12, 10, 8)
    for sdm, value in zip(maps, (3, 1, 9), strict=True):
        np.testing.assert_allclose(sdm, scipy_signed_distance(mask == value, (1, 1, 2)), rtol=1e-5, atol=1e-5)


def test_slices_are_independent_of_their_neighbours():
    mask = np.random.default_rng(2).integers(0, 3, (9, 8, 5))
    maps = label_distances(mask, (1, 2), (1, 2, 50), slice_axis=-1)
    for z in range(5):
        for c, value in enumerate((1, 2)):
            expected = scipy_signed_distance(mask[..., z] == value, (1, 2))
            np.testing.assert_allclose(maps[c, ..., z], expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), spacing=st.tuples(sizes, sizes))
def test_distance_given_beside_ignored_voxels_is_right_however_they_are_filled(data, spacing):
    """The definition of 'certain': no way of labelling the ignored voxels gives another distance."""
    mask = data.draw(hnp.arrays(np.uint8, (5, 6), elements=st.sampled_from([0, 0, 1, 1])))
    holes = data.draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=4, unique=True))
    for hole in holes:
        mask[hole] = 7
    sdm = label_distances(mask, (1,), spacing, ignore_value=7)[0]
    assert np.isnan(sdm[mask == 7]).all()
    known = ~np.isnan(sdm)
    for bits in range(2 ** len(holes)):
        filled = mask.copy()
        for position, hole in enumerate(holes):
            filled[hole] = bits >> position & 1
        expected = scipy_signed_distance(filled == 1, spacing)
        np.testing.assert_allclose(sdm[known], expected[known], rtol=1e-5, atol=1e-5)


def test_ignored_slices_blank_only_what_they_could_change():
    mask = np.zeros((20, 20, 40), dtype=np.uint8)
    mask[5:15, 5:15, 5:15] = 1
    mask[:, :, 30:] = 255
    sdm = label_distances(mask, (1,), (1, 1, 1), ignore_value=255)[0]
    assert np.isnan(sdm[:, :, 30:]).all()
    np.testing.assert_array_equal(sdm[10, 10, 15:30], [1, 2, 3, 4, 5, 6, 7, 8] + [np.nan] * 7)
    full = signed_distance(mask == 1, (1, 1, 1))
    np.testing.assert_array_equal(sdm[..., :15], full[..., :15])


def test_class_without_any_known_voxel_is_unknown_everywhere():
    mask = np.zeros((6, 6), dtype=np.uint8)
    mask[0, 0] = 255
    assert np.isnan(label_distances(mask, (1,), (1, 1), ignore_value=255)).all()
    assert not label_distances(mask, (1,), (1, 1)).any()


def test_distance_to_a_plane():
    target = np.zeros((3, 4, 6), dtype=bool)
    target[:, :, 2] = True
    np.testing.assert_allclose(distance_to(target, (1, 1, 1.5))[1, 1], [3, 1.5, 0, 1.5, 3, 4.5])


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((4, 4, 4), (1, 1)),
        ((4, 4), (1, 0)),
        ((4, 4), (1, float("nan"))),
        ((4,), (1,)),
        ((2, 2, 2, 2), (1, 1, 1, 1)),
    ],
)
def test_wrong_geometry_is_refused(shape, spacing):
    with pytest.raises(DistanceError, match=r"shape \("):
        signed_distance(np.zeros(shape, dtype=bool), spacing)
