"""Evaluation of folders of masks, through files and the command line."""

import csv
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from SemiSegLib.config import Label
from SemiSegLib.data.writing import write_mask
from SemiSegLib.evaluate import EvaluationError, evaluate, main
from SemiSegLib.metrics import METRICS, case_metrics

LABELS = {"right ventricle": 1, "myocardium": 2}


def masks(seed, shape=(14, 12, 10)):
    """Two blobs of 1 and 2, and a version of them with some voxels changed."""
    rng = np.random.default_rng(seed)
    reference = np.zeros(shape, dtype=np.uint8)
    reference[3:9, 3:9, 2:8] = 1
    reference[5:12, 5:8, 4:9] = 2
    prediction = np.where(rng.random(shape) < 0.03, rng.integers(0, 3, shape), reference).astype(np.uint8)
    return prediction, reference


def save(array, path, spacing=(1.0, 1.5, 2.0), origin=(5.0, -7.0, 9.0), labels=None):
    image = sitk.GetImageFromArray(array.T)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mask(image, path, labels)


@pytest.fixture
def folders(tmp_path):
    """Three cases; b lacks its prediction, d its reference."""
    for seed, name in enumerate(("a", "b", "c", "d")):
        prediction, reference = masks(seed)
        if name != "b":
            save(prediction, tmp_path / "predictions" / f"{name}.nii.gz")
        if name != "d":
            save(reference, tmp_path / "references" / f"{name}.nrrd")
    return tmp_path / "predictions", tmp_path / "references"


def test_scores_pairs_and_names_what_is_missing(folders):
    report = evaluate(*folders, labels=LABELS)
    assert list(report.cases) == ["a", "c"]
    assert report.missing_predictions == ["b"]
    assert report.missing_references == ["d"]
    assert report.cases["c"] == case_metrics(*masks(2), (1.0, 1.5, 2.0), LABELS)
    dices = [case["myocardium"]["dsc"] for case in report.cases.values()]
    assert report.summary["myocardium"]["dsc"]["mean"] == pytest.approx(np.mean(dices))
    assert report.messages == []


def test_text_shows_every_case_class_and_gap(folders):
    text = evaluate(*folders, labels=LABELS).text()
    for expected in ("a, right ventricle", "c, myocardium", "all classes", "2 cases scored", "±"):
        assert expected in text
    assert "No prediction for 1 cases, which are not in the means: b" in text
    assert "No reference for 1 cases, which are not in the means: d" in text


def test_values_of_the_references_are_the_classes_when_nothing_names_them(folders):
    assert evaluate(*folders).labels == {"label 1": 1, "label 2": 2}
    assert evaluate(*folders, ignore_value=2).labels == {"label 1": 1}


@pytest.mark.parametrize(
    ("file", "labels"),
    [
        ("labels.json", [{"name": "myocardium", "value": 2}, {"name": "right ventricle", "value": 1}]),
        ("dataset.json", {"background": 0, "myocardium": 2, "right ventricle": 1}),
        ("dataset.json", {"0": "background", "1": "right ventricle", "2": "myocardium"}),
    ],
)
@pytest.mark.parametrize("place", ["references", "predictions", "."])
def test_names_are_found_in_json_files(folders, file, labels, place):
    (folders[0].parent / place / file).write_text(json.dumps({"labels": labels}))
    assert evaluate(*folders).labels == LABELS


def test_segmentations_name_their_classes_and_names_beat_numbers(tmp_path):
    prediction, reference = masks(0)
    labels = [Label(1, "right ventricle", (1, 2, 3)), Label(2, "myocardium", (4, 5, 6))]
    save(reference, tmp_path / "r" / "a.seg.nrrd", labels=labels)
    swapped = np.array([0, 2, 1], dtype=np.uint8)[prediction]
    exchanged = [replace(labels[0], value=2), replace(labels[1], value=1)]
    save(swapped, tmp_path / "p" / "a.seg.nrrd", labels=exchanged)
    report = evaluate(tmp_path / "p", tmp_path / "r")
    assert report.labels == LABELS
    assert report.cases["a"] == case_metrics(prediction, reference, (1.0, 1.5, 2.0), LABELS)


