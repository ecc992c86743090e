"""From a scan's own grid to the networks' and back, judged in world space."""

import tracemalloc

import numpy as np
import pytest
import SimpleITK as sitk

from SemiSegLib.config import DataSettings
from SemiSegLib.data.geometry import canonical, from_array, to_array
from SemiSegLib.data.grid import back_to_scan, resample_image, resample_mask, sparse_on_grid, to_network_grid
from SemiSegLib.errors import SemiSegError
from SemiSegLib.metrics import dice

OBLIQUE = (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0)
GRIDS = {
    "plain": ((40, 40, 40), (1.0, 1.0, 1.0), (1, 0, 0, 0, 1, 0, 0, 0, 1)),
    "thick slices": ((50, 50, 9), (0.8, 0.8, 5.0), (1, 0, 0, 0, 1, 0, 0, 0, 1)),
    "oblique": ((40, 44, 36), (1.0, 0.9, 1.2), OBLIQUE),
    "left-handed": ((40, 44, 36), (1.0, 0.9, 1.2), (-1, 0, 0, 0, 1, 0, 0, 0, 1)),
    "sagittal": ((36, 40, 44), (1.2, 1.0, 0.9), (0, 0, 1, 1, 0, 0, 0, -1, 0)),
}


@pytest.fixture(params=GRIDS, ids=list(GRIDS))
def scan_and_mask(request, ball):
    return ball(*GRIDS[request.param])


def centre_of_mass(image):
    """World position (mm) of the foreground's centre, by SimpleITK."""
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(image)
    return np.array(statistics.GetCentroid(1))


@pytest.mark.parametrize("spacing", [None, (1.5, 1.5, 2.0), (0.7, 0.7, 0.7)])
def test_a_ball_keeps_its_place_and_volume(scan_and_mask, spacing):
    _, mask = scan_and_mask
    moved = resample_mask(canonical(mask), spacing)
    assert np.linalg.norm(centre_of_mass(moved) - centre_of_mass(mask)) < 0.35
    volume = to_array(moved).sum() * np.prod(moved.GetSpacing())
    assert volume == pytest.approx(to_array(mask).sum() * np.prod(mask.GetSpacing()), rel=0.08)


def test_the_same_spacing_changes_no_voxel(scan_and_mask):
    scan, mask = scan_and_mask
    grid = to_network_grid(scan, DataSettings())
    values = to_array(canonical(mask)).astype(np.float32)
    assert np.array_equal(back_to_scan(values, grid, scan, 0.0), to_array(mask))


def test_there_and_back_at_another_spacing(scan_and_mask):
    scan, mask = scan_and_mask
    grid = to_network_grid(scan, DataSettings(spacing=(1.4, 1.4, 1.4)))
    on_grid = to_array(resample_mask(canonical(mask), (1.4, 1.4, 1.4))).astype(np.float32)
    returned = back_to_scan(on_grid, grid, scan, 0.0) > 0.5
    assert returned.shape == scan.GetSize()
    assert dice(returned, to_array(mask) > 0) > 0.93


def test_the_networks_grid_covers_the_whole_scan(scan_and_mask):
    scan, _ = scan_and_mask
    ones = np.ones(to_network_grid(scan, DataSettings(spacing=(1.7, 1.7, 1.7))).GetSize(), np.float32)
    grid = to_network_grid(scan, DataSettings(spacing=(1.7, 1.7, 1.7)))
    assert back_to_scan(ones, grid, scan, 0.0).min() == pytest.approx(1.0)


def test_zero_keeps_an_axis(ball):
    scan, _ = ball((40, 40, 9), (1.0, 1.0, 5.0))
    grid = to_network_grid(scan, DataSettings(spacing=(2.0, 2.0, 0.0)))
    assert grid.GetSpacing() == (2.0, 2.0, 5.0)
    assert grid.GetSize() == (20, 20, 9)


def test_z_score_is_of_the_whole_scan_after_the_window(ball):
    scan, _ = ball((30, 30, 30), (1, 1, 1))
    windowed = to_array(scan).clip(-2, 50)
    expected = (windowed - windowed.mean()) / windowed.std()
    found = to_array(to_network_grid(scan, DataSettings(window=(-2, 50))))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_tissue_is_normalised_alike_in_every_field_of_view():
    """Around the scan there is air: noise of up to a hundredth of what the body has."""
    random = np.random.default_rng(0)
    body = random.uniform(100, 1000, (20, 20, 20)).astype(np.float32)
    body[0, 0, 0] = 0
    canvas = random.uniform(0, 10, (20, 60, 60)).astype(np.float32)
    canvas[:, 20:40, 20:40] = body
    settings = DataSettings(normalisation="tissue")
    alone = to_array(to_network_grid(sitk.GetImageFromArray(body), settings))
    in_air = to_array(to_network_grid(sitk.GetImageFromArray(canvas), settings))
    np.testing.assert_allclose(in_air[20:40, 20:40], alone, atol=1e-3)
    brighter = body[body > 0]
    np.testing.assert_allclose(alone.T, (body - brighter.mean()) / brighter.std(), atol=1e-4)


