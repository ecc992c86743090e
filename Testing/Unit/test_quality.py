"""Expected DSC: pairwise agreement worked by hand, and a model whose error and disagreement are both known."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from SemiSegLib.data.cases import Case
from SemiSegLib.data.images import read_image
from SemiSegLib.data.layouts import find_cases
from SemiSegLib.inference.conformal import Calibration, logit
from SemiSegLib.inference.ensemble import AS_IT_IS, SHIFTED, Ensemble, Opinions, entropy, views_for
from SemiSegLib.inference.predictor import load_predictor
from SemiSegLib.inference.quality import look
from SemiSegLib.metrics import dice
from SemiSegLib.models import export_model, load_model, rewrite_card
from SemiSegLib.predict import predict
from SemiSegLib.quality import main
from SemiSegLib.runs import read_json, write_json
from SemiSegLib.synthetic import make_dataset
from SemiSegLib.train import train
from SemiSegLib.training import session

RADII = (3, 3.5, 4, 4.5, 5, 5.5, 6, 6.5, 7)
SMALL = {"training.patch_size": "32,16,16", "augmentation.mirror_axes": (0, 1)}


@pytest.fixture(scope="module")
def off_by_one(make_brightness_model, tmp_path_factory):
    """A model whose masks lie one voxel too far along x, so one too far the other way in a mirror image."""
    return make_brightness_model(tmp_path_factory.mktemp("model") / "shifted.safetensors", -1, **SMALL)


@pytest.fixture
def balls(ball, tmp_path):
    """A function that writes scans of balls with masks, by radius."""

    def write(folder, radii):
        for part in ("images", "labels"):
            (tmp_path / folder / part).mkdir(parents=True)
        for radius in radii:
            scan, mask = ball((16, 16, 16), (1, 1, 1), radius=radius)
            sitk.WriteImage(scan, tmp_path / folder / "images" / f"ball_{radius}.nii.gz")
            sitk.WriteImage(mask * 4, tmp_path / folder / "labels" / f"ball_{radius}.nii.gz")
        return tmp_path / folder

    return write


def shifted_dice(mask, voxels):
    """DSC of a mask (x, y, z) and itself so many voxels further along x."""
    return dice(mask[voxels:], mask[:-voxels])


def test_agreement_and_probable_dice_worked_by_hand():
    judged = np.array([1, 1, 0, 0, 2], np.uint8)
    votes = [judged, np.array([1, 0, 0, 0, 2], np.uint8), np.array([1, 1, 1, 0, 0], np.uint8)]
    p = np.array([[0.1, 0.4, 0.8, 1.0, 0.3], [0.9, 0.6, 0.1, 0.0, 0.0], [0.0, 0.0, 0.1, 0.0, 0.7]])
    opinions = Opinions(p, judged, votes, p)
    assert opinions.agreement(1) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert opinions.agreement(2) == pytest.approx((1 + 0) / 2)
    assert opinions.probable_dice(1) == pytest.approx(2 * 1.5 / (1.6 + 2))
    assert opinions.probable_dice(2) == pytest.approx(2 * 0.7 / (0.8 + 1))
    assert opinions.score(1) == pytest.approx(np.log(11 / 4))  # of 11/15


@pytest.mark.parametrize("view", [*views_for((0, 1)), *SHIFTED], ids=lambda view: view.name)
def test_a_view_is_undone_exactly(view):
    """Voxel by voxel in the middle; what a shift pushed over the edge comes back as well, since the edge is added."""
    image = np.random.default_rng(0).normal(size=(12, 14, 9)).astype(np.float32)
    seen = view.of(image)
    back = view.undone(np.stack([seen, -seen])) / view.contrast
    np.testing.assert_allclose(back, np.stack([image, -image]), rtol=1e-6)
    assert view is AS_IT_IS or not np.array_equal(seen[: image.shape[0], :14, :9], image)


def test_mirror_images_are_shown_only_along_axes_that_the_task_allows():
    assert not any(view.mirrored for view in views_for(()))
    assert [view.mirrored for view in views_for((0, 2))] == [(), (0,), (2,), (0, 2)]
    assert views_for(())[0] is views_for((0, 1))[0] is AS_IT_IS


@pytest.mark.parametrize("axes", [(), (0, 1)])
def test_the_mask_that_is_judged_is_the_one_that_prediction_gives(axes, make_brightness_model, balls, tmp_path):
    """Also where prediction averages over mirror images: there it lies between those of the views."""
    settings = {**SMALL, "inference.mirror": True, "augmentation.mirror_axes": axes}
    predictor = load_predictor(make_brightness_model(tmp_path / "m.safetensors", -1, **settings), "cpu")
    case = Case("ball", balls("new", (6,)) / "images" / "ball_6.nii.gz")
    predicted = predictor(read_image(case.image)).indices
    opinions, grid, scan = look(case, Ensemble([predictor]))
    assert (predictor.on_scan(opinions.own, grid, scan).indices == predicted).all()
    assert ((opinions.votes[0] != opinions.judged).any() == bool(axes)).all()


def test_entropy_is_0_where_certain_and_1_where_all_classes_are_equal():
    p = np.array([[1.0, 1 / 3, 0.5], [0.0, 1 / 3, 0.5], [0.0, 1 / 3, 0.0]])
    assert entropy(p) == pytest.approx([0.0, 1.0, np.log(2) / np.log(3)], abs=1e-5)


def test_a_known_error_is_foretold_from_a_known_disagreement(off_by_one, balls, tmp_path):
    """The mask lies one voxel too far along x, those of two of the three mirror images two voxels away from it."""
    calibration, new = balls("seen", RADII), balls("new", (3.25, 5.25, 6.75))
    command = ["--model", str(off_by_one), "--device", "cpu"]
    command += ["--calibrate", str(calibration), "--input", str(new / "images")]
    assert main([*command, "--output", str(tmp_path / "quality.json"), "--maps", str(tmp_path / "maps")]) == 0
    content = read_json(tmp_path / "quality.json")
    assert content["coverage"] == pytest.approx(0.9)
    assert content["calibration"]["cases"] == 9
    assert content["calibration"]["spearman"] > 0.95
    assert [case["name"] for case in content["cases"]] == [
        "ball_3.25",
        "ball_5.25",
        "ball_6.75",
    ]
    for case in content["cases"]:
        truth = sitk.GetArrayFromImage(sitk.ReadImage(new / "labels" / f"{case['name']}.nii.gz")).T == 4
        found = case["classes"]["Ball of Light"]
        assert found["agreement"] == pytest.approx((2 * shifted_dice(truth, 2) + 1) / 3, abs=0.04)
        [done] = predict(off_by_one, new / "images" / f"{case['name']}.nii.gz", tmp_path / case["name"], device="cpu")
        true = dice(sitk.GetArrayFromImage(sitk.ReadImage(done.mask)).T == 4, truth)
        assert case["expected_dsc"] == pytest.approx(true, abs=0.03)
        assert 0 < case["low"] < case["expected_dsc"] < case["high"] < 1
        assert case["low"] - 0.02 <= true <= case["high"] + 0.02
        uncertain = sitk.GetArrayFromImage(sitk.ReadImage(case["uncertainty"])).T
        assert uncertain.shape == truth.shape
        middle, edge = int(np.argwhere(truth).mean(0)[0]), truth[:, 8, 8].nonzero()[0][-1]
        assert uncertain[middle, 8, 8] < 0.05 < uncertain[edge : edge + 2, 8, 8].max()


def test_the_calibration_travels_in_the_model_s_file(off_by_one, balls, tmp_path):
    model = tmp_path / "copy.safetensors"
    model.write_bytes(off_by_one.read_bytes())
    before = load_model(model)
    assert main(["--model", str(model), "--device", "cpu", "--calibrate", str(balls("seen", RADII[:4]))]) == 0
    after = load_model(model)
    assert len(after.card.quality["classes"]["Ball of Light"]["dsc"]) == 4
    assert "4 annotated cases of seen" in after.card.quality["source"]
    assert all((before.weights[name] == weight).all() for name, weight in after.weights.items())


@pytest.mark.parametrize("shared", [False, True])
def test_scans_that_the_model_was_trained_with_do_not_calibrate_it(shared, tiny_settings, tmp_path, capsys):
    """Also where they are called otherwise now, and in a model that was written to be shared, which names nobody."""
    data = make_dataset(tmp_path / "data", cases=4, labelled=1, validation=3, size=(32, 32, 16))
    settings = tiny_settings("supervised", **{"training.iterations": 1})
    model = train(data, tmp_path / "run", settings, labelled=1, quiet=True).path
    if shared:
        model = tmp_path / "model.safetensors"
        export_model(tmp_path / "run", model)
        assert b"atrium_" not in model.read_bytes()
    command = ["--model", str(model), "--device", "cpu", "--calibrate"]
    for part in ("images", "labels"):
        (data / part / "atrium_001.nii.gz").rename(data / part / "other.nii.gz")
    assert main([*command, str(data)]) == 2
    assert "trained with the masks of other. Calibrate" in capsys.readouterr().err
    assert not load_model(model).card.quality
    for part in ("images", "labels"):
        (data / part / "other.nii.gz").unlink()
    assert main([*command, str(data)]) == 0
    assert "3 annotated cases" in load_model(model).card.quality["source"]


def test_a_model_knows_the_scans_of_the_model_that_it_began_with(tiny_settings, tmp_path, capsys):
    """Also after a stop: it learnt from their masks, if not in this training."""
    first = make_dataset(tmp_path / "first", cases=4, labelled=1, validation=3, size=(32, 32, 16))
    second = make_dataset(tmp_path / "second", cases=4, labelled=1, validation=3, size=(32, 32, 16), seed=9)
    settings = tiny_settings("supervised", **{"training.iterations": 1})
    begun = train(first, tmp_path / "begun", settings, labelled=1, quiet=True)
    goes_on = train(second, tmp_path / "goes-on", settings, labelled=1, init=begun.path, quiet=True)
    session.resume(goes_on, {"training.iterations": 2})
    for data in (first, second):
        assert main(["--model", str(goes_on.path), "--device", "cpu", "--calibrate", str(data)]) == 2
        assert "trained with the masks of atrium_001. Calibrate" in capsys.readouterr().err


def test_a_split_s_validation_cases_calibrate_where_no_other_scan_has_a_mask(off_by_one, balls, tmp_path):
    data, model = balls("data", RADII[:5]), tmp_path / "model.safetensors"
    for radius in RADII[:2]:
        (data / "labels" / f"ball_{radius}.nii.gz").unlink()
    (data / "splits.json").write_text(json.dumps({"dev": {"validation": [f"ball_{r}" for r in RADII[2:5]]}}))
    shutil.copy(off_by_one, model)
    splits = f"{data / 'splits.json'}:dev"
    assert main(["--model", str(model), "--calibrate", str(data), "--splits", splits, "--device", "cpu"]) == 0
    assert len(load_model(model).card.quality["classes"]["Ball of Light"]["dsc"]) == 3


def test_a_model_calibrated_by_an_earlier_version_is_judged_as_it_was(off_by_one, balls, tmp_path):
    """Its card has scores into which the probable DSC went, under their former name."""
    model = tmp_path / "copy.safetensors"
    model.write_bytes(off_by_one.read_bytes())
    loaded = load_model(model)
    scores, dsc = (1.0, 2.0, 3.0, 4.0), (0.6, 0.7, 0.8, 0.9)
    views = [view.name for view in views_for((0, 1))]
    loaded.card.quality = {"classes": {"Ball of Light": {"score": scores, "dsc": dsc}}, "views": views}
    rewrite_card(model, loaded)
    command = ["--model", str(model), "--device", "cpu", "--input", str(balls("new", (5.25,)) / "images")]
    assert main([*command, "--output", str(tmp_path / "quality.json")]) == 0
    [case] = read_json(tmp_path / "quality.json")["cases"]
    figures = case["classes"]["Ball of Light"]
    former = logit(np.array([figures["agreement"], figures["probable_dice"]])).mean()
    assert case["expected_dsc"] == pytest.approx(Calibration(scores, dsc).estimate(former, 0.8).expected)


def test_without_calibration_there_is_no_interval_and_it_is_said(make_brightness_model, balls, tmp_path, capsys):
    plain = make_brightness_model(tmp_path / "plain.safetensors", **SMALL)
    new = balls("new", (6,))
    (new / "images" / "broken.nrrd").write_bytes(b"no scan")
    command = ["--model", str(plain), "--device", "cpu", "--input", str(new / "images"), "--json-progress"]
    assert main([*command, "--output", str(tmp_path / "quality.json")]) == 3
    content = read_json(tmp_path / "quality.json")
    assert content["coverage"] is content["calibration"] is None
    assert "no calibration" in content["messages"][0]
    assert "broken.nrrd" in content["messages"][-1]
    [case] = content["cases"]
    assert (case["expected_dsc"], case["low"], case["high"]) == (pytest.approx(1, abs=0.01), None, None)
    assert json.loads(capsys.readouterr().out.splitlines()[0])["name"] == "ball_6"
    assert main(["--model", str(plain), "--device", "cpu", "--calibrate", str(new)]) == 2
    assert "too few" in capsys.readouterr().err


def test_a_scan_in_which_nothing_is_found_comes_first_and_its_interval_says_nothing(off_by_one, balls, tmp_path):
    new = balls("new", (6,))
    scan = sitk.GetImageFromArray(np.random.default_rng(0).uniform(0, 1, (16, 16, 16)))  # no voxel lies 2 sd above
    sitk.WriteImage(scan, new / "images" / "noise.nrrd")
    dim = tmp_path / "dim.safetensors"
    model = load_model(off_by_one)
    model.weights["mask_head.bias"][1] = -40.0
    rewrite_card(dim, model)
    command = ["--model", str(dim), "--device", "cpu", "--input", str(new / "images")]
    assert main([*command, "--output", str(tmp_path / "quality.json")]) == 0
    first, second = read_json(tmp_path / "quality.json")["cases"]
    assert first["name"] == "noise"
    assert (first["expected_dsc"], first["low"], first["high"], first["empty"]) == (0.0, 0.0, 1.0, True)
    assert not second["empty"]


def test_a_run_without_validation_cases_is_cross_fitted(tiny_settings, tmp_path):
    data = make_dataset(tmp_path / "data", cases=4, labelled=4, validation=0, size=(32, 32, 16))
    settings = tiny_settings("supervised", **{"training.iterations": 2})
    run = train(data, tmp_path / "run", settings, quiet=True)
    assert not load_model(run.path).card.quality
    assert main(["--model", str(run.path), "--cross-fit", "2", "--device", "cpu"]) == 0
    stored = load_model(run.path).card.quality
    assert "2 trainings, each without a part of the 4 annotated cases" in stored["source"]
    parts = [read_json(run.path / "cross-fit" / part / "cases.json")["labelled"] for part in "12"]
    assert not {case["name"] for case in parts[0]} & {case["name"] for case in parts[1]}
    assert main(["--model", str(run.path), "--cross-fit", "5", "--device", "cpu"]) == 2


def test_parts_are_trained_as_long_as_a_run_of_some_time_was(tiny_settings, tmp_path):
    """A plan of their own would give them other iterations, or other voxels, on another device or in a busy moment."""
    data = make_dataset(tmp_path / "data", cases=4, labelled=4, validation=0, size=(32, 32, 16))
    run = train(data, tmp_path / "run", tiny_settings("supervised", **{"training.iterations": 2}), quiet=True)
    settings = read_json(run.settings_file)
    write_json(run.settings_file, settings | {"training": settings["training"] | {"minutes": 0.05}})
    assert main(["--model", str(run.path), "--cross-fit", "2", "--device", "cpu"]) == 0
    for part in "12":
        fold = read_json(run.path / "cross-fit" / part / "settings.json")
        assert fold["training"] == settings["training"]
        assert fold["data"]["spacing"] == settings["data"]["spacing"]


def test_networks_of_another_division_are_not_measured_on_what_they_were_trained_with(tiny_settings, tmp_path, capsys):
    data = make_dataset(tmp_path / "data", cases=4, labelled=4, validation=0, size=(32, 32, 16))
    run = train(data, tmp_path / "run", tiny_settings("supervised", **{"training.iterations": 2}), quiet=True)
    assert main(["--model", str(run.path), "--cross-fit", "2", "--device", "cpu"]) == 0
    stored = load_model(run.path).card.quality
    assert main(["--model", str(run.path), "--cross-fit", "4", "--device", "cpu"]) == 2
    assert str(run.path / "cross-fit" / "1") in capsys.readouterr().err
    assert load_model(run.path).card.quality == stored


@pytest.mark.parametrize("validation", [2, 4])
def test_a_training_leaves_its_calibration_if_it_has_cases_for_it(validation, tiny_settings, tmp_path):
    data = make_dataset(tmp_path / "data", cases=6, labelled=2, validation=validation, size=(32, 32, 16))
    run = train(data, tmp_path / "run", tiny_settings("supervised"), f"{data / 'splits.json'}:demo", quiet=True)
    stored = load_model(run.path).card.quality
    if validation == 2:
        assert not stored
    else:
        assert stored["source"] == "4 validation cases of the training"
        assert set(stored["classes"]) == {"left atrium"}


@pytest.mark.parametrize("why", ["learnt from", "accepted"])
def test_scans_that_say_too_much_of_a_model_do_not_calibrate_it(why, tiny_settings, tmp_path):
    """A training that begins from a model which learnt from the scans that are kept aside, or whose masks are a model's
    own, is told so: intervals from these would promise too much."""
    data = make_dataset(tmp_path / "data", cases=5, labelled=5, validation=0, size=(32, 32, 16))
    settings = tiny_settings("supervised", **{"training.iterations": 2})
    first, names = None, [case.name for case in find_cases(data)]
    if why == "learnt from":
        first = train(data, tmp_path / "first", settings, quiet=True).path
    else:
        write_json(data / "origins.json", dict.fromkeys(names[1:], "accepted"))
    run = train(data, tmp_path / "run", settings, quiet=True, validation=4, init=first)
    assert not load_model(run.path).card.quality
    (warning,) = [event["text"] for event in run.history() if "kept aside" in event.get("text", "")]
    aside = [case["name"] for case in read_json(run.cases_file)["validation"]]
    assert all((name in warning) == (name in aside and (why != "accepted" or name != names[0])) for name in names)


def test_wrong_input_is_answered(off_by_one, tmp_path, capsys):
    for arguments, words in (
        ([], "--input"),
        (["--input", str(tmp_path)], "--output"),
        (["--input", str(tmp_path), "--output", "x.json", "--coverage", "95"], "between 0 and 1"),
    ):
        assert main(["--model", str(off_by_one), *arguments]) == 2
        assert words in capsys.readouterr().err


def test_maps_do_not_go_among_the_scans_where_they_would_be_taken_for_some(off_by_one, balls, tmp_path, capsys):
    scans = balls("new", (4,)) / "images"
    command = ["--model", str(off_by_one), "--input", str(scans), "--output", str(tmp_path / "q.json")]
    assert main([*command, "--maps", str(scans)]) == 2
    assert "--maps" in capsys.readouterr().err
    assert [path.name for path in scans.iterdir()] == ["ball_4.nii.gz"]
