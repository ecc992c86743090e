"""Where the module finds its resources, its library and the Python that trains: installed, built, or a checkout."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

PYTHON_VARIABLE = "SEMISEG_PYTHON"  # wins over every other choice of interpreter
NATIVE_PYTHON = Path.home() / "SemiSeg" / "python" / "bin" / "python3"  # on a Mac, beside Slicer's own
NATIVE_FOLDERS = (
    "/Library/Frameworks/Python.framework/Versions/{version}/bin",
    "/opt/homebrew/bin",
)  # python.org first
NATIVE_VERSIONS = ("3.13", "3.12", "3.11", "3.10")
AS_NATIVE = ("/usr/bin/arch", "-arm64")  # what an Intel program starts runs as Intel, unless it is told otherwise
_MODULE_FOLDER = Path(__file__).resolve().parent.parent


def resource_path(name: str, module_folder: Path = _MODULE_FOLDER) -> Path:
    """A file of Resources/: beside the installed module, or one folder up in a checkout."""
    for root in (module_folder, module_folder.parent):
        if (root / "Resources" / name).exists():
            return root / "Resources" / name
    raise FileNotFoundError(f"SemiSeg is incomplete: Resources/{name} was not found near {module_folder}.")


def library_folder(module_folder: Path = _MODULE_FOLDER) -> Path:
    """The folder to put on the Python path so that `import SemiSegLib` works, here and in a child process."""
    for root in (module_folder, module_folder.parent):
        if (root / "SemiSegLib" / "__init__.py").exists():
            return root
    raise FileNotFoundError(f"SemiSeg is incomplete: SemiSegLib was not found near {module_folder}.")


def make_library_importable() -> None:
    """Let `import SemiSegLib` work from an unbuilt checkout, too; an installed module needs nothing."""
    if importlib.util.find_spec("SemiSegLib") is None:
        sys.path.append(str(library_folder()))


def training_python() -> Path:
    """The interpreter that trains: $SEMISEG_PYTHON, else PythonSlicer, else the Python that runs this.

    `sys.executable` alone cannot be trusted inside Slicer: it is empty, or the application itself, where Slicer did
    not find its PythonSlicer on the path.

    :raises FileNotFoundError: there is none; the message says what to do
    """
    named = os.environ.get(PYTHON_VARIABLE)
    if named:
        return _named(named)
    if slicer_is_translated() and NATIVE_PYTHON.is_file():
        return NATIVE_PYTHON
    found = next((path for path in _interpreters() if path.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"No Python was found to train with: this Slicer has no PythonSlicer. Name one (a program called python) "
            f"by the environment variable {PYTHON_VARIABLE} and start Slicer again."
        )
    return found


def python_is_named() -> bool:
    """Somebody chose another interpreter, whose packages this process cannot see."""
    return bool(os.environ.get(PYTHON_VARIABLE)) or (slicer_is_translated() and NATIVE_PYTHON.is_file())


def slicer_is_translated() -> bool:
    """Slicer for the Mac is an Intel program: PyTorch for it ended at 2.2.2, so its own Python cannot train."""
    return sys.platform == "darwin" and platform.machine() == "x86_64"


def has_apple_silicon() -> bool:
    """The Mac itself, whatever its Intel programs are told: its kernel's name says so."""
    return "ARM64" in platform.version().upper()


def native_base() -> Path | None:
    """A Python of this Mac that an environment for training can be made from; None where there is none."""
    for version in NATIVE_VERSIONS:
        for folder in NATIVE_FOLDERS:
            path = Path(folder.format(version=version)) / f"python{version}"
            if path.is_file():
                return path
    return None


def command_of(python: Path) -> list[str]:
    """How an interpreter is started: a native one on a Mac as such, any other as it is."""
    native = slicer_is_translated() and python in (NATIVE_PYTHON, native_base())
    return [*(AS_NATIVE if native else ()), str(python)]


def _named(program: str) -> Path:
    found = shutil.which(program)
    if found is None:
        raise FileNotFoundError(f"{PYTHON_VARIABLE} names {program}, which cannot be run: name a Python interpreter.")
    return Path(found)


def _interpreters() -> Iterator[Path]:
    """Where an interpreter may be, the likeliest first; nothing that would open another Slicer."""
    name = "PythonSlicer.exe" if os.name == "nt" else "PythonSlicer"
    executable, prefix = Path(sys.executable or "."), Path(sys.prefix)
    if sys.executable:
        yield executable.with_name(name)
    application = getattr(sys.modules.get("slicer"), "app", None)
    home, launcher = (getattr(application, part, "") for part in ("slicerHome", "launcherExecutableFilePath"))
    if home:
        yield Path(home) / "bin" / name
    if launcher:
        yield Path(launcher).parent / "bin" / name
    yield prefix.parent.parent / "bin" / name  # Slicer's own Python is in lib/Python
    on_path = shutil.which(name)
    if on_path:
        yield Path(on_path)
    if executable.stem.casefold().startswith("python"):
        yield executable
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    yield from ([prefix / "python.exe"] if os.name == "nt" else [prefix / "bin" / f"python{version}"])
