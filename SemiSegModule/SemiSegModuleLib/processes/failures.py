"""What went wrong in a child process, in words that a clinician can act on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..i18n import _


@dataclass(frozen=True)
class Failure:
    """`kind` for the program, `title` and `advice` for the person, `detail` for whoever is asked for help."""

    kind: str
    title: str
    advice: str
    detail: str = ""

    @property
    def text(self) -> str:
        """Title and advice, as the panel shows them."""
        return f"{self.title} {self.advice}".strip()


_PATTERNS = (
    (
        "memory",
        r"out of memory|memory does not suffice|OutOfMemoryError|MemoryError|can.t allocate memory|"
        r"Cannot allocate memory|"
        r"failed to map segment|std::bad_alloc|CUBLAS_STATUS_ALLOC_FAILED|paging file is too small",
    ),
    (
        "disk",
        r"No space left on device|Errno 28|There is not enough space on the disk|WinError 112|Disk quota exceeded",
    ),
    ("package", r"(?:ModuleNotFoundError|ImportError): (?P<detail>.*)"),
    ("permission", r"PermissionError: (?P<detail>.*)"),
    ("driver", r"CUDA error: (?P<detail>.*)|no kernel image is available|NVIDIA driver"),
)

# PythonSlicer is a launcher: it turns a signal into exit code 1 and these words, which are no help to anybody.
_LAUNCHER_LINE = re.compile(r"^.*exit abnormally - Report the problem\.\s*$", re.MULTILINE)
_PYTHON_ERROR = re.compile(r"[\w.]*(Error|Exception|Warning)\b")  # an error of the program, not of its input


def explain(log: str, exit_code: int | None, message: str = "", log_file: Path | None = None) -> Failure:
    """Find out what a child process died of.

    :param log: the end of what it printed
    :param exit_code: negative: ended by that signal; None: unknown, it was not started from here
    :param message: what the child itself wrote into its status, shown as it is
    :param log_file: where that was printed: in the folder in which the child worked
    """
    if log_file is not None and not log_file.is_file():
        return Failure("folder", *_words("folder", str(log_file.parent)), detail=str(log_file.parent))
    log, killed = _LAUNCHER_LINE.subn("", log)
    exit_code = None if killed else exit_code
    for kind, pattern in _PATTERNS:
        match = re.search(pattern, f"{log}\n{message}", re.IGNORECASE)
        if match:
            detail = match.groupdict().get("detail") or match.group(0)
            return Failure(kind, *_words(kind, detail.strip()), detail=detail.strip())
    own_words = message.strip() or _error_line(log)
    if own_words and not _PYTHON_ERROR.match(own_words):
        return Failure("input", own_words, "")
    if not own_words and (exit_code is None or exit_code < 0 or exit_code in (137, 143, 0xC000013A)):
        return Failure("killed", *_words("killed", ""))
    detail = own_words or _last_line(log)
    return Failure("unknown", *_words("unknown", detail), detail=detail)


def _words(kind: str, detail: str) -> tuple[str, str]:
    return {
        "memory": (
            _("Memory ran out."),
            _(
                "Close other programs that use the graphics card, then press Resume (Train, if it had not begun); or "
                "choose a smaller patch size or a larger voxel spacing under Advanced and train anew."
            ),
        ),
        "disk": (
            _("The disk is full."),
            _(
                "Free some space on the disk of the study folder, then press Resume; or choose another folder and "
                "train anew."
            ),
        ),
        "package": (
            _("A Python package is missing: {detail}").format(detail=detail.rstrip(".") + "."),
            _("Press Check installation in the Train section to install what is missing."),
        ),
        "permission": (
            _("A file could not be written or read: {detail}").format(detail=detail.rstrip(".") + "."),
            _("Close programs that have it open, or choose a study folder that you may write to."),
        ),
        "folder": (
            _("What was in the folder {detail} is not there any more.").format(detail=detail),
            _("Connect its drive again, or choose another study folder, and start anew."),
        ),
        "driver": (
            _("The graphics card could not be used: {detail}").format(detail=detail.rstrip(".") + "."),
            _("Update its driver, press Check installation, or choose CPU as device under Advanced."),
        ),
        "killed": (
            _("The program was ended from outside before it was done."),
            _(
                "Often the computer ran out of memory, or somebody ended the process. "
                "Press Resume to go on from the last checkpoint, or Train if there is none yet."
            ),
        ),
        "unknown": (
            _("The program ended with an error: {detail}").format(detail=detail),
            _("Copy the log and send it to whoever supports you with SemiSeg."),
        ),
    }[kind]


def _error_line(log: str) -> str:
    """What a program of SemiSegLib says about bad input: a line 'error: …', or the last raised SemiSegError."""
    for line in reversed(log.strip().splitlines()):
        match = re.match(r"\s*(?:\S+: )?error: (.+)", line, re.IGNORECASE) or re.match(
            r"SemiSegLib\.[\w.]+Error: (.+)", line
        )
        if match:
            return match.group(1).strip()
    return ""


def _last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else _("no message")
