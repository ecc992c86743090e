"""What is missing is found and installed without importing it; real pip, a real wheel, no internet."""

import base64
import hashlib
import subprocess
import sys
import time
import types
import zipfile

import pytest
from SemiSegModuleLib.processes import dependencies
from SemiSegModuleLib.processes.dependencies import DependencyError, DeviceReport, install, is_installed, missing

PACKAGE = "semiseg_test_wheel"


@pytest.fixture
def wheels(tmp_path):
    """A folder with one wheel."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = f"{PACKAGE}-1.2.dist-info"
    files = {
        f"{PACKAGE}.py": "raise RuntimeError('nobody may import this')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.2\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"{PACKAGE}-1.2-py3-none-any.whl", "w") as wheel:
        record = ""
        for name, text in files.items():
            wheel.writestr(name, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(text)}\n"
        wheel.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return folder


@pytest.fixture
def pip(tmp_path, monkeypatch):
    """Real pip into a folder that is on the path; remembers its arguments and the constraints."""
    pytest.importorskip("pip", reason="pip is needed to install")
    target = tmp_path / "site"
    target.mkdir()
    monkeypatch.syspath_prepend(str(target))

    def run(arguments):
        run.arguments = arguments
        with open(arguments[arguments.index("--constraint") + 1], encoding="utf-8") as file:
            run.constraints = file.read()
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", target, *arguments], check=True)

    return run


def test_installs_from_a_folder_of_wheels(wheels, pip):
    needed = f"{PACKAGE}>=1.0"
    assert not is_installed(needed)
    questions = []
    install([needed], wheels, ask=lambda text: questions.append(text) or True, pip_install=pip)
    assert is_installed(needed)
    assert PACKAGE in questions[0]
    assert str(wheels) in questions[0]
    assert "--no-index" in pip.arguments
    assert PACKAGE not in sys.modules


def test_packages_of_slicer_are_pinned(wheels, pip):
    import numpy

    install([f"{PACKAGE}>=1.0"], wheels, pip_install=pip)
    assert f"numpy=={numpy.__version__}\n" in pip.constraints


def test_an_older_version_is_not_enough(wheels, pip):
    install([f"{PACKAGE}>=1.0"], wheels, pip_install=pip)
    assert is_installed(f"{PACKAGE}>=1.2")
    assert not is_installed(f"{PACKAGE}>=1.10")


def test_nothing_is_installed_unasked(wheels, pip):
    with pytest.raises(DependencyError, match=PACKAGE):
        install([f"{PACKAGE}>=1.0"], wheels, ask=lambda text: False, pip_install=pip)
    assert not hasattr(pip, "arguments")


def test_what_pip_did_not_install_is_told():
    with pytest.raises(DependencyError, match="Not installed: no_such_package"):
        install(["no_such_package>=1"], pip_install=lambda arguments: None)


def test_missing_lists_torch_first_and_reads_the_file(tmp_path, monkeypatch):
    file = tmp_path / "requirements.txt"
    file.write_text("# a comment\nnumpy>=1.0\nno_such_package>=1  # why\n")
    monkeypatch.setattr(dependencies, "TORCH", "no_such_torch>=2")
    assert missing(file) == ["no_such_torch>=2", "no_such_package>=1"]


def test_torch_comes_through_its_extension_and_stays_outside(monkeypatch):
    seen = {}

    class Logic:
        def installTorch(self, askConfirmation, torchVersionRequirement):
            seen["requirement"] = torchVersionRequirement
            assert not askConfirmation, "it was asked for already"
            monkeypatch.setattr(dependencies, "is_installed", lambda requirement: True)
            import torch  # the extension's last act

            raise AssertionError(torch)

    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=Logic))
    before = "torch" in sys.modules
    install([dependencies.TORCH])
    assert seen == {"requirement": ">=2.4"}
    assert ("torch" in sys.modules) == before


def fake_python(folder, monkeypatch, lines):
    script = folder / "python"
    script.write_text(f"#!{sys.executable}\nimport sys, time\n{lines}")
    script.chmod(0o755)
    monkeypatch.setenv("SEMISEG_PYTHON", str(script))


def test_the_window_lives_while_pip_works(mrml, qt_modules, tmp_path, monkeypatch):
    """Slicer 5.10's own pip_install freezes it for minutes."""
    fake_python(tmp_path, monkeypatch, "print(sys.argv, flush=True)\ntime.sleep(0.6)\n")
    ticks = []
    timer = qt_modules.QTimer()
    timer.setInterval(20)
    timer.connect("timeout()", lambda: ticks.append(1))
    timer.start()
    dependencies.pip_in_child(["some-package>=1"])
    timer.stop()
    assert len(ticks) > 3


