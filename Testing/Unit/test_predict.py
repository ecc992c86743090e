"""Predictions as files: on the scan's own grid, in mm, with names, and never over somebody's work."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from SemiSegLib.config import Label
from SemiSegLib.data.box import Box
from SemiSegLib.data.images import read_mask
from SemiSegLib.errors import SemiSegError
from SemiSegLib.models import load_model, save_model
from SemiSegLib.networks import build_network
from SemiSegLib.predict import PredictionError, main, predict

GRIDS = {
    "oblique": ((40, 44, 36), (1.0, 0.9, 1.2), (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0)),
    "left-handed": ((40, 44, 36), (1.0, 0.9, 1.2), (-1, 0, 0, 0, 1, 0, 0, 0, 1)),
    "sagittal": ((36, 40, 44), (1.2, 1.0, 0.9), (0, 0, 1, 1, 0, 0, 0, -1, 0)),
    "thick slices": ((50, 50, 9), (0.8, 0.8, 5.0), (1, 0, 0, 0, 1, 0, 0, 0, 1)),
}


@pytest.fixture(scope="module")
def brightness_model(make_brightness_model, tmp_path_factory):
    return make_brightness_model(tmp_path_factory.mktemp("model") / "brightness.safetensors")


@pytest.fixture(params=GRIDS, ids=list(GRIDS))
def scan_and_mask(request, ball):
    return ball(*GRIDS[request.param])


@pytest.mark.parametrize("extension", ["nii.gz", "nrrd", "mha"])
def test_results_lie_on_the_scan_s_own_grid(scan_and_mask, extension, brightness_model, tmp_path):
    scan, mask = scan_and_mask
    source = tmp_path / "in" / f"scan.{extension}"
    source.parent.mkdir()
    sitk.WriteImage(scan, source)
    [done] = predict(brightness_model, source, tmp_path / "out", extension, sdm=True, probabilities=True, device="cpu")
    written = [done.mask, *(tmp_path / "out").glob(f"*/*.{extension}")]
    assert len(written) == 3
    for path in written:
        for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(sitk.ReadImage(path), get)() == getattr(sitk.ReadImage(source), get)()
        if extension == "nii.gz":
            assert np.array_equal(nibabel.load(path).affine, nibabel.load(source).affine)
    found = sitk.GetArrayFromImage(sitk.ReadImage(done.mask))
    truth = sitk.GetArrayFromImage(mask)
    assert set(np.unique(found)) == {0, 4}
    assert 2 * ((found == 4) & (truth == 1)).sum() / ((found == 4).sum() + truth.sum()) > 0.9
    assert done.volumes_ml["Ball of Light"] == pytest.approx((found == 4).sum() * np.prod(scan.GetSpacing()) / 1000)


def test_distance_maps_are_exact_mm_and_probabilities_agree_with_the_mask(ball, brightness_model, tmp_path):
    scan, _ = ball(*GRIDS["oblique"])
    sitk.WriteImage(scan, tmp_path / "scan.nrrd")
    [done] = predict(brightness_model, tmp_path / "scan.nrrd", tmp_path / "out", "nrrd", True, True, "cpu")
    inside = sitk.GetArrayFromImage(sitk.ReadImage(done.mask)) == 4
    sdm = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "out" / "sdm" / "scan_Ball_of_Light.nrrd"))
    spacing = scan.GetSpacing()[::-1]
    outside_mm = ndimage.distance_transform_edt(~inside, spacing)
    inside_mm = ndimage.distance_transform_edt(inside, spacing)
    np.testing.assert_allclose(sdm[~inside], outside_mm[~inside], rtol=1e-5)
    deep = inside_mm > 1.3
    np.testing.assert_allclose(sdm[deep], -inside_mm[deep], rtol=1e-5)
    probability = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "out" / "probabilities" / "scan_Ball_of_Light.nrrd"))
    assert probability.min() >= 0
    assert probability.max() <= 1
    assert np.array_equal(probability > 0.5, inside)


@pytest.mark.parametrize("overrides", [{}, {"data.spacing": "2,2,2", "training.patch_size": "32,16,16"}])
def test_a_part_is_predicted_as_it_is_in_the_whole_scan(scan_and_mask, overrides, make_brightness_model, tmp_path):
    """What the brightness of a voxel says depends on the whole scan, not on the part; so do its place and its mask."""
    model = make_brightness_model(tmp_path / "model.safetensors", **overrides)
    scan, _ = scan_and_mask
    i, j, k = (side // 2 for side in scan.GetSize())
    box = Box((0, j, k - 2), (i, 1, 5))  # one voxel along j: a slice
    sitk.WriteImage(scan, tmp_path / "scan.nii.gz")
    command = ["--model", str(model), "--input", str(tmp_path / "scan.nii.gz"), "--device", "cpu", "--probabilities"]
    command += ["--format", "seg.nrrd"]
    assert main([*command, "--output", str(tmp_path / "whole")]) == 0
    assert main([*command, "--output", str(tmp_path / "part"), "--box", f"0,{j},{k - 2},{i},1,5"]) == 0
    for name in ("scan.seg.nrrd", "probabilities/scan_Ball_of_Light.nrrd"):
        whole, part = (sitk.ReadImage(tmp_path / folder / name) for folder in ("whole", "part"))
        expected = box.of(whole)
        np.testing.assert_allclose(sitk.GetArrayFromImage(part), sitk.GetArrayFromImage(expected), atol=1e-5)
        for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(part, get)(), getattr(expected, get)(), atol=1e-4)
    found = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "part" / "scan.seg.nrrd"))
    assert set(np.unique(found)) == {0, 4}


def test_what_the_network_sees_of_a_part_has_the_size_that_it_learnt_from():
    grid = sitk.Image(100, 40, 30, sitk.sitkFloat32)
    scan = sitk.Image(50, 20, 30, sitk.sitkFloat32)  # voxels of double size along x and y
    scan.SetSpacing((2, 2, 1))
    seen = Box((20, 0, 29), (5, 5, 1)).on(grid, scan, (32, 32, 16))
    assert seen.start == (24, 0, 14)  # at the border more of the other side is seen
    assert seen.size == (41, 32, 16)
    assert Box((0, 0, 0), (50, 20, 30)).on(grid, scan, (32, 32, 64)) == Box((0, 0, 0), (100, 40, 30))


@pytest.mark.parametrize(
    ("box", "code", "words"),
    [("1,2,3", 2, "six whole numbers"), ("0,0,0,4,0,4", 2, "a voxel at least"), ("30,0,0,20,4,4", 3, "reaches beyond")],
)
def test_a_box_that_there_is_not_is_named(box, code, words, ball, brightness_model, tmp_path, capsys):
    sitk.WriteImage(ball((32, 32, 32), (1, 1, 1))[0], tmp_path / "scan.nii.gz")
    command = ["--model", str(brightness_model), "--input", str(tmp_path / "scan.nii.gz"), "--device", "cpu"]
    assert main([*command, "--output", str(tmp_path / "out"), "--box", box]) == code
    assert words in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_segmentations_carry_names_and_colours(ball, brightness_model, tmp_path):
    scan, _ = ball(*GRIDS["oblique"])
    sitk.WriteImage(scan, tmp_path / "scan.nii.gz")
    command = ["--model", str(brightness_model), "--input", str(tmp_path / "scan.nii.gz"), "--device", "cpu"]
    assert main([*command, "--output", str(tmp_path / "out"), "--format", "seg.nrrd"]) == 0
    [label] = read_mask(tmp_path / "out" / "scan.seg.nrrd").labels
    assert (label.value, label.name, label.color) == (4, "Ball of Light", (10, 200, 30))
    assert (
        json.loads((tmp_path / "out" / "labels.json").read_text(encoding="utf-8"))["labels"][0]["name"]
        == "Ball of Light"
    )


def test_a_model_trained_in_fp16_predicts_on_a_cpu(ball, make_brightness_model, tmp_path):
    model = make_brightness_model(tmp_path / "model.safetensors", **{"training.precision": "fp16"})
    sitk.WriteImage(ball((32, 32, 32), (1, 1, 1))[0], tmp_path / "scan.nii.gz")
    [done] = predict(model, tmp_path / "scan.nii.gz", tmp_path / "out", device="cpu")
    assert done.volumes_ml["Ball of Light"] > 1


def test_a_folder_is_predicted_and_nothing_is_overwritten(ball, brightness_model, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for index in range(2):
        sitk.WriteImage(ball((32, 32, 32), (1, 1, 1), radius=8 + index)[0], tmp_path / "in" / f"scan{index}.nii.gz")
    command = ["--model", str(brightness_model), "--input", str(tmp_path / "in"), "--device", "cpu"]
    command += ["--output", str(tmp_path / "out"), "--json-progress"]
    assert main(command) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["index"], line["count"], line["name"]) for line in lines] == [(1, 2, "scan0"), (2, 2, "scan1")]
    before = (tmp_path / "out" / "scan0.nii.gz").stat().st_mtime_ns
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "out" / "scan0.nii.gz").stat().st_mtime_ns == before
    assert main([*command, "--overwrite"]) == 0


@pytest.fixture
def one_broken(ball, tmp_path):
    """A folder of four scans, of which one is no image and one holds nothing but a single intensity."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abcd":
        sitk.WriteImage(ball((32, 32, 32), (1, 1, 1), radius=9)[0], folder / f"{name}.nii.gz")
    (folder / "b.nii.gz").write_bytes(b"nothing")
    sitk.WriteImage(sitk.Image([32, 32, 32], sitk.sitkFloat32), folder / "c.nii.gz")
    return folder


