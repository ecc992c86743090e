"""SemiSeg from Python: the documentation's examples run, and arrays, images and files of a scan give one mask."""

import re
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from SemiSegLib.api import Predictor, SemiSegError, evaluate, models, score, train
from SemiSegLib.models import Card, save_model
from SemiSegLib.networks import build_network

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "Resources" / "Docs" / "Python.md"
GRIDS = {
    "plain": ((1, 0, 0, 0, 1, 0, 0, 0, 1), (1.5, 1.0, 2.0)),
    "sagittal": ((0, 0, 1, 1, 0, 0, 0, -1, 0), (1.5, 1.0, 2.0)),
    "oblique": ((0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0), (1.5, 1.0, 2.0)),
}


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    """A network with random weights: what counts here is that it sees the same scan."""
    import torch

    from SemiSegLib.config import Label
    from SemiSegLib.presets import build_settings

    torch.manual_seed(0)
    values = {"data.labels": [Label(3, "x", (1, 2, 3))], "data.spacing": "2,2,2", "training.patch_size": "32,32,32"}
    settings = build_settings("supervised", overrides={**values, "training.precision": "fp32"})
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    save_model(path, build_network(3, 2, settings=settings.network), Card(settings, False, 0))
    return Predictor(path, device="cpu")


def test_the_examples_of_the_documentation_run(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", EXAMPLES.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 7
    (tmp_path / "examples.py").write_text("\n".join(blocks), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "examples.py"], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert "finished" in done.stdout
    assert "1 cases scored" in done.stdout
    assert (tmp_path / "atrium_004.seg.nrrd").exists()


def test_importing_it_loads_nothing_heavy():
    code = "import sys, SemiSegLib.api; print(sorted({'torch', 'numpy', 'SimpleITK', 'monai'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout == "[]\n"
    )


@pytest.mark.parametrize("grid", GRIDS)
def test_file_image_and_array_of_a_scan_give_one_result(grid, ball, predictor, tmp_path):
    direction, spacing = GRIDS[grid]
    scan, _ = ball((24, 30, 18), spacing, direction)
    sitk.WriteImage(scan, tmp_path / "scan.nii.gz")
    stored = nibabel.load(tmp_path / "scan.nii.gz")
    file = predictor.predict(tmp_path / "scan.nii.gz")
    image = predictor.predict(sitk.ReadImage(tmp_path / "scan.nii.gz"))
    array = predictor.predict(stored.get_fdata(), affine=stored.affine)
    assert set(np.unique(file.mask)) <= {0, 3}
    assert 0 < file.volumes_ml["x"] < 24 * 30 * 18 * 3 / 1000
    for other in (image, array):
        np.testing.assert_allclose(other.probabilities, file.probabilities, atol=1e-4)
        np.testing.assert_allclose(other.image.GetDirection(), scan.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(file.image.GetOrigin(), scan.GetOrigin(), atol=1e-4)
    file.save(tmp_path / "mask.nii.gz")
    assert np.array_equal(nibabel.load(tmp_path / "mask.nii.gz").affine, stored.affine)
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "mask.nii.gz").dataobj), file.mask)


def test_an_array_with_spacing_lies_along_the_patient_s_axes(ball, predictor):
    scan, _ = ball((24, 30, 18), (1.5, 1.0, 2.0))
    array = predictor.predict(sitk.GetArrayFromImage(scan).T, spacing=(1.5, 1.0, 2.0))
    np.testing.assert_allclose(array.probabilities, predictor.predict(scan).probabilities, atol=1e-5)
    assert array.distances().shape == (1, 24, 30, 18)


@pytest.mark.parametrize(
    ("scan", "how", "part"),
    [
        (np.zeros((4, 4, 4)), {}, "give spacing="),
        (np.zeros((4, 4, 4)), {"spacing": (1, 1, 1), "affine": np.eye(4)}, "give spacing="),
        (np.zeros((4, 4, 4)), {"spacing": (1, 0, 1)}, "three sizes in mm"),
        (np.zeros((4, 4, 4)), {"affine": np.eye(3)}, "4 x 4"),
        (np.zeros((4, 4, 4)), {"affine": np.diag([1, 0, 1, 1])}, "span no volume"),
        (np.zeros((4, 4)), {"spacing": (1, 1, 1)}, "[x, y, z]"),
        (np.full((4, 4, 4), np.nan), {"spacing": (1, 1, 1)}, "finite"),
        (np.array([[["a"]]]), {"spacing": (1, 1, 1)}, "array of numbers"),
        ("absent.nii.gz", {}, "absent.nii.gz"),
        ("absent.nii.gz", {"spacing": (1, 1, 1)}, "belong to arrays"),
        (sitk.Image([4, 4, 4], sitk.sitkVectorFloat32, 3), {}, "3 values a voxel"),
    ],
)
def test_unsuitable_scans_are_explained(scan, how, part, predictor):
    with pytest.raises(SemiSegError, match=re.escape(part)):
        predictor.predict(scan, **how)


def test_a_wrong_model_or_setting_is_explained(predictor, tmp_path):
    with pytest.raises(SemiSegError, match="no model nowhere"):
        Predictor("nowhere")
    with pytest.raises(SemiSegError, match="No model is named"):
        Predictor([])
    name = next(iter(models()))
    with pytest.raises(SemiSegError, match=r"no setting 'inference\.mirrored'"):
        Predictor(name, device="cpu", mirrored=True)
    with pytest.raises(SemiSegError, match="must be one of patch, whole"):
        Predictor(name, device="cpu", window="half")
    with pytest.raises(SemiSegError, match="no such folder"):
        evaluate(str(tmp_path / "none"), str(tmp_path))
    with pytest.raises(SemiSegError, match="no preset"):
        train(tmp_path, tmp_path / "run", preset="liver")


def test_a_scan_is_never_replaced_by_its_mask(ball, predictor, tmp_path):
    scan = tmp_path / "scan.nii.gz"
    sitk.WriteImage(ball((24, 30, 18), (1.5, 1.0, 2.0))[0], scan)
    before = scan.read_bytes()
    result = predictor.predict(scan)
    with pytest.raises(SemiSegError, match=r"scan\.nii\.gz is the scan"):
        result.save(str(scan))
    assert scan.read_bytes() == before
    result.save(tmp_path / "mask.nii.gz")
    result.save(tmp_path / "mask.nii.gz")


def test_files_to_be_scored_may_be_named_as_text(ball, tmp_path):
    mask = tmp_path / "mask.nii.gz"
    sitk.WriteImage(ball((24, 30, 18), (1.5, 1.0, 2.0))[1], mask)
    assert evaluate({"a": str(mask)}, {"a": str(mask)}).summary["label 1"]["dsc"]["mean"] == 1


def test_score_compares_two_arrays():
    reference = np.zeros((10, 10, 10), int)
    reference[2:6, 2:6, 2:6] = 7
    reference[9] = 255
    prediction = np.roll(reference == 7, 1, axis=0) * 7
    prediction[9] = 7
    found = score(prediction, reference, (2.0, 1.0, 1.0))
    assert list(found) == ["label 7"]
    assert found["label 7"]["dsc"] == pytest.approx(0.75)
    assert found["label 7"]["hd95_mm"] == pytest.approx(2.0)
