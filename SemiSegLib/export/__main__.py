"""Write a trained model for other programs: a MONAI bundle, TorchScript or ONNX.

python -m SemiSegLib.export RUN BUNDLE
python -m SemiSegLib.export left-atrium-lge model.ts --format torchscript
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from SemiSegLib.commands import program, run_command
from SemiSegLib.models import WHICH, WHICH_HELP

FORMATS = {
    "bundle": "a folder for MONAI: everything from a scan to its mask",
    "torchscript": "the network alone, a .ts file",
    "onnx": "the network alone, a .onnx file (needs the packages onnx and onnxscript)",
}


def export(source: Path, target: Path, format: str = "bundle", which: str = "last") -> None:
    """Write the model of a run folder (`which` of its models), file or name as one of FORMATS. Raises SemiSegError."""
    from SemiSegLib.export.bundle import save_bundle
    from SemiSegLib.export.network import ExportError, save_onnx, save_torchscript
    from SemiSegLib.models import load_model, model_file, refuse_to_replace

    writers = {"bundle": save_bundle, "torchscript": save_torchscript, "onnx": save_onnx}
    if format not in writers:
        raise ExportError(f"There is no format '{format}'; there are: {', '.join(FORMATS)}.")
    refuse_to_replace(model_file(source, which), target)
    writers[format](load_model(source, which), target)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    formats = "\n".join(f"  {name:12} {text}" for name, text in FORMATS.items())
    result = argparse.ArgumentParser(
        prog=program("export"),
        description="Write a trained model so that it gives its masks without SemiSeg.",
        epilog=f"formats:\n{formats}\n\n`semiseg models export` writes SemiSeg's own file, to share among its users.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("model", type=Path, metavar="RUN|FILE|NAME", help="run folder, file or name")
    add("target", type=Path, metavar="OUT", help="the folder or file to write")
    add("--format", choices=list(FORMATS), default="bundle", help="what to write (default: bundle)")
    add("--which", choices=WHICH, default="last", help=WHICH_HELP)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 wrong input."""
    options = parser().parse_args(arguments)

    def work() -> None:
        export(options.model, options.target, options.format, options.which)
        print(options.target)

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
