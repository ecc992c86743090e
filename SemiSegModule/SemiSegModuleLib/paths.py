"""Where the module finds its resources, its library and the Python that trains: installed, built, or a checkout."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

PYTHON_VARIABLE = "SEMISEG_PYTHON"  # wins over every other choice of interpreter
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
    """The interpreter that trains: $SEMISEG_PYTHON, else PythonSlicer, else the one that runs this."""
    named = os.environ.get(PYTHON_VARIABLE)
    if named:
        return Path(named)
    return _python_slicer() or Path(sys.executable)


def python_is_named() -> bool:
    """Somebody chose another interpreter, whose packages this process cannot see."""
    return bool(os.environ.get(PYTHON_VARIABLE))


def _python_slicer() -> Path | None:
    home = getattr(getattr(sys.modules.get("slicer"), "app", None), "slicerHome", "")
    name = "PythonSlicer.exe" if os.name == "nt" else "PythonSlicer"
    beside = [Path(sys.executable).with_name(name)] + ([Path(home) / "bin" / name] if home else [])
    found = next((path for path in beside if path.is_file()), None) or shutil.which("PythonSlicer")
    return Path(found) if found else None