def test_names_beside_the_masks_beat_numbers_on_either_side(tmp_path):
    """A model's numbers and those of a data set need not be the same."""
    reference = np.zeros((8, 8, 8), np.uint8)
    for value in (1, 2, 3):
        reference[2 * value] = value
    save(reference, tmp_path / "t" / "labels" / "a.nii.gz")
    save(np.array([0, 3, 2, 1], np.uint8)[reference], tmp_path / "p" / "a.nii.gz")
    ours = {"labels": [{"name": name, "value": value} for name, value in (("RV", 1), ("MYO", 2), ("LV", 3))]}
    (tmp_path / "p" / "labels.json").write_text(json.dumps(ours))
    theirs = tmp_path / "t" / "dataset.json"
    theirs.write_text(json.dumps({"labels": {"background": 0, "LV": 1, "MYO": 2, "RV": 3}}))
    report = evaluate(tmp_path / "p", tmp_path / "t" / "labels")
    assert {name: scores["dsc"] for name, scores in report.cases["a"].items()} == {"LV": 1, "MYO": 1, "RV": 1}
    theirs.write_text(json.dumps({"labels": {"background": 0, "left ventricle": 1, "MYO": 2, "RV": 3}}))
    with pytest.raises(EvaluationError, match="hold LV, the references left ventricle: which class is which"):
        evaluate(tmp_path / "p", tmp_path / "t" / "labels")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [({"left atrium": 1}, {"LA": 1}), ({"right ventricle": 1, "myocardium": 2}, {"RV": 1, "myocardium": 2})],
)
def test_names_of_another_vocabulary_with_the_same_numbers_are_compared_by_number(tmp_path, ours, theirs):
    _, reference = masks(0)
    reference = np.where(reference <= len(ours), reference, 0).astype(np.uint8)
    for folder, labels in (("p", ours), ("r", theirs)):
        save(reference, tmp_path / folder / "a.nii.gz")
        (tmp_path / folder / "labels.json").write_text(json.dumps({"labels": labels}))
    report = evaluate(tmp_path / "p", tmp_path / "r")
    assert {name: scores["dsc"] for name, scores in report.cases["a"].items()} == dict.fromkeys(theirs, 1)
    (message,) = report.messages
    assert message.endswith("; classes of the same number are compared")


def test_prediction_on_another_grid_is_brought_over_and_reported(tmp_path):
    prediction, reference = masks(0)
    save(reference, tmp_path / "r" / "a.nii.gz")
    cropped, origin = prediction[1:, 1:], (6.0, -5.5, 9.0)  # one voxel later along x and y
    save(cropped, tmp_path / "p" / "a.nii.gz", origin=origin)
    report = evaluate(tmp_path / "p", tmp_path / "r", LABELS)
    prediction[0] = prediction[:, 0] = 0
    assert report.cases["a"] == case_metrics(prediction, reference, (1.0, 1.5, 2.0), LABELS)
    assert "brought onto the grid" in report.messages[0]
    assert "13 x 11 x 10" in report.messages[0]


def test_predictions_that_cannot_be_compared_are_named_and_the_others_scored(tmp_path, capsys):
    prediction, reference = masks(0)
    for name in "abc":
        save(reference, tmp_path / "r" / f"{name}.nii.gz")
        save(prediction, tmp_path / "p" / f"{name}.nii.gz", origin=(500.0, 0.0, 0.0) if name == "a" else (5, -7, 9))
    (tmp_path / "p" / "b.nii.gz").write_bytes(b"nothing")
    command = ["--predictions", str(tmp_path / "p"), "--references", str(tmp_path / "r")]
    assert main([*command, "--output", str(tmp_path / "scores.json")]) == 3
    said = capsys.readouterr()
    assert "2 cases could not be scored" in said.out
    assert f"error: mask and reference do not overlap. Mask {tmp_path / 'p' / 'a.nii.gz'}" in said.err
    assert f"Reference {tmp_path / 'r' / 'a.nii.gz'}" in said.err
    written = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert list(written["cases"]) == ["c"]
    assert list(written["failures"]) == ["a", "b"]
    (tmp_path / "p" / "c.nii.gz").unlink()
    assert main(command) == 2
    assert "a.nii.gz" in capsys.readouterr().err


@pytest.mark.parametrize("side", ["p", "r"])
def test_the_first_mask_may_be_unreadable(side, tmp_path, capsys):
    """Whose classes nothing names, so that they are looked for in the masks themselves."""
    prediction, reference = masks(0)
    for name in "ab":
        save(reference, tmp_path / "r" / f"{name}.nii.gz")
        save(prediction, tmp_path / "p" / f"{name}.nii.gz")
    (tmp_path / side / "a.nii.gz").write_bytes(b"nothing")
    command = ["--predictions", str(tmp_path / "p"), "--references", str(tmp_path / "r")]
    assert main([*command, "--output", str(tmp_path / "scores.json")]) == 3
    written = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert list(written["cases"]) == ["b"]
    assert list(written["failures"]) == ["a"]
    (tmp_path / side / "b.nii.gz").write_bytes(b"nothing")
    capsys.readouterr()
    assert main(command) == 2
    assert f"{tmp_path / side / 'a.nii.gz'}: not a readable NIfTI file" in capsys.readouterr().err


