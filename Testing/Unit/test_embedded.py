"""Testing/Benchmarks/embedded.py: scans laid into a larger field of view."""

import json
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from SemiSegLib.api import train
from SemiSegLib.constants import IGNORE
from SemiSegLib.errors import SemiSegError


@pytest.fixture(scope="module")
def embedded(benchmark_script):
    return benchmark_script("embedded")


@pytest.fixture
def scan():
    """A scan whose intensities tell the position, and a box in it."""
    image = np.random.default_rng(0).uniform(10, 90, (20, 16, 12)).astype(np.float32)
    mask = np.zeros(image.shape, np.uint8)
    mask[6:12, 5:9, 3:8] = 1
    return image, mask


@pytest.mark.parametrize("context", ["background", "mirrored", "other"])
def test_the_scan_is_unchanged_in_the_middle(embedded, scan, context):
    image, mask = scan
    found = embedded.embed(image, mask, (2, 1.5, 1), context, np.full((3, 4, 5), 40.0))
    assert found.image.shape == found.mask.shape == (40, 24, 12)
    assert found.place == (slice(10, 30), slice(4, 20), slice(0, 12))
    assert np.array_equal(found.image[found.place], image)
    assert np.array_equal(found.mask[found.place], mask)
    outside = np.ones(found.mask.shape, bool)
    outside[found.place] = False
    assert set(np.unique(found.mask[outside])) <= {0, IGNORE}
    assert (found.mask[outside] == IGNORE).any() == (context == "mirrored")


def test_background_is_the_darkest_intensity_beyond_the_fading(embedded, scan):
    image, mask = scan
    found = embedded.embed(image, mask, (2, 1, 1), "background", image)
    assert np.all(found.image[:6] == image.min())
    assert np.all(found.image[34:] == image.min())


def test_mirrored_atria_are_where_they_are_not_scored(embedded, scan):
    image, mask = scan
    found = embedded.embed(image, mask, (3, 1, 1), "mirrored", image)
    assert np.array_equal(found.image[:16], image[::-1][:16])  # beyond the fading
    assert np.array_equal(found.mask[:20] == IGNORE, mask[::-1] == 1)


def test_tissue_is_taken_from_beside_the_structures(embedded, scan):
    image, mask = scan
    image[mask == 1] = 1000
    tissue = embedded.tissue_beside(image, mask)
    assert tissue.shape == (6, 16, 12)  # x of 14 to 19: two voxels from the box, the thickest side
    assert np.array_equal(tissue, image[14:])
    with pytest.raises(SemiSegError, match="no tissue"):
        embedded.tissue_beside(image, np.ones_like(mask))


def test_other_tissue_has_the_scans_own_brightness(embedded, scan):
    image, mask = scan
    tissue = np.random.default_rng(1).normal(5000, 300, (6, 5, 4))
    found = embedded.embed(image, mask, (4, 4, 1), "other", tissue)
    context = found.image[:20]
    beside = image[mask == 0]
    assert abs(context.mean() - beside.mean()) < 3
    assert context.min() >= beside.min()
    assert context.max() <= beside.max()


def test_the_canvas_lies_around_the_scan_in_the_patient(embedded):
    scan = sitk.Image([20, 16, 12], sitk.sitkFloat32)
    scan.SetSpacing((0.5, 0.75, 2.0))
    scan.SetOrigin((3.0, -4.0, 5.0))
    scan.SetDirection((0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    image = np.zeros((40, 24, 12), np.float32)
    image[10 + 7, 4 + 2, 9] = 1
    canvas = embedded.as_image(image, (slice(10, 30), slice(4, 20), slice(0, 12)), scan)
    assert canvas.GetPixel(17, 6, 9) == 1
    here, there = canvas.TransformIndexToPhysicalPoint((17, 6, 9)), scan.TransformIndexToPhysicalPoint((7, 2, 9))
    assert np.allclose(here, there)


def test_a_model_is_scored_plain_and_embedded(embedded, tiny_data, tmp_path, monkeypatch, capsys):
    splits = f"{tiny_data / 'splits.json'}:demo"
    settings = {"data.spacing": (3.75, 3.75, 5.0), "training.patch_size": (32, 16, 16), "training.iterations": 1}
    settings |= {"training.device": "cpu", "training.precision": "fp32"}
    run = train(
        tiny_data,
        tmp_path / "run",
        method="supervised",
        preset="left-atrium",
        settings=settings,
        splits=splits,
        quiet=True,
    )
    file = tmp_path / "scores.json"
    options = ["--model", run.path, "--data", tiny_data, "--splits", splits, "--factor", "1.5,1.5,1", "--json", file]
    monkeypatch.setattr(sys, "argv", ["embedded.py", *map(str, options), "--device", "cpu"])
    assert embedded.main() == 0
    scores = json.loads(file.read_text(encoding="utf-8"))["scores"]
    assert list(scores) == ["plain", "background", "mirrored", "other"]
    report = json.loads((run.report / "validation.json").read_text(encoding="utf-8"))
    assert scores["plain"]["atrium_006"]["dsc"] == pytest.approx(report["cases"]["atrium_006"]["left atrium"]["dsc"])
    assert scores["plain"]["atrium_006"]["outside_ml"] == 0
    assert capsys.readouterr().out.count("\n| ") == 5  # below the header: a line, the scan as it is, three contexts
