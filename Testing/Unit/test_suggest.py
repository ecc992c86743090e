"""Suggestions for real runs and folders, as files and lines for programs."""

import json
import shutil

import pytest
import SimpleITK as sitk

from SemiSegLib.data.images import read_geometry
from SemiSegLib.runs import read_json
from SemiSegLib.suggest import main
from SemiSegLib.train import train


@pytest.fixture(scope="module")
def run(tiny_data, tiny_settings, tmp_path_factory):
    """A training of two iterations: its model knows little, but it is one."""
    out = tmp_path_factory.mktemp("suggest") / "run"
    settings = tiny_settings("supervised", **{"training.iterations": 2})
    return train(tiny_data, out, settings, f"{tiny_data / 'splits.json'}:demo", quiet=True).path


def test_a_run_s_unlabelled_scans_are_suggested_with_slices(run, tmp_path, capsys):
    command = ["--run", str(run), "--budget", "2", "--slices", "3", "--axis", "2", "--device", "cpu", "--json-progress"]
    assert main([*command, "--output", str(tmp_path / "s.json")]) == 0
    content = read_json(tmp_path / "s.json")
    assert content["strategy"] == "foreground-random"
    unlabelled = {case["name"] for case in read_json(run / "cases.json")["unlabelled"]}
    names = [entry["name"] for entry in content["suggestions"]]
    assert len(set(names)) == 2
    assert set(names) <= unlabelled
    for entry in content["suggestions"]:
        assert 0 <= entry["uncertainty"] <= 1
        places = [place["index"] for place in entry["slices"]]
        assert len(set(places)) == 3
        assert all(place["axis"] == 2 and 0 <= place["index"] < 16 for place in entry["slices"])
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["event"] == "suggested"
    assert last["suggestions"] == content["suggestions"]


def test_scans_are_suggested_before_there_is_a_model(tiny_data, capsys):
    assert main(["--data", str(tiny_data), "--budget", "2", "--slices", "2", "--json-progress"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["strategy"] == "cold-start"
    for entry in content["suggestions"]:
        assert not (tiny_data / "labels" / f"{entry['name']}.nii.gz").exists()
        geometry = read_geometry(tiny_data / "images" / f"{entry['name']}.nii.gz")
        axis = entry["slices"][0]["axis"]
        assert geometry.spacing[axis] == max(geometry.spacing)
        assert entry["slices"][0]["index"] in range(geometry.size[axis] // 4, 3 * geometry.size[axis] // 4 + 1)


def test_scans_as_they_are_now_are_looked_at_with_a_model(run, tiny_data, tmp_path, capsys):
    """A mask that came after the training is not asked for again, and a scan that it never saw is suggested."""
    late, drawn = read_json(run / "cases.json")["unlabelled"][:2]
    folder = tmp_path / "now"
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    shutil.copy(tiny_data / late["image"], folder / "images" / "late.nii.gz")
    shutil.copy(tiny_data / drawn["image"], folder / "images")
    mask = next(iter(sorted((tiny_data / "labels").iterdir())))
    shutil.copy(mask, folder / "labels" / f"{drawn['name']}.nii.gz")
    model = run / "models" / "last.safetensors"
    command = ["--run", str(model), "--data", str(folder), "--device", "cpu", "--json-progress"]
    assert main([*command, "--output", str(tmp_path / "s.json")]) == 0
    assert [entry["name"] for entry in read_json(tmp_path / "s.json")["suggestions"]] == ["late"]


@pytest.mark.parametrize("part", ["images", "labels"])
def test_a_bad_scan_or_mask_does_not_keep_the_others_from_being_suggested(part, run, tiny_data, tmp_path, capsys):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    bad = sorted((data / part).iterdir())[0 if part == "labels" else 3]
    bad.write_bytes(b"nothing")
    command = ["--data", str(data), "--budget", "9", "--output", str(tmp_path / "s.json"), "--device", "cpu"]
    wanted = [f"atrium_00{number}" for number in (3, 4, 5)]
    for more in ([], ["--run", str(run)]):
        assert main([*command, *more]) == 0
        found = {entry["name"] for entry in read_json(tmp_path / "s.json")["suggestions"]}
        assert found == {name for name in wanted if part == "labels" or not bad.name.startswith(name)}
    shutil.rmtree(data / "labels")
    for file in (data / "images").iterdir():
        file.write_bytes(b"nothing")
    assert main(command) == 2
    assert "None of the scans without annotation can be used" in capsys.readouterr().err


def test_a_scan_of_one_intensity_is_not_asked_for(tiny_data, tmp_path, capsys, caplog):
    """It looks least like all others, and training refuses it."""
    data = shutil.copytree(tiny_data, tmp_path / "data")
    scan = data / "images" / "atrium_004.nii.gz"
    sitk.WriteImage(sitk.ReadImage(scan) * 0 + 7, scan)
    assert main(["--data", str(data), "--budget", "9", "--json-progress"]) == 0
    names = [entry["name"] for entry in json.loads(capsys.readouterr().out)["suggestions"]]
    assert sorted(names) == ["atrium_003", "atrium_005"]
    assert f"atrium_004 is left out: {scan}: all voxels have the same intensity" in caplog.text


def test_wrong_input_is_answered(run, tiny_data, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        ([], "--run RUN (a training), --data DIR"),
        (["--run", str(run), "--attached"], "--attached needs --output"),
        (["--run", str(run), "--budget", "0"], "at least one scan"),
        (["--run", str(tmp_path / "empty")], "not a run folder"),
        (["--run", str(run / "models" / "last.safetensors")], "add --data DIR"),
        (["--run", "left-atrium-lge"], "add --data DIR"),
        (["--data", str(tiny_data), "--strategy", "power"], "needs a model"),
        (["--data", str(tiny_data), "--strategy", "random", "--seed", "-1"], "--seed -1"),
    ):
        assert main([*arguments]) == 2
        assert words in capsys.readouterr().err
