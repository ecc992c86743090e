"""The extension configured, built and installed with Slicer's real macros, then imported from where it landed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SOURCES = ("SEMISEG_SLICER_SOURCE", "SEMISEG_CTK_SOURCE")


def run(*command, **options):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The build folder."""
    missing = [name for name in SOURCES if not os.environ.get(name)]
    if missing or shutil.which("cmake") is None:
        pytest.skip(f"packaging is tested with cmake and checkouts named by {' and '.join(SOURCES)}")
    build = tmp_path_factory.mktemp("build")
    environment = {**os.environ, "SEMISEG_PYTHON_EXECUTABLE": sys.executable}
    stand_in = Path(__file__).parent / "slicer_stand_in"
    options = [f"-DSlicer_DIR={stand_in}", "-DBUILD_TESTING=ON"]
    run("cmake", "-S", REPOSITORY, "-B", build, *options, env=environment)
    run("cmake", "--build", build, env=environment)
    return build


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The folder qt-scripted-modules of the installed tree."""
    target = tmp_path_factory.mktemp("installed")
    run("cmake", "--install", built, "--prefix", target)
    return target / "lib" / "Slicer-5.12" / "qt-scripted-modules"


def names(folder):
    return {path.name for path in folder.iterdir() if path.name != "__pycache__"}


def test_everything_lands_where_slicer_looks(built, installed):
    expected = {"SemiSegModule.py", "SemiSegModuleLib", "SemiSegLib", "Resources"}
    compiled = {"SemiSegModule.pyc"}
    assert names(installed) - compiled == expected
    assert names(built / "lib" / "Slicer-5.12" / "qt-scripted-modules") - compiled == expected


def test_installed_files_are_those_of_the_repository(installed):
    def python_files(root, package):
        return {path.relative_to(root).as_posix() for path in (root / package).rglob("*.py")}

    assert python_files(installed, "SemiSegLib") == python_files(REPOSITORY, "SemiSegLib")
    module = REPOSITORY / "SemiSegModule"
    assert python_files(installed, "SemiSegModuleLib") == python_files(module, "SemiSegModuleLib")


def test_installed_module_finds_its_library_and_resources(installed, tmp_path):
    code = (
        "from SemiSegModuleLib import paths; import SemiSegLib.config, SemiSegLib.runs;"
        "print(paths.library_folder()); print(paths.resource_path('UI/SemiSegModule.ui'));"
        "print(SemiSegLib.__file__)"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    printed = run(sys.executable, "-c", code, cwd=tmp_path, env=environment).split()
    assert all(Path(path).is_relative_to(installed) for path in printed), printed


def test_self_test_is_registered(built):
    assert "py_SemiSegModule" in run("ctest", "-N", "--test-dir", built)