def test_an_installation_that_worked_is_no_failure_because_its_log_is_held(mrml, tmp_path, monkeypatch):
    """On Windows a virus scanner that reads a file keeps it from being removed."""
    import os
    import tempfile

    def held(path, *arguments, **options):
        raise PermissionError(13, "it is open in another program", path)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fake_python(tmp_path, monkeypatch, "")
    with monkeypatch.context() as windows:
        windows.setattr(os, "unlink", held)
        dependencies.pip_in_child(["some-package>=1"])


def test_what_pip_said_is_told(mrml, tmp_path, monkeypatch):
    fake_python(tmp_path, monkeypatch, "print('looking')\nprint('ERROR: no such package')\nsys.exit(1)\n")
    with pytest.raises(DependencyError, match="pip said: ERROR: no such package"):
        dependencies.pip_in_child(["nonsense"])


def test_slicers_own_way_is_used_where_it_is_there_and_asks_nothing_again(mrml, monkeypatch):
    import slicer

    seen = []

    def pip_ensure(requirements, constraints=None, skip_packages=None, prompt_install=True, requester=None, **_others):
        seen.append((requirements, prompt_install, requester))
        monkeypatch.setattr(dependencies, "is_installed", lambda requirement: True)

    packaging = types.SimpleNamespace(pip_ensure=pip_ensure)
    monkeypatch.setattr(slicer, "packaging", packaging, raising=False)
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    questions = []
    install(["some-package>=1"], ask=lambda text: questions.append(text) or True)
    assert seen == [(["some-package>=1"], False, "SemiSeg")]
    assert len(questions) == 1


# ---- a Mac ---------------------------------------------------------------------------------------------------