def test_unit_range(ball):
    scan, _ = ball((30, 30, 30), (1, 1, 1))
    found = to_array(to_network_grid(scan, DataSettings(normalisation="unit", window=(0, 80))))
    np.testing.assert_allclose(found, to_array(scan).clip(0, 80) / 80, atol=1e-6)


def test_downsampling_does_not_alias():
    """A checkerboard finer than the new voxels becomes its mean, not one of its colours."""
    board = (np.indices((48, 48, 48)).sum(0) % 2).astype(np.float32)
    image = sitk.GetImageFromArray(board)
    found = to_array(resample_image(image, (2.5, 2.5, 2.5)))[3:-3, 3:-3, 3:-3]
    assert np.abs(found - 0.5).max() < 0.1


def test_several_classes_and_the_ignore_value_survive_resampling():
    values = np.zeros((30, 30, 30), np.uint8)
    values[:15], values[15:, :15], values[15:, 15:, :15] = 1, 2, 255
    mask = sitk.GetImageFromArray(values)
    found = to_array(resample_mask(mask, (2.0, 2.0, 2.0)))
    assert set(np.unique(found)) == {0, 1, 2, 255}
    for value in (0, 1, 2, 255):
        assert (found == value).mean() == pytest.approx((values == value).mean(), abs=0.04)


def test_a_scan_without_contrast_is_refused():
    with pytest.raises(SemiSegError, match="same intensity"):
        to_network_grid(sitk.Image([8, 8, 8], sitk.sitkFloat32), DataSettings())


def test_arrays_must_fit(ball):
    scan, _ = ball((8, 9, 10), (1, 1, 1))
    assert to_array(from_array(np.zeros((8, 9, 10)), scan)).shape == (8, 9, 10)
    with pytest.raises(SemiSegError):
        from_array(np.zeros((10, 9, 8)), scan)


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (0, 0, 1, 1, 0, 0, 0, -1, 0)])
def test_slices_drawn_on_a_fine_grid_survive_on_a_coarse_one(direction):
    """Every fourth slice of 0.5 mm: each lies within some slice of 1.6 mm, which then is annotated."""
    scan = sitk.Image([6, 8, 40], sitk.sitkFloat32)
    scan.SetSpacing((1.0, 1.0, 0.5))
    scan.SetDirection(direction)
    drawn = np.full((6, 8, 40), 255, np.uint8)
    drawn[:, :, ::4] = 0
    drawn[2:4, 3:6, ::4] = 1
    wanted = resample_image(canonical(scan), np.abs(np.reshape(direction, (3, 3)) @ (1.0, 1.0, 1.6)).tolist())
    found = sparse_on_grid(drawn, scan, wanted)
    along = int(np.abs(np.reshape(direction, (3, 3)))[:, 2].argmax())
    centres = (np.arange(wanted.GetSize()[along]) - (wanted.GetSize()[along] - 1) / 2) * 1.6
    slices = (np.arange(0, 40, 4) - 39 / 2) * 0.5
    holds = np.array([(np.abs(slices - centre) < 0.8).any() for centre in centres])
    if direction[0] == 0:
        holds = holds | holds[::-1]  # the axis may run the other way
    annotated = (found != 255).any(axis=tuple(axis for axis in range(3) if axis != along))
    assert annotated.sum() >= 10  # as many as were drawn, or one more where one lies on a border
    assert not (annotated & ~holds).any()
    assert 0.1 < (found == 1).sum() / (found != 255).sum() < 0.15  # 6 of 48 voxels of each slice


def test_voxels_drawn_on_a_coarse_grid_fill_a_fine_one():
    scan = sitk.Image([4, 4, 4], sitk.sitkFloat32)
    drawn = np.full((4, 4, 4), 255, np.uint8)
    drawn[1, 2, 3] = 2
    found = sparse_on_grid(drawn, scan, resample_image(scan, (0.5, 0.5, 0.5)))
    assert (found == 2).sum() == 8
    assert (found[2:4, 4:6, 6:8] == 2).all()


def test_a_grid_that_no_memory_holds_is_refused_and_the_voxel_size_is_named():
    """A header in the wrong unit: voxels of half a metre."""
    scan = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(64, 64, 64)).astype(np.float32))
    scan.SetSpacing((500, 500, 500))
    with pytest.raises(SemiSegError, match=r"500 x 500 x 500 mm.*1 x 1 x 1 mm"):
        to_network_grid(scan, DataSettings(spacing=(1, 1, 1)))


@pytest.mark.parametrize("spacing", [(0.5, 0.5, 0.5), (2.0, 2.0, 2.0)])
def test_what_was_drawn_is_brought_over_with_few_bytes_a_voxel(spacing):
    """A CT of 512 x 512 x 400 voxels, of which nearly all are drawn, must fit into a clinic's memory."""
    scan = sitk.Image([96, 96, 48], sitk.sitkFloat32)
    drawn = np.full((96, 96, 48), 2, np.uint8)
    drawn[:, :, ::8] = 255
    grid = resample_image(scan, spacing)
    tracemalloc.start()
    found = sparse_on_grid(drawn, scan, grid)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(np.unique(found)) >= {2}
    assert most < 20 * max(drawn.size, found.size)