def test_a_reference_that_nobody_annotated_says_nothing_of_a_prediction(tmp_path):
    prediction, reference = masks(0)
    for folder, mask in (("p", prediction), ("r", reference)):
        save(mask, tmp_path / folder / "known.nii.gz")
    save(prediction, tmp_path / "p" / "unknown.nii.gz")
    save(np.full_like(reference, 255), tmp_path / "r" / "unknown.nii.gz")
    report = evaluate(tmp_path / "p", tmp_path / "r", LABELS)
    assert list(report.cases) == ["known"]
    assert report.messages[0].startswith("unknown: its reference holds 255 alone")
    (tmp_path / "r" / "known.nii.gz").unlink()
    with pytest.raises(EvaluationError, match="references of unknown hold 255 alone"):
        evaluate(tmp_path / "p", tmp_path / "r", LABELS)


def test_ignored_voxels_and_foreign_values(tmp_path):
    prediction, reference = masks(0)
    reference[:, :, 5:] = 255
    save(reference, tmp_path / "r" / "a.nii.gz")
    save(prediction, tmp_path / "p" / "a.nii.gz")
    ignored = evaluate(tmp_path / "p", tmp_path / "r", LABELS, ignore_value=255)
    assert ignored.cases["a"] == case_metrics(prediction, reference, (1.0, 1.5, 2.0), LABELS, 255)
    assert ignored.messages == []
    counted = evaluate(tmp_path / "p", tmp_path / "r", LABELS, ignore_value=None)
    assert "255 belong to no class" in counted.messages[0]
    assert counted.cases["a"]["myocardium"]["dsc"] < ignored.cases["a"]["myocardium"]["dsc"]


def test_a_data_folder_serves_as_references(tmp_path):
    """The atrial challenge's own layout, where the mask's value is 255."""
    _, reference = masks(0)
    save((reference == 1).astype(np.uint8) * 255, tmp_path / "data" / "CASE1" / "laendo.nrrd")
    save(reference, tmp_path / "data" / "CASE1" / "lgemri.nrrd")
    save((reference == 1).astype(np.uint8), tmp_path / "p" / "CASE1.nii.gz")
    report = evaluate(tmp_path / "p", tmp_path / "data")
    assert report.cases["CASE1"]["left atrium"]["dsc"] == 1


def test_empty_prediction_is_undefined_or_zero_as_in_the_literature(tmp_path):
    _, reference = masks(0)
    save(reference, tmp_path / "r" / "a.nii.gz")
    save(np.zeros_like(reference), tmp_path / "p" / "a.nii.gz")
    report = evaluate(tmp_path / "p", tmp_path / "r", LABELS)
    assert math.isnan(report.cases["a"]["myocardium"]["hd95_mm"])
    assert report.summary["myocardium"]["hd95_mm"]["undefined"] == 1
    assert "1 undefined" in report.text()
    literature = evaluate(tmp_path / "p", tmp_path / "r", LABELS, literature=True)
    assert set(literature.cases["a"]["myocardium"].values()) == {0.0}


def test_command_writes_json_and_csv(folders, tmp_path, capsys):
    arguments = ["--predictions", str(folders[0]), "--references", str(folders[1])]
    files = ["--output", str(tmp_path / "out" / "report.json"), "--csv", str(tmp_path / "out" / "scores.csv")]
    assert main([*arguments, *files]) == 0
    assert "a, label 1" in capsys.readouterr().out
    report = evaluate(*folders)
    written = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert written["cases"] == report.cases
    assert written["summary"] == report.summary
    assert written["missing_predictions"] == ["b"]
    with (tmp_path / "out" / "scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["case"], row["class"]) for row in rows] == [
        (case, name) for case in ("a", "c") for name in ("label 1", "label 2")
    ]
    assert float(rows[0]["assd_mm"]) == report.cases["a"]["label 1"]["assd_mm"]
    assert list(rows[0]) == ["case", "class", *METRICS]


