"""Which Python trains, in each place where Slicer may have left it: `sys.executable` alone cannot be trusted there."""

import os
import sys
import types
from pathlib import Path

import pytest
from SemiSegModuleLib import paths

NAME = "PythonSlicer.exe" if os.name == "nt" else "PythonSlicer"


@pytest.fixture
def slicer_at(tmp_path, monkeypatch):
    """Pretend to run inside a Slicer whose files are these; nothing else of this computer is found."""

    def pretend(*files, home="", launcher="", executable="", prefix="nowhere"):
        for name in files:
            program(tmp_path / name)
        application = types.SimpleNamespace(
            slicerHome=str(tmp_path / home) if home else "",
            launcherExecutableFilePath=str(tmp_path / launcher) if launcher else "",
        )
        monkeypatch.setitem(sys.modules, "slicer", types.SimpleNamespace(app=application))
        monkeypatch.setattr(sys, "executable", str(tmp_path / executable) if executable else "")
        monkeypatch.setattr(sys, "prefix", str(tmp_path / prefix))
        return tmp_path

    monkeypatch.delenv(paths.PYTHON_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "no programs"))
    return pretend


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_an_empty_executable_finds_the_interpreter_of_the_installation(slicer_at):
    folder = slicer_at(f"Slicer/bin/{NAME}", home="Slicer")
    assert paths.training_python() == folder / "Slicer" / "bin" / NAME


def test_an_empty_executable_finds_the_interpreter_beside_the_launcher(slicer_at):
    folder = slicer_at("Slicer/Slicer", f"Slicer/bin/{NAME}", launcher="Slicer/Slicer")
    assert paths.training_python() == folder / "Slicer" / "bin" / NAME


def test_an_empty_executable_finds_the_interpreter_through_the_prefix(slicer_at):
    """Slicer's own Python lives in lib/Python; only `sys.prefix` knows of it."""
    folder = slicer_at(f"Slicer/bin/{NAME}", prefix="Slicer/lib/Python")
    assert paths.training_python() == folder / "Slicer" / "bin" / NAME


@pytest.mark.skipif(os.name == "nt", reason="Slicer for Windows always brings its own Python")
def test_a_slicer_on_the_systems_python_uses_that(slicer_at):
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folder = slicer_at(f"usr/bin/{version}", prefix="usr")
    assert paths.training_python() == folder / "usr" / "bin" / version


@pytest.mark.parametrize("executable", ["Slicer/Slicer", "Slicer/bin/SlicerApp-real", "Slicer/gone/python3"])
def test_what_starts_another_slicer_or_is_not_there_is_never_started(slicer_at, executable):
    launcher, application = "Slicer/Slicer", "Slicer/bin/SlicerApp-real"
    folder = slicer_at(launcher, application, f"Slicer/bin/{NAME}", home="Slicer", executable=executable)
    assert paths.training_python() == folder / "Slicer" / "bin" / NAME


def test_pythonslicer_as_executable_is_it(slicer_at):
    folder = slicer_at(f"anywhere/{NAME}", executable=f"anywhere/{NAME}")
    assert paths.training_python() == folder / "anywhere" / NAME


def test_a_plain_python_is_it_where_there_is_no_slicer(slicer_at):
    folder = slicer_at("env/bin/python3.12", executable="env/bin/python3.12")
    assert paths.training_python() == folder / "env" / "bin" / "python3.12"


@pytest.mark.parametrize("executable", ["", "Slicer/Slicer"])
def test_no_interpreter_is_told_with_what_to_do(slicer_at, executable):
    slicer_at("Slicer/Slicer", home="Slicer", executable=executable)
    with pytest.raises(FileNotFoundError, match=paths.PYTHON_VARIABLE):
        paths.training_python()


def test_a_named_interpreter_wins(slicer_at, monkeypatch):
    folder = slicer_at(f"Slicer/bin/{NAME}", "mine/python", home="Slicer")
    monkeypatch.setenv(paths.PYTHON_VARIABLE, str(folder / "mine" / "python"))
    assert paths.training_python() == folder / "mine" / "python"


def test_a_named_interpreter_that_is_not_there_is_named(slicer_at, monkeypatch):
    folder = slicer_at(f"Slicer/bin/{NAME}", home="Slicer")
    monkeypatch.setenv(paths.PYTHON_VARIABLE, str(folder / "gone"))
    with pytest.raises(FileNotFoundError, match="gone"):
        paths.training_python()
