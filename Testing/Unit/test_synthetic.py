"""The made-up data set: complete, reproducible, varied, and not solvable by a threshold."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from SemiSegLib.synthetic import SyntheticError, draw_phantom, make_dataset

SIZE = (40, 40, 18)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("synthetic") / "data", 7, labelled=3, validation=2, size=SIZE, seed=5)


def names(folder):
    return [path.name.removesuffix(".nii.gz") for path in sorted(folder.iterdir())]


def test_every_case_has_an_image_and_its_mask_in_one_of_two_folders(dataset):
    assert len(names(dataset / "images")) == 7
    labels, held_out = names(dataset / "labels"), names(dataset / "held_out")
    assert sorted(labels + held_out) == names(dataset / "images")
    assert len(held_out) == 2


def test_splits_agree_with_the_folders(dataset):
    demo = json.loads((dataset / "splits.json").read_text(encoding="utf-8"))["demo"]
    assert sorted(demo["train"] + demo["validation"]) == names(dataset / "images")
    assert sorted(demo["labeled_3"] + demo["validation"]) == names(dataset / "labels")
    assert sorted(set(demo["train"]) - set(demo["labeled_3"])) == names(dataset / "held_out")


def test_masks_share_their_images_grid_and_hold_one_connected_atrium(dataset):
    for name in names(dataset / "labels"):
        image = sitk.ReadImage(str(dataset / "images" / f"{name}.nii.gz"))
        mask = sitk.ReadImage(str(dataset / "labels" / f"{name}.nii.gz"))
        assert image.GetSize() == mask.GetSize() == SIZE
        for get in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(image, get)(), getattr(mask, get)(), atol=1e-5)
        voxels = sitk.GetArrayFromImage(mask)
        assert set(np.unique(voxels)) == {0, 1}
        _, parts = ndimage.label(voxels)
        sizes = np.bincount(ndimage.label(voxels)[0].ravel())[1:]
        assert parts == 1 or sizes.max() > 0.98 * sizes.sum()  # coarse voxels may cut off the tip of a vein
        volume_ml = voxels.sum() * np.prod(mask.GetSpacing()) / 1000
        assert 20 < volume_ml < 130


def test_grids_are_anisotropic_and_of_every_kind_of_direction(dataset):
    directions = []
    for name in names(dataset / "images"):
        image = sitk.ReadImage(str(dataset / "images" / f"{name}.nii.gz"))
        assert image.GetSpacing()[2] != pytest.approx(image.GetSpacing()[0], rel=0.02)
        directions.append(np.reshape(image.GetDirection(), (3, 3)))
    assert any(np.allclose(d, np.eye(3), atol=1e-4) for d in directions)
    assert any(d[0, 0] < 0 for d in directions)
    assert any(np.linalg.det(d) < 0 for d in directions)
    assert any(0.02 < abs(d[0, 1]) + abs(d[0, 2]) < 0.5 for d in directions)


def test_same_seed_same_voxels_another_seed_other_voxels(dataset, tmp_path):
    again = make_dataset(tmp_path / "again", 7, labelled=3, validation=2, size=SIZE, seed=5)
    other = make_dataset(tmp_path / "other", 1, labelled=1, validation=0, size=SIZE, seed=6)
    first = sitk.GetArrayFromImage(sitk.ReadImage(str(dataset / "images" / "atrium_001.nii.gz")))
    np.testing.assert_array_equal(
        first, sitk.GetArrayFromImage(sitk.ReadImage(str(again / "images" / "atrium_001.nii.gz")))
    )
    assert (first != sitk.GetArrayFromImage(sitk.ReadImage(str(other / "images" / "atrium_001.nii.gz")))).any()


def test_the_best_threshold_of_each_scan_fails():
    scores = []
    for seed in range(6):
        phantom = draw_phantom((64, 64, 32), np.random.default_rng(seed))
        mask = phantom.mask > 0
        thresholds = np.percentile(phantom.image, np.arange(50, 100))
        scores.append(max(dice(phantom.image > t, mask) for t in thresholds))
        assert phantom.image[mask].mean() > 1.5 * phantom.image[~mask].mean()  # but the atrium is visible
    assert np.mean(scores) < 0.6


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_impossible_numbers_and_used_folders_are_refused(dataset, tmp_path):
    with pytest.raises(SyntheticError, match="3 cases"):
        make_dataset(tmp_path / "a", cases=3, labelled=2, validation=2)
    with pytest.raises(SyntheticError, match="size"):
        make_dataset(tmp_path / "b", size=(96, 96))
    with pytest.raises(SyntheticError, match="not empty"):
        make_dataset(dataset)