def test_undefined_values_are_null_in_json_and_empty_in_csv(tmp_path):
    _, reference = masks(0)
    save(reference, tmp_path / "r" / "a.nii.gz")
    save(np.zeros_like(reference), tmp_path / "p" / "a.nii.gz")
    arguments = ["--predictions", str(tmp_path / "p"), "--references", str(tmp_path / "r")]
    assert main([*arguments, "--output", str(tmp_path / "x.json"), "--csv", str(tmp_path / "x.csv")]) == 0
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["cases"]["a"]["label 1"]["hd95_mm"] is None
    assert (tmp_path / "x.csv").read_text(encoding="utf-8").splitlines()[1] == "a,label 1,0.0,0.0,,,,"


def test_wrong_input_ends_with_one_line_and_code_2(folders, tmp_path, capsys):
    assert main(["--predictions", str(tmp_path / "nowhere"), "--references", str(folders[1])]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "nowhere" in error
    assert error.count("\n") == 1


def test_nothing_in_common_and_doubled_names_are_refused(folders, tmp_path):
    save(masks(0)[0], tmp_path / "other" / "z.nii.gz")
    with pytest.raises(EvaluationError, match="matched by file name"):
        evaluate(tmp_path / "other", folders[1])
    save(masks(0)[0], folders[0] / "a.nrrd")
    with pytest.raises(EvaluationError, match="two masks have the name 'a'"):
        evaluate(*folders)


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom SemiSegLib.evaluate import parser\nparser().format_help()\n"
        "heavy = {'numpy', 'scipy', 'SimpleITK', 'nibabel', 'matplotlib', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_evaluation_never_imports_torch(folders):
    code = (
        "import sys\nfrom pathlib import Path\nfrom SemiSegLib.evaluate import evaluate\n"
        "evaluate(Path(sys.argv[1]), Path(sys.argv[2])).text()\nassert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code, *map(str, folders)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])


def test_voxels_nobody_annotated_are_left_out_unless_told(tmp_path):
    """The task's value for them, 255, is no class: a perfect mask of what was annotated scores 100 %."""
    _, reference = masks(0)
    prediction = reference.copy()
    reference[:, :, 5:] = 255
    save(reference, tmp_path / "r" / "a.nii.gz")
    save(prediction, tmp_path / "p" / "a.nii.gz")
    report = evaluate(tmp_path / "p", tmp_path / "r")
    assert report.labels == {"label 1": 1, "label 2": 2}
    assert report.ignore_value == 255
    assert [part["dsc"]["mean"] for part in report.summary.values()] == [1, 1, 1]
    assert evaluate(tmp_path / "p", tmp_path / "r", ignore_value=None).labels == report.labels | {"label 255": 255}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("labels.json", {"labels": [{"name": "right ventricle", "value": 1}], "ignore_value": 9}),
        ("dataset.json", {"labels": {"background": 0, "right ventricle": 1, "ignore": 9}}),
    ],
)
def test_the_task_says_which_value_marks_voxels_nobody_annotated(tmp_path, file, content):
    _, reference = masks(0)
    reference[reference == 2] = 0
    prediction = reference.copy()
    reference[:, :, 5:] = 9
    save(reference, tmp_path / "r" / "a.nii.gz")
    save(prediction, tmp_path / "p" / "a.nii.gz")
    (tmp_path / "p" / file).write_text(json.dumps(content))
    report = evaluate(tmp_path / "p", tmp_path / "r")
    assert report.ignore_value == 9
    assert report.cases["a"]["right ventricle"]["dsc"] == 1


def test_the_references_say_what_they_mark_so_and_the_predictions_only_where_they_do_not(tmp_path):
    """Ours say 255 of the masks that trained them; nnU-Net's masks beside their dataset.json have a value of their own,
    as have a whole data set's."""
    _, reference = masks(0)
    reference[reference == 2] = 0
    prediction = reference.copy()
    reference[:, :, 5:] = 9
    root = tmp_path / "nnunet"
    save(reference, root / "labelsTr" / "a.nii.gz")
    save(reference, root / "imagesTr" / "a_0000.nii.gz")
    save(prediction, tmp_path / "p" / "a.nii.gz")
    labels = {"background": 0, "right ventricle": 1, "ignore": 9}
    (root / "dataset.json").write_text(json.dumps({"labels": labels, "channel_names": {"0": "MR"}}))
    for ours in (None, {"labels": [{"name": "right ventricle", "value": 1}], "ignore_value": 255}):
        if ours:
            (tmp_path / "p" / "labels.json").write_text(json.dumps(ours))
        for folder in (root, root / "labelsTr"):
            report = evaluate(tmp_path / "p", folder)
            assert report.cases["a"]["right ventricle"]["dsc"] == 1
            assert not report.messages
    for folder in (root, root / "labelsTr"):
        assert evaluate(tmp_path / "p", folder, ignore_value=9).cases["a"]["right ventricle"]["dsc"] == 1


