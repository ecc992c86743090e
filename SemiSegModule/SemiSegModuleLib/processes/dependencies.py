"""Which Python packages training needs, what is missing, and its installation after asking. Never imports torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import logging
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import paths
from ..i18n import _
from ..paths import resource_path
from . import native_python
from .child_process import ChildProcess, LogFile
from .failures import Failure, explain

_WAIT_SECONDS = 0.05
TORCH = "torch>=2.4"
IN_SLICER = ("numpy", "scipy", "SimpleITK")  # its own Python has them, another one may not
OWN_TO_SLICER = ("numpy", "SimpleITK", "vtk")  # pip must not touch these: Slicer would break


class DependencyError(RuntimeError):
    """Something that training needs is not there and was not installed."""


def requirements(file: Path | None = None) -> list[str]:
    """The lines of Resources/requirements.txt, each `name` or `name>=version`."""
    text = (file or resource_path("requirements.txt")).read_text(encoding="utf-8")
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def missing(file: Path | None = None) -> list[str]:
    """Requirements, PyTorch first, that are not installed or too old here, in the order they are needed."""
    return [requirement for requirement in [TORCH, *requirements(file)] if not is_installed(requirement)]


def is_installed(requirement: str) -> bool:
    """Found by its metadata alone: nothing is imported."""
    name, _operator, least = requirement.partition(">=")
    try:
        version = importlib.metadata.version(name.strip())
    except importlib.metadata.PackageNotFoundError:
        return False
    return _numbers(version) >= _numbers(least)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3]]


def install(
    needed: Sequence[str],
    wheels: Path | None = None,
    ask: Callable[[str], bool] = lambda text: True,
    pip_install: Callable[[list[str]], Any] | None = None,
) -> None:
    """Install what `missing` returned, after asking.

    :param wheels: a folder of wheels to use instead of the internet
    :param ask: shows a question, returns whether to go on
    :param pip_install: takes pip's arguments; Slicer's own when not given
    :raises DependencyError: declined, not possible, or something is still missing afterwards
    """
    if not needed:
        return
    if paths.slicer_is_translated():
        wanted = [TORCH, *requirements(), *IN_SLICER]
        try:
            native_python.make(wanted, wheels, ask, _run_in_child)
        except native_python.NativePythonError as error:
            raise DependencyError(str(error)) from error
        return
    source = _("from the folder {folder}").format(folder=wheels) if wheels else _("from the internet")
    question = _("SemiSeg needs these Python packages:\n\n{packages}\n\nInstall them {source} now?")
    if not ask(question.format(packages="\n".join(needed), source=source)):
        raise DependencyError(_("Training needs {packages}.").format(packages=", ".join(needed)))
    others = list(needed)
    if TORCH in needed and wheels is None:
        _install_torch()
        others.remove(TORCH)
    if others:
        with _constraints() as constraints:
            if pip_install is None and wheels is None and _slicer_packaging() is not None:
                _slicer_packaging().pip_ensure(
                    others, constraints=str(constraints), prompt_install=False, requester="SemiSeg"
                )
            else:
                (pip_install or pip_in_child)(_pip_arguments(others, wheels, constraints))
    importlib.invalidate_caches()
    left = [requirement for requirement in needed if not is_installed(requirement)]
    if left:
        raise DependencyError(
            _("Not installed: {packages}. The Python console shows what was said.").format(packages=", ".join(left))
        )


def _pip_arguments(packages: Sequence[str], wheels: Path | None, constraints: Path) -> list[str]:
    offline = ["--no-index", "--find-links", str(wheels)] if wheels else []
    return [*packages, *offline, "--constraint", str(constraints)]


def _slicer_packaging() -> Any:
    """Slicer's own way to install, which shows what it does; None before Slicer 5.12, whose way freezes the window."""
    try:
        from slicer import packaging
    except ImportError:
        return None
    return packaging if hasattr(packaging, "pip_ensure") else None