@pytest.fixture
def two_balls(ball, tmp_path):
    """A folder of two scans."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, radius in (("a", 8), ("b", 10)):
        sitk.WriteImage(ball((32, 32, 32), (1, 1, 1), radius=radius)[0], folder / f"{name}.nii.gz")
    return folder


def test_bad_scans_do_not_keep_the_others_from_being_predicted(one_broken, brightness_model, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["--model", str(brightness_model), "--input", str(one_broken), "--output", str(out), "--device", "cpu"]
    assert main([*command, "--json-progress"]) == 3
    found = capsys.readouterr()
    lines = [json.loads(line) for line in found.out.splitlines()]
    assert [(line["event"], line["index"], line["count"], line["name"]) for line in lines[:4]] == [
        ("case", 1, 4, "a"),
        ("failed", 2, 4, "b"),
        ("failed", 3, 4, "c"),
        ("case", 4, 4, "d"),
    ]
    assert "b.nii.gz" in lines[1]["message"]
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["a.nii.gz", "d.nii.gz"]
    last = found.err.strip().splitlines()[-3:]
    assert last[0] == "error: 2 of 4 scans could not be predicted; the others are done:"
    assert "b.nii.gz" in last[1]
    assert "c.nii.gz" in last[2]


def test_a_program_that_predicts_learns_of_bad_scans_at_the_end(one_broken, brightness_model, tmp_path):
    done = []
    with pytest.raises(PredictionError, match=r"(?s)2 of 4 scans.*b\.nii\.gz") as caught:
        done += (case.name for case in predict(brightness_model, one_broken, tmp_path / "out", device="cpu"))
    assert done == ["a", "d"]
    assert list(caught.value.failures) == ["b", "c"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["a.nii.gz", "d.nii.gz"]


def test_an_interrupted_folder_is_finished_with_skip_existing(one_broken, brightness_model, ball, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["--model", str(brightness_model), "--input", str(one_broken), "--output", str(out), "--device", "cpu"]
    assert main(command) == 3
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    for name in "bc":
        sitk.WriteImage(ball((32, 32, 32), (1, 1, 1), radius=9)[0], one_broken / f"{name}.nii.gz")
    assert main(command) == 2
    assert "--skip-existing" in capsys.readouterr().err
    assert main([*command, "--skip-existing"]) == 0
    assert "1/2" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(out.glob("*.nii.gz"))) == 4
    assert main([*command, "--skip-existing"]) == 0
    assert "nothing is left to do" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*command, "--skip-existing", "--overwrite"])


def test_a_mask_of_another_patient_is_not_taken_for_this_one_s(ball, brightness_model, tmp_path, capsys):
    """Both scans have one name, as exports of a scanner do; only the first patient's had been predicted."""
    scans = [tmp_path / patient / "scan.nii.gz" for patient in ("one", "other")]
    for radius, scan in enumerate(scans, start=8):
        scan.parent.mkdir()
        sitk.WriteImage(ball((32, 32, 32), (1, 1, 1), radius=radius)[0], scan)
    out = tmp_path / "out"
    command = ["--model", str(brightness_model), "--output", str(out), "--device", "cpu", "--input"]
    assert main([*command, str(scans[0])]) == 0
    before = (out / "scan.nii.gz").read_bytes()
    assert main([*command, str(scans[0]), "--skip-existing"]) == 0
    assert main([*command, str(scans[1]), "--skip-existing"]) == 2
    assert f"is the mask of another scan than {scans[1]}" in capsys.readouterr().err
    assert (out / "scan.nii.gz").read_bytes() == before
    assert main([*command, str(scans[1]), "--overwrite"]) == 0
    assert main([*command, str(scans[1]), "--skip-existing"]) == 0
    assert main([*command, str(scans[0]), "--skip-existing"]) == 2


