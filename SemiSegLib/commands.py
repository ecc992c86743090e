"""The commands of SemiSeg's command line: `semiseg NAME` is `python -m MODULE`; a new command is one line here."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from SemiSegLib.errors import SemiSegError


@dataclass(frozen=True)
class Command:
    """A module with `main(arguments) -> exit code`, and what it does in one line."""

    module: str
    summary: str


COMMANDS = {
    "train": Command("SemiSegLib.train", "train on scans of which a few are annotated; --demo shows it all"),
    "predict": Command("SemiSegLib.predict", "masks, distance maps and probabilities of scans from a trained model"),
    "evaluate": Command("SemiSegLib.evaluate", "score masks against reference masks"),
    "report": Command("SemiSegLib.summarise", "write a run's report anew: scores, curves, pictures, one page"),
    "quality": Command("SemiSegLib.quality", "the DSC to expect of a model's masks, with an interval"),
    "suggest": Command("SemiSegLib.suggest", "which scans, and which of their slices, to annotate next"),
    "refine": Command("SemiSegLib.refine", "the mask of one scan follows strokes drawn on it; the rest stays"),
    "benchmark": Command("SemiSegLib.benchmark.__main__", "compare methods on your data: one table, resumable"),
    "models": Command("SemiSegLib.models", "list the models that have a name; write a run's model to share it"),
    "export": Command("SemiSegLib.export.__main__", "a model for other programs: MONAI bundle, TorchScript, ONNX"),
    "devices": Command("SemiSegLib.device_report", "say as JSON where training would compute, and why"),
}


def program(name: str) -> str:
    """How the command `name` was started, for its usage line: as `semiseg`, by the package, or as a module."""
    started = Path(sys.argv[0])
    if started.stem == "semiseg":
        return f"semiseg {name}"
    if started.name == "__main__.py" and started.parent.name == "SemiSegLib":
        return f"python -m SemiSegLib {name}"
    return f"python -m {COMMANDS[name].module.removesuffix('.__main__')}"


def add_computing_options(parser: argparse.ArgumentParser) -> None:
    """Options of every command that computes with a trained model, and may be started by a program that watches it."""
    add = parser.add_argument
    add("--device", default="auto", metavar="auto|cuda|mps|cpu", help="where to compute (default: auto)")
    add("--json-progress", action="store_true", help="print one JSON object a line, for programs")
    add("--attached", action="store_true", help="for programs: end when standard input is closed, share no folder")


def file_to_write(text: str) -> Path:
    """An argument of a command that names a file to write; refused before the work is done where that cannot be."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder: name a file in it")
    there = next((folder for folder in path.absolute().parents if folder.exists()), None)
    if there is None:  # a drive of Windows
        raise argparse.ArgumentTypeError(f"{path}: there is no {path.absolute().anchor}, name another place")
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise argparse.ArgumentTypeError(f"{path}: nothing can be written in {there}, name another place")
    return path


def print_all_characters() -> None:
    """From now on what is printed may have characters that the output has not, such as a scan's name: they are escaped
    instead of ending the command. On Windows a file or another program gets those of one region alone."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def refusal(error: OSError) -> SemiSegError:
    """What the system refused, for people; the error itself where it names no file, as that is no input's fault, unless
    the disk is full: then the system names none."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f"{error.filename}: " if error.filename else ""
        return SemiSegError(f"{where}{error.strerror}. Make room where the results go, then start again.")
    if error.filename is None:
        raise error
    return SemiSegError(f"{error.filename}: {error.strerror}. Name another place, or make room there.")


def _nobody_reads() -> bool:
    """Whether standard output leads nowhere any more; from then on what is left in it goes there without a word."""
    try:
        print(flush=True)  # an empty line: what could not be written is forgotten, so that flushing alone succeeds
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def run_command(work: Callable[[], int | None], json_progress: bool = False) -> int:
    """Do a command's work and return its exit code: that of `work` (None is 0), 130 when interrupted, and that of a
    SemiSegError (2, wrong input, unless its class says otherwise), whose message is printed, not raised. So is that of
    a file or folder that the system refuses (2). Where nobody reads what is printed any more (`| head`), 141, as shells
    count that.

    `json_progress`: the message is also printed as a JSON object, for programs that read the output.
    """
    print_all_characters()
    try:
        code = work() or 0
        print(end="", flush=True)  # here, not at the end of the process, where a broken pipe is a complaint
        return code
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        return 141
    except (SemiSegError, OSError) as raised:
        error = refusal(raised) if isinstance(raised, OSError) else raised
        if json_progress:
            print(json.dumps({"event": "error", "message": str(error)}), flush=True)
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
