"""Every setting says what it may be, and what lies outside is refused in words, from wherever it comes."""

import dataclasses
import json

import pytest

from SemiSegLib import methods, predict, train
from SemiSegLib.config import Allowed, Settings, SettingsError, explain, setting
from SemiSegLib.presets import PRESETS, all_settings, build_settings

FREE = ("data.labels", "data.cache", "training.device")  # free text; labels are checked together


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("training.seed", -1, "from 0 to"),
        ("training.seed", 2**40, "from 0 to 4294967295"),
        ("training.learning_rate", -0.01, "above 0"),
        ("training.learning_rate", "nan", "a finite number"),
        ("training.learning_rate", "fast", "a number"),
        ("training.momentum", 7, "at least 0 and below 1"),
        ("training.weight_decay", -1, "at least 0"),
        ("training.milestones", "2500,5000", "above 0 and at most 1"),
        ("training.milestones", "0.8,0.4", "rising"),
        ("training.rotation_angle", 181, "from 0 to 180"),
        ("training.unlabelled_batch", -2, "at least 0"),
        ("training.log_every", 0, "at least 1"),
        ("training.iterations", 2.5, "a whole number"),
        ("training.iterations", "1e", "a whole number"),
        ("training.flip", "both", "one of one, each, none"),
        ("inference.overlap", 1, "at least 0 and below 1"),
        ("inference.stride", "a,b,c", "a whole number"),
        ("inference.stride", "18,18", "3 values"),
        ("inference.stride", 0, "at least 1"),
        ("inference.stride", "200,200,200", r"patch.*96"),
        ("inference.network", "pupil", "one of student, teacher"),
        ("network.normalisation", "layer", "one of batch, instance"),
        ("network.dropout", 1.5, "from 0 to 1"),
        ("data.spacing", "1,-1,1", "at least 0"),
        ("data.labels", "[{]", "JSON"),
        ("data.window", "5,inf", "a finite number"),
        ("data.dimensions", 4, "one of 2, 3"),
        ("data.ignore_value", -1, "at least 0"),
        ("method_settings.ema_decay", 1.5, "from 0 to 1"),
        ("method_settings.temperature", 0, "above 0"),
        ("method_settings.ramp", "steep", "one of consistency, all, none"),
        ("method_settings.pool", 0, "at least 1"),
    ],
)
def test_what_lies_outside_is_refused_by_name(key, value, part):
    with pytest.raises(SettingsError, match=part) as refused:
        build_settings("simcvd", "pancreas", overrides={key: value})
    assert f"'{key}'" in str(refused.value)


def test_a_patch_that_one_instance_cannot_be_normalised_in_is_refused():
    wanted = {"network.normalisation": "instance", "training.patch_size": "16,16,16"}
    with pytest.raises(SettingsError, match=r"network\.normalisation.*training\.patch_size"):
        build_settings("supervised", "pancreas", overrides=wanted)
    build_settings("supervised", "pancreas", overrides=wanted | {"training.patch_size": "32,16,16"})


@pytest.mark.parametrize("text", ["none", "", "[]"])
def test_a_list_may_be_empty(text):
    assert PRESETS["left-atrium"]["augmentation.mirror_axes"]
    settings = build_settings("supervised", "left-atrium", overrides={"augmentation.mirror_axes": text})
    assert settings.augmentation.mirror_axes == ()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--seed", "-1"], "training.seed"),
        (["--set", "training.learning_rate=-1"], "training.learning_rate"),
        (["--set", "inference.stride=18,18"], "inference.stride"),
        (["--method", "secl", "--set", "method_settings.sampling=regions"], "one of anatomical, region, none"),
        (["--patch", "a,b,c"], "training.patch_size"),
        (["--method", "action", "--set", "method_settings.shares=1,-1,1"], "method_settings.shares"),
        (["--method", "action", "--set", "method_settings.shares=1,1"], "method_settings.shares"),
    ],
)
def test_train_says_what_is_wrong(arguments, part, capsys):
    assert train.main(["--list-settings", *arguments]) == 2
    assert part in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stride", "part"),
    [("18,18", "3 values"), ("a,b,c", "whole number"), ("200,200,200", "at most the patch"), ("0,1,1", "at least 1")],
)
def test_predict_says_what_is_wrong_with_a_stride(stride, part, tmp_path, capsys):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.nii.gz").touch()
    places = ["--input", str(tmp_path / "scans"), "--output", str(tmp_path / "out")]
    assert predict.main(["--model", "left-atrium-lge", *places, "--stride", stride]) == 2
    said = capsys.readouterr().err
    assert "inference.stride" in said
    assert part in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", methods.available())
def test_every_setting_says_what_it_may_be(method):
    for found in all_settings(build_settings(method)):
        values = found.value if isinstance(found.value, (tuple, list)) else [found.value]
        if found.name in FREE or all(isinstance(value, bool) for value in values):
            continue
        lowest = found.allowed.above is not None or found.allowed.at_least is not None or found.allowed.ascending
        assert found.allowed.choices or lowest, f"{found.name}: give its range or choices"


@pytest.mark.parametrize("method", methods.available())
def test_every_default_is_allowed(method):
    for found in [*all_settings(build_settings(method)), *explain(Settings())]:
        assert found.value is None or found.allowed.fits(found.value), found.name


def test_ranges_of_methods_are_those_that_their_dataclass_has():
    for name in methods.available():
        module = __import__(methods.method_class(name).__module__, fromlist=["MethodSettings"])
        allowed = {each.name: each.metadata["allowed"] for each in dataclasses.fields(module.MethodSettings)}
        assert {option.name: option.allowed for option in methods.describe(name).options} == allowed


def test_list_settings_shows_ranges_and_choices(capsys):
    assert train.main(["--list-settings", "--method", "secl"]) == 0
    shown = capsys.readouterr().out
    for line in (
        "training.learning_rate = 0.05  (a number above 0)",
        "training.optimiser = sgd  (one of sgd, adamw)",
        "training.rotate = False  (true or false)",
        "training.patch_size = None  (2 or 3 whole numbers, each a multiple of 16 and at least 16; or none)",
        "method_settings.sampling = anatomical  (one of anatomical, region, none)",
    ):
        assert line in shown


def test_ranges_in_words():
    assert str(Allowed(at_least=0, at_most=1)) == "from 0 to 1"
    assert str(Allowed(above=0, at_most=1, ascending=True)) == "above 0 and at most 1"
    assert str(Allowed()) == ""


def test_a_wrong_range_is_found_when_it_is_written():
    with pytest.raises(TypeError):
        setting(1, "a number", atleast=0)


def test_a_settings_file_out_of_range_is_refused(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"training": {"momentum": 7}}))
    with pytest.raises(SettingsError, match=r"training\.momentum"):
        build_settings(file=file)