@pytest.fixture
def a_mac(monkeypatch, tmp_path):
    """Slicer, an Intel program, on a Mac with Apple silicon that has no Python; a_mac(kernel) is another Mac.

    `arch` notes what it is asked for and starts the program.
    """
    from SemiSegModuleLib import paths

    monkeypatch.delenv("SEMISEG_PYTHON", raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(paths.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(paths, "NATIVE_PYTHON", tmp_path / "python" / "bin" / "python3")
    monkeypatch.setattr(paths, "NATIVE_FOLDERS", (str(tmp_path / "Versions" / "{version}" / "bin"),))
    arch = tmp_path / "arch"
    arch.write_text(f'#!/bin/sh\necho "$1 $2" >> "{tmp_path}/started"\nshift\nexec "$@"\n')
    arch.chmod(0o755)
    monkeypatch.setattr(paths, "AS_NATIVE", (str(arch), "-arm64"))

    def use(kernel="Darwin Kernel Version 23.6.0: root:xnu-10063/RELEASE_ARM64_T6000"):
        monkeypatch.setattr(paths.platform, "version", lambda: kernel)
        return paths

    return use


def never(text):
    pytest.fail(f"nothing is to be asked: {text}")


def test_an_intel_mac_cannot_train_and_says_so(a_mac):
    a_mac("Darwin Kernel Version 22.6.0: root:xnu-8796/RELEASE_X86_64")
    with pytest.raises(DependencyError, match="Intel processor"):
        install([dependencies.TORCH], ask=never)


def test_on_a_mac_without_a_native_python_it_is_said_where_to_get_one(a_mac):
    paths = a_mac()
    with pytest.raises(DependencyError, match=r"python\.org") as refusal:
        install([dependencies.TORCH], ask=never)
    assert str(paths.NATIVE_PYTHON) in str(refusal.value)
    assert not paths.python_is_named()


def test_a_native_python_that_is_there_trains(a_mac):
    paths = a_mac()
    paths.NATIVE_PYTHON.parent.mkdir(parents=True)
    paths.NATIVE_PYTHON.touch()
    assert paths.training_python() == paths.NATIVE_PYTHON
    assert paths.python_is_named()
    assert paths.command_of(paths.NATIVE_PYTHON) == [*paths.AS_NATIVE, str(paths.NATIVE_PYTHON)]
    assert len(paths.command_of(paths.NATIVE_PYTHON.with_name("PythonSlicer"))) == 1  # is an Intel program


@pytest.mark.skipif(sys.platform == "win32", reason="links and shell scripts")
def test_a_native_python_is_made_after_asking(a_mac, wheels, tmp_path, monkeypatch):
    pytest.importorskip("ensurepip", reason="venv brings pip along")
    paths = a_mac()
    base = tmp_path / "Versions" / "3.12" / "bin" / "python3.12"
    base.parent.mkdir(parents=True)
    base.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')  # the real thing, under another name
    base.chmod(0o755)
    monkeypatch.setattr(dependencies, "TORCH", f"{PACKAGE}>=1.0")
    monkeypatch.setattr(dependencies, "requirements", lambda: [])
    monkeypatch.setattr(dependencies, "IN_SLICER", ())
    with pytest.raises(DependencyError, match="By hand"):
        install([dependencies.TORCH], wheels, ask=lambda text: False)
    assert not paths.NATIVE_PYTHON.exists()
    questions = []
    install([dependencies.TORCH], wheels, ask=lambda text: questions.append(text) or True)
    assert str(base) in questions[0]
    assert PACKAGE in questions[0]
    assert paths.training_python() == paths.NATIVE_PYTHON
    shown = [str(paths.NATIVE_PYTHON), "-m", "pip", "show", PACKAGE]
    assert "Version: 1.2" in subprocess.run(shown, capture_output=True, text=True, check=True).stdout
    started = (tmp_path / "started").read_text().splitlines()
    assert started == [f"-arm64 {base}", f"-arm64 {paths.NATIVE_PYTHON}"]


def test_a_native_python_that_is_half_made_is_not_taken_for_a_whole_one(a_mac, tmp_path):
    from SemiSegModuleLib.processes import native_python

    paths = a_mac()
    base = tmp_path / "Versions" / "3.12" / "bin" / "python3.12"
    base.parent.mkdir(parents=True)
    base.touch()

    def run(module, arguments, python):
        if module == "pip":
            assert paths.python_is_named()
            raise DependencyError("no internet")
        paths.NATIVE_PYTHON.parent.mkdir(parents=True)
        paths.NATIVE_PYTHON.touch()

    with pytest.raises(DependencyError, match="no internet"):
        native_python.make(["torch"], None, lambda text: True, run)
    assert not paths.python_is_named()


def test_the_newest_native_python_that_torch_is_made_for_is_taken(a_mac, tmp_path):
    paths = a_mac()
    for version in ("3.9", "3.14", "3.11", "3.13"):
        python = tmp_path / "Versions" / version / "bin" / f"python{version}"
        python.parent.mkdir(parents=True)
        python.touch()
    assert paths.native_base().name == "python3.13"


def test_without_the_extension_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(DependencyError, match="PyTorch extension"):
        install([dependencies.TORCH])


# ---- device --------------------------------------------------------------------------------------------------


def wait_for(report):
    end = time.monotonic() + 60
    while not report.done:
        assert time.monotonic() < end
        report.poll()
        time.sleep(0.05)


def test_device_is_reported_by_a_child(tmp_path, training_python_with_torch):
    report = DeviceReport("cpu", tmp_path / "device.log", training_python_with_torch)
    wait_for(report)
    assert report.device.device == "cpu"
    assert "as asked for (PyTorch 2." in report.device.text


def test_a_device_that_is_not_there_is_told(tmp_path, training_python_with_torch):
    report = DeviceReport("cuda:99", tmp_path / "device.log", training_python_with_torch)
    wait_for(report)
    assert report.device is None
    assert "cuda:99" in report.failure.text


def test_a_python_without_torch_is_told(tmp_path):
    report = DeviceReport("auto", tmp_path / "device.log", no_torch(tmp_path))
    wait_for(report)
    assert report.failure.kind == "package"
    assert "torch" in report.failure.text


def no_torch(folder):
    """This Python, in which torch cannot be imported."""
    script = folder / "python"
    code = "import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[3:]; "
    code += "runpy.run_module(sys.argv[0], run_name='__main__')"
    script.write_text(f'#!/bin/sh\nexec \'{sys.executable}\' -c "{code}" "$@"\n')
    script.chmod(0o755)
    return script