def test_the_task_s_value_for_voxels_nobody_annotated_goes_along(ball, brightness_model, tmp_path):
    sitk.WriteImage(ball((32, 32, 32), (1, 1, 1), radius=9)[0], tmp_path / "scan.nii.gz")
    list(predict(brightness_model, tmp_path / "scan.nii.gz", tmp_path / "out", device="cpu"))
    assert json.loads((tmp_path / "out" / "labels.json").read_text(encoding="utf-8"))["ignore_value"] == 255


@pytest.mark.parametrize(
    ("model", "source", "part", "code"),
    [
        ("absent.safetensors", "broken.nii.gz", "absent.safetensors", 2),
        (None, "absent", "absent", 2),
        (None, "broken.nii.gz", "broken", 3),
    ],
)
def test_wrong_input_is_named(model, source, part, code, brightness_model, tmp_path, capsys):
    (tmp_path / "broken.nii.gz").write_bytes(b"nothing")
    command = ["--model", str(tmp_path / model if model else brightness_model), "--input", str(tmp_path / source)]
    assert main([*command, "--output", str(tmp_path / "out"), "--device", "cpu"]) == code
    assert part in capsys.readouterr().err


def test_real_scans(shared_data, brightness_model, tmp_path):
    """A real CT and a real LGE-MRI: geometry to the bit."""
    for source in (shared_data / "ct" / "example_ct_sm.nii.gz", next((shared_data / "la" / "images").iterdir())):
        [done] = predict(brightness_model, source, tmp_path / "out", device="cpu", sdm=True)
        ours, theirs = nibabel.load(done.mask), nibabel.load(source)
        assert np.array_equal(ours.affine, theirs.affine)
        assert ours.shape == theirs.shape
        assert ours.header["sform_code"] == theirs.header["sform_code"]
        assert ours.header["qform_code"] == theirs.header["qform_code"]


