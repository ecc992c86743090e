"""What the settings leave open, taken from scans."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from SemiSegLib.config import Label
from SemiSegLib.data.cases import Case, CaseList
from SemiSegLib.data.geometry import canonical
from SemiSegLib.presets import build_settings
from SemiSegLib.synthetic import make_dataset
from SemiSegLib.train import train
from SemiSegLib.training.planning import complete
from SemiSegLib.values import SettingsError


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_voxel_size_is_that_along_the_axes_of_the_networks_grid(mirrored, tmp_path):
    """Short-axis slices of a heart are turned about two axes: one of theirs may be nearest to two of the patient's."""
    short_axis = next(
        matrix
        for matrix in (Rotation.random(random_state=seed).as_matrix() for seed in range(1000))
        if len(set(np.abs(matrix).argmax(1))) < 3
    )
    scan = sitk.GetImageFromArray(np.zeros((10, 80, 90), np.float32))
    scan.SetSpacing((1.25, 1.5, 8.0))
    scan.SetDirection((short_axis * ([1, 1, -1] if mirrored else [1, 1, 1])).ravel().tolist())
    sitk.WriteImage(scan, tmp_path / "scan.mha")
    settings = build_settings("supervised", overrides={"data.labels": [Label(1, "x", (1, 2, 3))]})
    complete(settings, CaseList((Case("scan", tmp_path / "scan.mha", tmp_path / "scan.mha"),), ()))
    assert settings.data.spacing == pytest.approx(canonical(scan).GetSpacing())


@pytest.fixture
def training(ball, tiny_settings, tmp_path):
    """A function that trains on two balls, whose masks a function changes, and returns the run's warnings."""

    def run(change, **settings):
        for name in "ab":
            for part, image in zip(("images", "labels"), ball((32, 32, 16), (3.75, 3.75, 5.0), radius=20), strict=True):
                array = sitk.GetArrayFromImage(image)
                changed = sitk.GetImageFromArray(array if part == "images" else change(array, name).astype(np.uint8))
                changed.CopyInformation(image)
                (tmp_path / part).mkdir(exist_ok=True)
                sitk.WriteImage(changed, tmp_path / part / f"{name}.nii.gz")
        done = train(tmp_path, tmp_path / "run", tiny_settings("supervised", **{"training.iterations": 1, **settings}))
        return [event["text"] for event in done.events() if event.get("level") == "warning"]

    return run


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("labels", [[], [Label(1, "ball", (1, 2, 3))]])
def test_masks_without_any_structure_are_refused(value, labels, training):
    """Masks of 0 and 255 count as annotated nowhere but in the background: the network learnt that there is nothing,
    and empty masks agreed with it."""
    with pytest.raises(SettingsError, match="hold no foreground") as refused:
        training(lambda mask, name: mask * value, **{"data.labels": labels})
    assert ('--set "data.labels=255:NAME" --set data.ignore_value=254' in str(refused.value)) == (value == 255)


def test_masks_of_255_are_learnt_from_when_that_is_said(training):
    assert not training(lambda mask, name: mask * 255, **{"data.labels": "255:ball", "data.ignore_value": 254})


def test_what_no_mask_teaches_is_said(training):
    labels = {"data.labels": "1:ball,2:vein"}
    text, other = training(lambda mask, name: mask * (255 if name == "a" else 1), **labels)
    assert text == "No annotated mask holds vein: it will not be learnt."
    assert other.startswith("The masks of a hold nothing but background and 255")


def test_a_structure_that_is_too_small_for_the_voxels_is_named(training):
    def with_a_dot(mask, name):
        mask[0, 0, 0] = 2
        return mask

    found = training(with_a_dot, **{"data.labels": "1:ball,2:dot", "data.spacing": "7.5,7.5,10"})
    assert found[-1] == "No annotated mask holds dot: it will not be learnt."
    assert [text.split("/")[-1] for text in found[:-1]] == [
        f"{name}.nii.gz: of dot nothing is left at voxels of 7.5 x 7.5 x 10 mm" for name in "ab"
    ]


def test_a_validation_scan_that_is_trained_on_under_another_name_is_named(tiny_settings, tmp_path):
    data = make_dataset(tmp_path / "data", cases=3, labelled=2, validation=1, size=(32, 32, 16))
    shutil.copy(data / "images" / "atrium_003.nii.gz", data / "images" / "again.nii.gz")
    settings = tiny_settings("supervised", **{"training.iterations": 1})
    run = train(data, tmp_path / "run", settings, validation=1, quiet=True)
    (warning,) = [event["text"] for event in run.events() if event.get("level") == "warning"]
    assert "say too much: atrium_003 (as again)." in warning


@pytest.mark.parametrize(("slices", "dimensions", "said"), [(1, 3, True), (1, 2, False), (2, 3, False)])
def test_single_slices_are_for_a_network_of_slices(slices, dimensions, said, tmp_path, caplog):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((slices, 40, 40), np.float32)), tmp_path / "scan.mha")
    overrides = {"data.labels": [Label(1, "x", (1, 2, 3))], "data.dimensions": dimensions}
    settings = build_settings("supervised", overrides=overrides)
    complete(settings, CaseList((Case("scan", tmp_path / "scan.mha", tmp_path / "scan.mha"),), ()))
    assert ("data.dimensions=2" in caplog.text) == said