def pip_in_child(arguments: Sequence[str]) -> None:
    """`pip install` in a child process, while the window lives; raises DependencyError with what pip said."""
    _run_in_child("pip", ["install", *arguments])


def _run_in_child(module: str, arguments: Sequence[str], python: Path | None = None) -> None:
    import slicer

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        log = LogFile(Path(folder) / f"{module}.log")
        child = ChildProcess(module, arguments, log.path, python)
        while child.running:
            for line in log.new_lines():
                logging.info("SemiSeg, %s: %s", module, line)
            slicer.app.processEvents()
            time.sleep(_WAIT_SECONDS)
        if child.exit_code:
            lines = [line for line in log.tail().splitlines() if line.strip()]
            said = [line for line in lines if line.startswith("ERROR:")] or lines[-3:]
            text = _("The packages could not be installed. {module} said: {words}")
            raise DependencyError(text.format(module=module, words=" ".join(said)))


def _install_torch() -> None:
    """Through the PyTorch extension, which chooses the build that fits the graphics card and its driver."""
    try:
        import PyTorchUtils
    except ImportError:
        raise DependencyError(
            _("Install the PyTorch extension in the Extensions Manager and restart Slicer, or name a folder of wheels.")
        ) from None
    with _without_torch():
        try:
            PyTorchUtils.PyTorchUtilsLogic().installTorch(
                askConfirmation=False, torchVersionRequirement=TORCH.removeprefix("torch")
            )
        except ImportError as error:  # its last act is to import torch, which is barred here
            logging.debug("SemiSeg: %s", error)


@contextmanager
def _without_torch():
    """Make `import torch` fail meanwhile: inside Slicer's process it has crashed Slicer."""
    before = {name: sys.modules.get(name) for name in ("torch", "torchvision")}
    sys.modules.update({name: None for name in before})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


@contextmanager
def _constraints():
    """A pip constraints file that keeps Slicer's own packages as they are."""
    lines = []
    for name in OWN_TO_SLICER:
        if importlib.util.find_spec(name) is not None:
            try:
                lines.append(f"{name}=={importlib.metadata.version(name)}")
            except importlib.metadata.PackageNotFoundError:  # built into Slicer, unknown to pip
                continue
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "constraints.txt"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield file


@dataclass(frozen=True)
class Device:
    """What training will run on, and why; memory in bytes, None where it does not apply."""

    device: str
    name: str
    reason: str
    torch_version: str
    memory: int | None = None

    @property
    def text(self) -> str:
        """One line for the panel."""
        memory = _(", {gigabytes:.0f} GB").format(gigabytes=self.memory / 1e9) if self.memory else ""
        return f"{self.reason}{memory} (PyTorch {self.torch_version})"


class DeviceReport:
    """Asks a child process which device there is, since only a child may import torch. Poll until `done`."""

    def __init__(self, setting: str, log_file: Path, python: Path | None = None) -> None:
        """Start; raises OSError when the interpreter cannot be started."""
        self.device: Device | None = None
        self.failure: Failure | None = None
        self._log = LogFile(log_file)
        self._log.skip()
        self._start = self._log.position
        self._child: ChildProcess | None = ChildProcess(
            "SemiSegLib.device_report", ["--device", setting], log_file, python
        )

    @property
    def done(self) -> bool:
        """`device` or `failure` is known."""
        return self._child is None

    def poll(self) -> None:
        """Look whether the answer is there; never waits."""
        if self._child is None or self._child.running:
            return
        exit_code, self._child = self._child.exit_code, None
        output = self._log.tail(self._start)
        answer = next((line for line in reversed(output.splitlines()) if line.startswith("{")), None)
        if exit_code == 0 and answer:
            self.device = Device(**json.loads(answer))
        else:
            self.failure = explain(output, exit_code)

    def cancel(self) -> None:
        """The answer is not wanted any more."""
        if self._child is not None:
            self._child.end()
            self._child = None