def test_scans_are_never_replaced_by_their_masks(ball, brightness_model, tmp_path, capsys):
    scan = tmp_path / "scan.nii.gz"
    sitk.WriteImage(ball((32, 32, 32), (1, 1, 1), radius=9)[0], scan)
    before = scan.read_bytes()
    command = ["--model", str(brightness_model), "--input", str(tmp_path), "--output", str(tmp_path)]
    for existing in ("--overwrite", "--skip-existing"):
        assert main([*command, "--device", "cpu", existing]) == 2
        assert "would replace the scans" in capsys.readouterr().err
    assert scan.read_bytes() == before
    assert list(tmp_path.iterdir()) == [scan]


def test_masks_of_another_task_keep_their_names(ball, brightness_model, make_brightness_model, tmp_path, capsys):
    """labels.json says what the masks beside it mean, also those that a model of other labels left there."""
    other = make_brightness_model(tmp_path / "other.safetensors", **{"data.labels": [Label(1, "vein", (1, 2, 3))]})
    scan, out = tmp_path / "scan.nii.gz", tmp_path / "out"
    sitk.WriteImage(ball((32, 32, 32), (1, 1, 1), radius=9)[0], scan)
    command = ["--input", str(scan), "--output", str(out), "--device", "cpu"]
    assert main(["--model", str(brightness_model), *command]) == 0
    before = (out / "labels.json").read_bytes()
    assert main(["--model", str(other), *command, "--skip-existing"]) == 2
    assert "scan.nii.gz is a mask with other labels" in capsys.readouterr().err
    assert (out / "labels.json").read_bytes() == before
    assert main(["--model", str(other), *command, "--overwrite"]) == 0
    assert b"vein" in (out / "labels.json").read_bytes()


def test_labels_may_have_names_that_no_file_can_have(ball, make_brightness_model, tmp_path):
    labels = {"data.labels": [Label(4, "LV/RV: blood?", (1, 2, 3))]}
    model = make_brightness_model(tmp_path / "model.safetensors", **labels)
    sitk.WriteImage(ball((32, 32, 32), (1, 1, 1), radius=9)[0], tmp_path / "scan.nii.gz")
    list(predict(model, tmp_path / "scan.nii.gz", tmp_path / "out", sdm=True, device="cpu"))
    assert [path.name for path in (tmp_path / "out" / "sdm").iterdir()] == ["scan_LV_RV__blood_.nii.gz"]


