"""Write the report of a run anew, from its last model: scores, curves, pictures and the page report/index.html.

python -m SemiSegLib.summarise RUN
python -m SemiSegLib.summarise RUN --strips all        # every unlabelled case on the page, however many there are
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from SemiSegLib.commands import program, run_command
from SemiSegLib.config import Settings, SettingsError
from SemiSegLib.runs import RunError, RunFolder, read_json


def summarise_run(path: Path, strips: int | None, device: str | None = None, data: Path | None = None) -> Path:
    """Write RUN/report with so many unlabelled cases on its page (None: all); returns the page. Raises SemiSegError."""
    run = RunFolder.open(path)
    if not run.last_model.exists():
        raise RunError(f"{path} has no model yet: train first, or wait for its first checkpoint.")
    from SemiSegLib.compute.devices import compute_to_predict
    from SemiSegLib.training.intent import load_cases
    from SemiSegLib.training.summary import write_summary

    training = Settings.from_dict(read_json(run.settings_file)).training
    compute = compute_to_predict(device or training.device, training.precision, training.threads)
    with run.lock():
        write_summary(run, load_cases(run, data), compute, strips)
    return run.report / "index.html"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=program("report"),
        description="Write a run's report anew from its last model: scores of the validation cases, curves, pictures "
        "and report/index.html, one page that opens offline.",
    )
    add = result.add_argument
    add("run", type=Path, metavar="RUN", help="the run folder")
    add("--strips", default="12", metavar="N|all", help="unlabelled cases with a picture on the page (default: 12)")
    add("--device", metavar="auto|cuda|mps|cpu", help="where to compute (default: as the training)")
    add("--data", type=Path, metavar="DIR", help="where the scans are now, if they moved")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 wrong input."""
    options = parser().parse_args(arguments)

    def work() -> None:
        if options.strips != "all" and not options.strips.isdigit():
            raise SettingsError(f"--strips {options.strips}: a number of cases, or all.")
        strips = None if options.strips == "all" else int(options.strips)
        print(summarise_run(options.run, strips, options.device, options.data))

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
