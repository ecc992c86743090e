"""The commands of SemiSeg's command line: `semiseg NAME` is `python -m MODULE`; a new command is one line here."""

from __future__ import annotations

import json
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


def run_command(work: Callable[[], int | None], json_progress: bool = False) -> int:
    """Do a command's work and return its exit code: that of `work` (None is 0), 130 when interrupted, and that of a
    SemiSegError (2, wrong input, unless its class says otherwise), whose message is printed, not raised.

    `json_progress`: the message is also printed as a JSON object, for programs that read the output.
    """
    try:
        return work() or 0
    except SemiSegError as error:
        if json_progress:
            print(json.dumps({"event": "error", "message": str(error)}), flush=True)
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