def test_a_folder_is_not_finished_by_another_model(
    one_broken, brightness_model, make_brightness_model, tmp_path, capsys
):
    """Half of the masks would be of one model, half of another, and nobody could tell."""
    other = make_brightness_model(tmp_path / "other.safetensors", offset=1)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(Path(brightness_model).read_bytes())
    command = ["--input", str(one_broken), "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["--model", str(brightness_model), *command]) == 3
    for model, more, word in ((other, [], "this model"), (brightness_model, ["--stride", "9,9,9"], "these settings")):
        capsys.readouterr()
        assert main(["--model", str(model), *command, *more, "--skip-existing"]) == 2
        assert f"not made with {word}" in capsys.readouterr().err
    assert main(["--model", str(copy), *command, "--skip-existing"]) == 3
    assert main(["--model", str(other), *command, "--overwrite"]) == 3
    assert main(["--model", str(other), *command, "--skip-existing"]) == 3
    one = sorted(path for path in one_broken.iterdir() if (tmp_path / "out" / path.name).exists())[0]
    alone = ["--input", str(one), *command[2:], "--overwrite"]
    assert main(["--model", str(brightness_model), *alone]) == 0  # the others' masks are the other model's still
    for model in (brightness_model, other):
        assert main(["--model", str(model), *command, "--skip-existing"]) == 2
    assert main(["--model", str(other), *command, "--overwrite"]) == 3
    assert main(["--model", str(other), *command, "--skip-existing"]) == 3


def test_masks_of_the_model_before_are_made_anew_after_an_interruption(
    two_balls, brightness_model, make_brightness_model, tmp_path
):
    """Else they would be taken for the new model's, which model.json names."""
    other = make_brightness_model(tmp_path / "other.safetensors", offset=1)
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    list(predict(brightness_model, two_balls, out, device="cpu"))
    list(predict(other, two_balls, fresh, device="cpu"))
    earlier = (out / "b.nii.gz").read_bytes()
    interrupted = predict(other, two_balls, out, device="cpu", overwrite=True)
    assert next(interrupted).name == "a"
    interrupted.close()
    assert not (out / "b.nii.gz").exists()
    assert (out / "replaced" / "b.nii.gz").read_bytes() == earlier  # the only one, until the new one is there
    assert [done.name for done in predict(other, two_balls, out, device="cpu", skip_existing=True)] == ["b"]
    assert not (out / "replaced").exists()
    for name in "ab":
        made, wanted = (read_mask(folder / f"{name}.nii.gz").image for folder in (out, fresh))
        assert np.array_equal(sitk.GetArrayFromImage(made), sitk.GetArrayFromImage(wanted))


def test_a_bad_scan_keeps_no_mask_of_the_model_before(two_balls, brightness_model, make_brightness_model, tmp_path):
    other = make_brightness_model(tmp_path / "other.safetensors", offset=1)
    out = tmp_path / "out"
    list(predict(brightness_model, two_balls, out, device="cpu"))
    whole = (two_balls / "b.nii.gz").read_bytes()
    (two_balls / "b.nii.gz").write_bytes(b"nothing")
    with pytest.raises(PredictionError):
        list(predict(other, two_balls, out, device="cpu", overwrite=True))
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["a.nii.gz"]
    (two_balls / "b.nii.gz").write_bytes(whole)
    assert [done.name for done in predict(other, two_balls, out, device="cpu", skip_existing=True)] == ["b"]


def test_maps_go_with_the_mask_that_they_belong_to(two_balls, brightness_model, make_brightness_model, tmp_path):
    """Also those of a class that the new model calls otherwise."""
    other = make_brightness_model(tmp_path / "other.safetensors", **{"data.labels": [Label(4, "vein", (1, 2, 3))]})
    out = tmp_path / "out"
    list(predict(brightness_model, two_balls, out, device="cpu", sdm=True))
    assert len(list((out / "sdm").iterdir())) == 2
    list(predict(other, two_balls, out, device="cpu", probabilities=True, overwrite=True))
    assert not list((out / "sdm").iterdir())
    assert sorted(path.name for path in (out / "probabilities").glob("*.nii.gz")) == ["a_vein.nii.gz", "b_vein.nii.gz"]


def test_a_scan_is_done_only_when_the_maps_wanted_are_there(
    two_balls, brightness_model, make_brightness_model, tmp_path
):
    out, command = tmp_path / "out", {"device": "cpu", "skip_existing": True}
    list(predict(brightness_model, two_balls, out, device="cpu", sdm=True))
    done = list(predict(brightness_model, two_balls, out, probabilities=True, **command))
    assert [each.name for each in done] == ["a", "b"]
    assert len(list((out / "probabilities").iterdir())) == 2
    assert len(list((out / "sdm").iterdir())) == 2  # of the same model
    assert not list(predict(brightness_model, two_balls, out, sdm=True, probabilities=True, **command))
    (out / "sdm" / "b_Ball_of_Light.nii.gz").unlink()
    assert [each.name for each in predict(brightness_model, two_balls, out, sdm=True, **command)] == ["b"]
    other = make_brightness_model(tmp_path / "other.safetensors", offset=1)
    with pytest.raises(SemiSegError, match="not made with this model"):
        list(predict(other, two_balls, tmp_path / "out", probabilities=True, **command))


def test_a_folder_of_annotations_is_not_finished_with_predictions(one_broken, brightness_model, tmp_path, capsys):
    """Training would take the predictions for drawn, and model.json would call the annotations this model's."""
    labels, command = tmp_path / "labels", ["--model", str(brightness_model), "--device", "cpu"]
    scans = sorted(one_broken.iterdir())
    drawn = labels / scans[0].name
    labels.mkdir()
    sitk.WriteImage(sitk.Image((32, 32, 32), sitk.sitkUInt8), drawn)
    assert main([*command, "--input", str(one_broken), "--output", str(labels), "--skip-existing"]) == 2
    assert f"Masks in {labels} were not made with this model" in capsys.readouterr().err
    assert list(labels.iterdir()) == [drawn]
    assert main([*command, "--input", str(scans[-1]), "--output", str(labels)]) == 0
    assert json.loads((labels / "model.json").read_text(encoding="utf-8"))["weights"] == "more than one"


def test_several_models_predict_the_mean_of_their_probabilities(ball, make_brightness_model, tmp_path):
    """Each on the voxels that it was trained with; the mean is of the scan's own, and so is the mask."""
    scan, _ = ball(*GRIDS["oblique"])
    sitk.WriteImage(scan, tmp_path / "scan.nii.gz")
    coarse = {"data.spacing": "2,2,2", "training.patch_size": "16,16,16"}
    models = [
        str(make_brightness_model(tmp_path / "fine.safetensors", -1)),
        str(make_brightness_model(tmp_path / "coarse.safetensors", 1, **coarse)),
    ]
    command = ["--input", str(tmp_path / "scan.nii.gz"), "--device", "cpu", "--probabilities"]
    outputs = {"first": models[:1], "second": models[1:], "both": models}
    for name, chosen in outputs.items():
        assert main(["--model", *chosen, *command, "--output", str(tmp_path / name)]) == 0
    first, second, both = (
        sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / name / "probabilities" / "scan_Ball_of_Light.nii.gz"))
        for name in outputs
    )
    assert abs(first - second).max() > 0.5
    np.testing.assert_allclose(both, (first + second) / 2, atol=1e-6)
    mask = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "both" / "scan.nii.gz"))
    assert ((mask == 4) == (both > 0.5)).all()


