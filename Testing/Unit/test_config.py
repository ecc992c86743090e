"""Settings: where they come from, what wins, and what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from SemiSegLib import methods
from SemiSegLib.config import Label, Settings, SettingsError, explain
from SemiSegLib.presets import PRESETS, build_settings


def test_later_sources_win(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"training": {"iterations": 500, "learning_rate": 0.5}}))
    settings = build_settings("simcvd", "left-atrium", file, {"training.iterations": "700"}, "published")
    assert settings.data.spacing == (0.625, 0.625, 0.625)  # preset
    assert settings.training.weight_decay == 5e-4  # the method's paper
    assert settings.training.learning_rate == 0.5  # file
    assert settings.training.iterations == 700  # command line


def test_a_run_s_settings_file_reproduces_its_settings(tmp_path):
    settings = build_settings("simcvd", "cardiac-cine", overrides={"method_settings.temperature": "0.2"})
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(settings.to_dict()))
    assert build_settings(file=file) == settings
    assert Settings.from_dict(json.loads(file.read_text(encoding="utf-8"))) == settings


@pytest.mark.parametrize("method", methods.available())
@pytest.mark.parametrize("preset", PRESETS)
def test_every_method_and_preset_go_together(method, preset):
    build_settings(method, preset).check()


def test_paper_defaults_of_simcvd():
    settings = build_settings("simcvd", "left-atrium")
    expected = {"sdm": 0.1, "contrast": 0.5, "distillation": 0.1, "consistency": 0.1, "temperature": 0.5}
    assert {name: settings.method_settings[name] for name in expected} == expected
    assert settings.method_settings["ema_decay"] == 0.999
    assert settings.training.patch_size == (112, 112, 80)
    assert (settings.training.labelled_batch, settings.training.unlabelled_batch) == (2, 2)


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("training.iteration", 5, "training.iterations"),
        ("training.iterations", "many", "training.iterations"),
        ("training.iterations", 0, "at least 1"),
        ("training.patch_size", "50,50,50", "multiple of 16"),
        ("training.patch_size", "64,64", "3 values"),
        ("training.patch_size", "16,16,16", "network.normalisation"),
        ("data.window", "5,1", "rising"),
        ("data.window", "5", "2 values"),
        ("data.spacing", "1,1", "3 values"),
        ("training.optimiser", "lion", "sgd, adamw"),
        ("training.rotate", "maybe", "true or false"),
        ("method_settings.tau", 1, "temperature"),
        ("data.labels", [Label(1, "a", (0, 0, 0)), Label(1, "b", (0, 0, 0))], "differ"),
        ("data.labels", [Label(255, "a", (0, 0, 0))], "ignore value"),
        ("data.labels", [Label(65536, "a", (0, 0, 0))], "at most 65535"),
        ("data.labels", [Label(value, f"v{value}", (0, 0, 0)) for value in range(300, 555)], "254 labels"),
    ],
)
def test_wrong_settings_are_refused_by_name(key, value, part):
    with pytest.raises(SettingsError, match=part):
        build_settings("simcvd", overrides={key: value, "training.labelled_batch": 1 if "statistics" in part else 2})


def test_wrong_files_are_named(tmp_path):
    file = tmp_path / "broken.json"
    file.write_text("{")
    with pytest.raises(SettingsError, match=r"broken\.json"):
        build_settings(file=file)
    with pytest.raises(SettingsError, match=r"absent\.json"):
        build_settings(file=tmp_path / "absent.json")


def test_every_setting_is_explained():
    assert all(len(found.help) > 2 for found in explain(Settings()))
    assert all(option.help for name in methods.available() for option in methods.describe(name).options)


@pytest.mark.parametrize("damage", ["class Method(:", "class MethodSettings:\n    tau: float = 1.0\n"])
def test_a_broken_method_file_is_named_and_does_not_hide_the_others(damage, tmp_path):
    """A copy of the library with a method that somebody is still writing."""
    shutil.copytree(Path(methods.__file__).parents[1], tmp_path / "SemiSegLib")
    (tmp_path / "SemiSegLib" / "methods" / "unfinished.py").write_text(f'"""Unfinished: a method."""\n{damage}')

    def run(*arguments):
        command = [sys.executable, "-m", "SemiSegLib.train", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)

    shown = run("--help")
    assert shown.returncode == 0, shown.stderr
    assert "Student and slowly moving teacher" in shown.stdout
    assert "unfinished.py" in shown.stdout
    assert run("--method", "simcvd", "--list-settings").returncode == 0
    refused = run("--method", "unfinished", "--list-settings")
    assert refused.returncode != 0
    assert "unfinished.py" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_what_is_read_without_torch_is_what_the_method_has():
    import dataclasses
    import importlib

    for name in methods.available():
        module = importlib.import_module(methods.method_class(name).__module__)
        fields = {
            field.name: getattr(module.MethodSettings(), field.name)
            for field in dataclasses.fields(module.MethodSettings)
        }
        assert {option.name: option.default for option in methods.describe(name).options} == fields


@pytest.mark.parametrize("module", ["train", "predict", "evaluate"])
def test_help_needs_no_torch(module):
    code = f"import sys, SemiSegLib.{module} as m; m.parser().format_help(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_slicer_imports_needs_no_torch():
    code = (
        "import sys, SemiSegLib, SemiSegLib.config, SemiSegLib.runs, SemiSegLib.methods, SemiSegLib.data.cases\n"
        "from SemiSegLib.presets import build_settings; build_settings('simcvd', 'left-atrium')\n"
        "sys.exit(bool({'torch', 'SimpleITK', 'scipy', 'nibabel'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("text", ["0,0,1", "[0, 0, 1]", [0, 0, 1]])
def test_a_methods_list_is_written_as_any_other(text):
    assert build_settings("action", overrides={"method_settings.shares": text}).method_settings["shares"] == (0, 0, 1)


@pytest.mark.parametrize(
    ("method", "name", "text", "value"),
    [("cvrl", "features", "False", False), ("cvrl", "voxels", "64", 64), ("secl", "sampling", "none", "none")],
)
def test_a_methods_settings_have_their_declared_types(method, name, text, value):
    found = build_settings(method, overrides={f"method_settings.{name}": text}).method_settings[name]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(("name", "value"), [("voxels", "many"), ("voxels", "2.5"), ("low", "a"), ("features", "x")])
def test_a_methods_setting_of_a_wrong_type_is_named(name, value):
    with pytest.raises(SettingsError, match=f"method_settings.{name}"):
        build_settings("cvrl", overrides={f"method_settings.{name}": value})