def test_a_named_class_may_have_the_value_255(tmp_path):
    _, reference = masks(0)
    reference[reference > 0] = 255
    save(reference, tmp_path / "r" / "a.nii.gz")
    save(reference, tmp_path / "p" / "a.nii.gz")
    report = evaluate(tmp_path / "p", tmp_path / "r", {"left atrium": 255})
    assert report.ignore_value is None
    assert report.cases["a"]["left atrium"]["dsc"] == 1
    with pytest.raises(EvaluationError, match=r"255.*--ignore-value none"):
        evaluate(tmp_path / "p", tmp_path / "r")


@pytest.mark.parametrize(("text", "classes"), [("none", 3), ("255", 2), ("2", 2)])
def test_the_command_takes_another_value_or_none(tmp_path, text, classes):
    _, reference = masks(0)
    reference[:, :, 7:] = 255
    save(reference, tmp_path / "r" / "a.nii.gz")
    save(reference, tmp_path / "p" / "a.nii.gz")
    arguments = ["--predictions", str(tmp_path / "p"), "--references", str(tmp_path / "r")]
    assert main([*arguments, "--output", str(tmp_path / "x.json"), "--ignore-value", text]) == 0
    assert len(json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["labels"]) == classes


def test_a_value_that_is_no_number_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--predictions", str(tmp_path), "--references", str(tmp_path), "--ignore-value", "nothing"])
    assert "a number or none" in capsys.readouterr().err


def test_segments_that_are_no_class_are_never_taken_for_one_by_their_number(tmp_path):
    """One file calls its first segment by a class's name, the other calls it something else."""
    array = np.zeros((8, 8, 8), np.uint8)
    array[:4], array[4:6] = 1, 2
    names = [Label(1, "left atrium", (1, 2, 3)), Label(2, "tumour", (4, 5, 6))]
    save(array, tmp_path / "p" / "a.seg.nrrd", labels=names)
    swapped = [Label(1, "vein", (1, 2, 3)), Label(2, "left atrium", (4, 5, 6))]
    save(np.array([0, 2, 1], np.uint8)[array], tmp_path / "r" / "a.seg.nrrd", labels=swapped)
    report = evaluate(tmp_path / "p", tmp_path / "r", {"left atrium": 1})
    assert report.cases["a"]["left atrium"]["dsc"] == 1
    assert [text.split(": ")[1] for text in report.messages] == [
        "tumour belongs to no class and counts as background",
        "vein belongs to no class and counts as background",
    ]


def test_classes_are_those_that_any_reference_names(tmp_path):
    first = [Label(1, "left ventricle", (1, 2, 3))]
    both = [Label(1, "right ventricle", (1, 2, 3)), Label(2, "left ventricle", (4, 5, 6))]
    array = np.zeros((8, 8, 8), np.uint8)
    array[:4] = 1
    two = array.copy()
    two[4:6] = 2
    for folder in "pr":
        save(array, tmp_path / folder / "a.seg.nrrd", labels=first)
        save(two, tmp_path / folder / "b.seg.nrrd", labels=both)
    report = evaluate(tmp_path / "p", tmp_path / "r")
    assert report.labels == {"left ventricle": 1, "right ventricle": 2}
    assert report.messages == []
    assert {name: scores["dsc"] for name, scores in report.cases["b"].items()} == dict.fromkeys(report.labels, 1)


def test_scans_with_their_segmentations_beside_them_serve_as_references(tmp_path):
    """A scan and a mask of one name are no two masks; the mask is compared on the scan's grid."""
    prediction, reference = masks(0)
    data, labels = tmp_path / "data", [Label(1, "cavity", (1, 2, 3)), Label(2, "wall", (4, 5, 6))]
    for name in "ab":
        save(reference.astype(np.int16) * 100, data / f"{name}.nrrd")
        save(prediction, tmp_path / "p" / f"{name}.nii.gz")
    save(reference, data / "a.seg.nrrd", labels=labels)
    report = evaluate(tmp_path / "p", data)
    assert list(report.cases) == ["a"]
    assert report.labels == {"cavity": 1, "wall": 2}
    assert report.cases["a"] == case_metrics(prediction, reference, (1.0, 1.5, 2.0), report.labels)