def test_models_of_other_labels_do_not_predict_together(ball, make_brightness_model, tmp_path, capsys):
    sitk.WriteImage(ball((32, 32, 32), (1, 1, 1), radius=9)[0], tmp_path / "scan.nii.gz")
    one = make_brightness_model(tmp_path / "one.safetensors")
    other = make_brightness_model(tmp_path / "other.safetensors", **{"data.labels": [Label(4, "vein", (1, 2, 3))]})
    command = ["--input", str(tmp_path / "scan.nii.gz"), "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["--model", str(one), str(other), *command]) == 2
    assert "Model 2 of those named has the labels 4 vein, the first one 4 Ball of Light" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", [("LV/blood", "LV?blood"), ("rv", "RV")])
def test_maps_of_two_labels_never_share_a_file(names, ball, make_brightness_model, tmp_path):
    labels = {"data.labels": [Label(4, names[0], (1, 2, 3)), Label(5, names[1], (1, 2, 3))]}
    card = load_model(make_brightness_model(tmp_path / "one.safetensors")).card
    card.settings.set("data.labels", labels["data.labels"])
    save_model(tmp_path / "two.safetensors", build_network(3, 3), card)
    sitk.WriteImage(ball((32, 32, 32), (1, 1, 1), radius=9)[0], tmp_path / "scan.nii.gz")
    with pytest.raises(SemiSegError, match="same name"):
        list(predict(tmp_path / "two.safetensors", tmp_path / "scan.nii.gz", tmp_path / "out", sdm=True, device="cpu"))
    assert not (tmp_path / "out").exists()
