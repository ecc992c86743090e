"""A Python of its own for training on a Mac with Apple silicon, where Slicer is an Intel program without PyTorch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from .. import paths
from ..i18n import _


class NativePythonError(RuntimeError):
    """There is no such Python and none was made; the message says what to do."""


def make(
    packages: Sequence[str],
    wheels: Path | None,
    ask: Callable[[str], bool],
    run: Callable[[str, Sequence[str], Path], None],
) -> None:
    """Make the environment `paths.NATIVE_PYTHON` belongs to from a native Python of this Mac, after asking.

    :param packages: what is installed into it
    :param wheels: a folder of wheels to use instead of the internet
    :param run: runs a Python module with arguments by an interpreter, and raises when that fails
    :raises NativePythonError: an Intel Mac, no native Python, or declined
    """
    if not paths.has_apple_silicon():
        raise NativePythonError(
            _(
                "This Mac has an Intel processor, for which PyTorch is no longer made: training and prediction need "
                "another computer. Scans can be annotated here, and masks reviewed."
            )
        )
    base, environment = paths.native_base(), paths.NATIVE_PYTHON.parent.parent
    if base is None:
        raise NativePythonError(
            _(
                "Slicer for the Mac is an Intel program, for which there is no PyTorch SemiSeg could use. Training and "
                "prediction need a native Python beside Slicer: install Python 3.10 to 3.13 from python.org, then "
                "press Check installation again. By hand, in the Terminal:\n\n{commands}"
            ).format(commands=_commands(environment, packages))
        )
    source = _("from the folder {folder}").format(folder=wheels) if wheels else _("from the internet")
    question = _(
        "Slicer for the Mac is an Intel program, for which there is no PyTorch SemiSeg could use. SemiSeg can make an "
        "environment of its own, from {base} in {environment}, and install these packages there {source}:\n\n"
        "{packages}\n\nMake it now?"
    )
    named = question.format(base=base, environment=environment, source=source, packages="\n".join(packages))
    if not ask(named):
        raise NativePythonError(
            _("Training needs a native Python. By hand, in the Terminal:\n\n{commands}").format(
                commands=_commands(environment, packages)
            )
        )
    offline = ["--no-index", "--find-links", str(wheels)] if wheels else []
    try:
        run("venv", ["--clear", str(environment)], base)
        run("pip", ["install", *packages, *offline], paths.NATIVE_PYTHON)
    except BaseException:
        shutil.rmtree(environment, ignore_errors=True)  # half made, it would be taken for a whole one
        raise


def _commands(environment: Path, packages: Sequence[str]) -> str:
    named = " ".join(f"'{requirement}'" for requirement in packages)
    return f"python3 -m venv '{environment}'\n'{paths.NATIVE_PYTHON}' -m pip install {named}"
