"""Testing/Benchmarks/gpu.py with tiny scans on the CPU: packed, sent in parts, unpacked, measured, gone on with."""

import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from SemiSegLib.runs import RunFolder

SCRIPT = Path(__file__).resolve().parents[1] / "Benchmarks" / "gpu.py"
TINY = {
    "data.spacing": "3.75,3.75,5",
    "training.patch_size": "32,16,16",
    "training.precision": "fp32",
    "inference.stride": "8,8,8",
    "training.log_every": 1,
}


RECIPES = ("published", "strong")


def gpu(*arguments):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)


def run(work, *arguments, iterations=2, packs=(), minutes=10, speed=()):
    sets = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    return gpu(
        *("run", "--packs", *packs, "--work", work, "--results", work / "results", "--minutes", minutes),
        *("--recipes", *RECIPES, "--methods", "supervised", "--labelled", 2, "--device", "cpu", "--threads", 1),
        *("--speed", *speed, "--modes", "eager", "--speed-iterations", 1),
        *(*sets, "--set", f"training.iterations={iterations}", *arguments),
    )


@pytest.fixture(scope="module")
def parts(tiny_data, tmp_path_factory):
    """The tiny scans in several packs: 2 annotated, 1 to validate with, 2 of the 3 others."""
    folder = tmp_path_factory.mktemp("packs")
    largest = max(file.stat().st_size for file in (tiny_data / "images").iterdir())
    limit = (2.5 * largest + 30_000) / 2**20
    splits = f"{tiny_data / 'splits.json'}:demo"
    result = gpu(
        *("pack", "--data", tiny_data, "--splits", splits, "--labelled", 1, 2, "--unlabelled", 2),
        *("--limit", limit, "--out", folder),
    )
    assert result.returncode == 0, result.stderr
    files = sorted(folder.glob("*.tar"))
    assert len(files) > 1
    assert all(file.stat().st_size <= limit * 2**20 for file in files)
    return files


@pytest.fixture(scope="module")
def measured(parts, tmp_path_factory):
    """A work folder in which everything was measured, and what the command said."""
    work = tmp_path_factory.mktemp("work")
    result = run(work, packs=parts, speed=["supervised"])
    assert result.returncode == 0, result.stderr
    return work, result.stdout


def test_unpacked_scans_are_those_packed(tiny_data, measured):
    work, _ = measured
    found = sorted((work / "data").glob("*/*.nii"))
    assert [f"{file.parent.name}/{file.stem}" for file in found] == [
        *(f"images/atrium_00{number}" for number in (1, 2, 3, 4, 6)),
        *(f"labels/atrium_00{number}" for number in (1, 2, 6)),
    ]
    for file in found:
        image = sitk.ReadImage(file)
        original = sitk.ReadImage(tiny_data / file.parent.name / f"{file.stem}.nii.gz")
        assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(original))
        assert np.allclose(image.GetSpacing(), original.GetSpacing())
        assert np.allclose(image.GetOrigin(), original.GetOrigin(), atol=1e-4)
        assert np.allclose(image.GetDirection(), original.GetDirection(), atol=1e-5)


def test_cells_and_speed_are_measured_and_printed(measured):
    work, said = measured
    cell = json.loads(
        (work / "results" / "published" / "left-atrium-supervised-2-seed1-paper.json").read_text(encoding="utf-8")
    )
    assert cell["cases"] == {"labelled": 2, "unlabelled": 2, "validation": 1}
    score = cell["validation"]["summary"]["left atrium"]["dsc"]["mean"]
    row = next(line for line in said.splitlines() if line.startswith("| published | supervised | 2 | 1 |"))
    assert f"| {100 * score:.2f} |" in row
    assert "cpu, float32" in row
    assert "| strong | supervised | 2 | 1 |" in said
    speed = json.loads((work / "results" / "speed.json").read_text(encoding="utf-8"))
    assert set(speed) == {"supervised, eager, bf16", "supervised, eager, fp32"}
    assert all(found["iterations_per_second"] > 0 and found["peak_memory_bytes"] > 0 for found in speed.values())
    assert (work / "results" / "gpu.md").read_text(encoding="utf-8") in said


def test_the_next_call_measures_nothing_again(measured):
    work, _ = measured
    before = {file: file.read_bytes() for file in (work / "results").rglob("*.json")}
    again = run(work, speed=["supervised"])
    assert again.returncode == 0, again.stderr
    assert "measured already" in again.stdout
    assert "speed:" not in again.stdout
    assert {file: file.read_bytes() for file in (work / "results").rglob("*.json")} == before


def test_when_time_is_up_the_training_can_go_on(parts, tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell; children inherit it
    try:
        result = run(tmp_path, packs=parts, minutes=0.2, iterations=1_000_000)
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.returncode == 3, result.stderr
    assert "time is up" in result.stdout
    trained = RunFolder(tmp_path / "runs" / "published" / "left-atrium-supervised-2-seed1-paper")
    assert trained.status().state in ("stopped", "new")  # new: the training had not begun
    assert not trained.status().active


def test_an_annotated_scan_that_is_in_no_pack_is_missed(parts, tmp_path):
    result = run(tmp_path, packs=parts[:1])
    assert result.returncode == 2
    assert "atrium_006" in result.stderr


def test_packages_come_along(tmp_path):
    site = tmp_path / "site"
    (site / "carried").mkdir(parents=True)
    (site / "carried" / "__init__.py").write_text("ANSWER = 42\n")
    assert gpu("pack", "--packages", site, "--out", tmp_path / "packages.tar").returncode == 0
    result = run(tmp_path / "work", packs=[tmp_path / "packages.tar"])
    assert result.returncode == 2
    assert "no scans are unpacked" in result.stderr
    path = {**os.environ, "PYTHONPATH": str(tmp_path / "work" / "packages")}
    subprocess.run([sys.executable, "-c", "import carried; assert carried.ANSWER == 42"], env=path, check=True)


@pytest.mark.parametrize("name", ["../outside.nii", "/outside.nii"])
def test_a_pack_writes_nowhere_else(tmp_path, name):
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    result = run(tmp_path / "work", packs=[tmp_path / "bad.tar"])
    assert result.returncode == 2
    assert "does not belong in a pack" in result.stderr
    assert not (tmp_path / "outside.nii").exists()


def test_a_pack_that_was_cut_short_is_named(parts, tmp_path):
    (tmp_path / "cut.tar").write_bytes(parts[0].read_bytes()[:-20_000])
    result = run(tmp_path / "work", packs=[tmp_path / "cut.tar"])
    assert result.returncode == 2
    assert "cut.tar" in result.stderr


def test_both_recipes_train_at_full_resolution(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu as script

    options = script.parser().parse_args(["run", "--work", "WORK", "--results", "RESULTS"])
    for recipe in RECIPES:
        wanted = list(script.cells(options, recipe, "splits.json:packed", options.methods))
        assert [(cell.labelled, cell.variant.method) for cell in wanted][:2] == [(8, "supervised"), (8, "simcvd")]
        for cell in wanted:
            settings = cell.settings()
            assert settings.recipe == recipe
            assert settings.data.spacing == (0.625, 0.625, 0.625)
            assert settings.training.patch_size == (112, 112, 80)
            assert settings.training.iterations == 6000
