"""Compare methods on your data: every cell a training of its own, one table and two pictures at the end.

python -m SemiSegLib.benchmark --data LA --splits LA/splits.json:development --dataset left-atrium
    --methods supervised mean-teacher simcvd --labelled 8 --seeds 1 2 --out RUNS --results RESULTS
python -m SemiSegLib.benchmark --results RESULTS --table-only
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from SemiSegLib import methods
from SemiSegLib.benchmark.budgets import BUDGETS
from SemiSegLib.commands import print_all_characters, program, refusal
from SemiSegLib.config import SettingsError
from SemiSegLib.errors import SemiSegError
from SemiSegLib.presets import PRESET_TITLES

TABLE = "table.md"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=program("benchmark"),
        description="Compare methods: each cell (method, labelled count, seed) is a training of its own; cells that "
        "are measured already are skipped, interrupted ones resumed.",
        epilog=f"methods: {', '.join(methods.available())}; with settings of their own as METHOD:KEY=VALUE, for "
        f"example secl:sampling=region\nRESULTS gets a JSON file for each cell, {TABLE} and PNG pictures.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("--data", type=Path, metavar="DIR", help="scans and masks, as for `semiseg train`")
    add(
        "--dataset",
        choices=list(PRESET_TITLES),
        default="custom",
        help="the task: its preset and its budget (default: custom)",
    )
    add("--splits", metavar="FILE:NAME", help="JSON file with named splits, and the one to use")
    add("--methods", nargs="+", metavar="METHOD", help="the methods to compare")
    add("--labelled", nargs="+", type=int, metavar="N", help="how many cases (patients) have their mask used")
    add("--seeds", nargs="+", type=int, default=[1, 2], metavar="N", help="one training for each (default: 1 2)")
    add("--budget", choices=list(BUDGETS), default="lite", help="lite, strong: CPUs; paper: GPUs (default: lite)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all cells; may be repeated")
    add("--device", default="auto", metavar="auto|cuda|mps|cpu", help="where to compute (default: auto)")
    add("--jobs", type=int, default=1, metavar="N", help="cells at work at once (default: 1)")
    add("--threads", type=int, metavar="N", help="CPU threads of a cell (default: the physical cores shared out)")
    add("--cache", type=Path, metavar="DIR", help="preprocessed scans, shared by all cells (default: RUNS/cache)")
    add("--out", type=Path, metavar="RUNS", help="run folders, one a cell")
    add("--results", type=Path, required=True, metavar="DIR", help="the cells' results, table and pictures")
    add("--published", action="store_true", help="add the literature's figures, with their sources, to the table")
    add("--table-only", action="store_true", help="train nothing: table and pictures of the cells in --results")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 all measured, 1 some cells failed, 2 wrong input."""
    options = parser().parse_args(arguments)
    print_all_characters()
    try:
        failures = {} if options.table_only else measure(options)
        if not failures or any(options.results.glob("*.json")):
            write_tables(options.results, options.published)
    except (SemiSegError, OSError) as raised:
        error = refusal(raised) if isinstance(raised, OSError) else raised
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    for name, message in failures.items():
        print(f"error: {name}: {message}", file=sys.stderr)
    return 1 if failures else 0


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Measure what the command line asks for; returns the cells that failed, with messages. Raises SemiSegError."""
    from SemiSegLib.benchmark.cells import Cell, Study, Variant
    from SemiSegLib.benchmark.running import Benchmark
    from SemiSegLib.train import assignments

    for name in ("data", "methods", "labelled", "out"):
        if getattr(options, name) is None:
            raise SettingsError(f"--{name} is needed (or --table-only); --help explains.")
    if options.jobs < 1:
        raise SettingsError("--jobs must be at least 1.")
    study = Study(
        data=options.data,
        dataset=options.dataset,
        splits=options.splits,
        budget=options.budget,
        overrides=assignments(options.set),
        device=options.device,
        threads=options.threads or max(1, _cores() // options.jobs),
        cache=options.cache or options.out / "cache",
    )
    variants = dict.fromkeys(Variant.parse(text) for text in options.methods)
    cells = [  # a first seed of everything before the second
        Cell(study, labelled, variant, seed)
        for seed in dict.fromkeys(options.seeds)
        for labelled in dict.fromkeys(options.labelled)
        for variant in variants
    ]
    benchmark = Benchmark(cells, options.out, options.results, options.jobs, lambda text: print(text, flush=True))
    benchmark.check()
    for folder in (options.out, options.results):  # what cannot be written is said before hours of training
        folder.mkdir(parents=True, exist_ok=True)
    benchmark.measure()
    return benchmark.failures


def write_tables(results: Path, published: bool = False) -> None:
    """Write and print the table of all cells in `results`; draw the pictures. Raises SemiSegError."""
    from SemiSegLib.benchmark import plots
    from SemiSegLib.benchmark.results import load
    from SemiSegLib.benchmark.tables import tables
    from SemiSegLib.files import write_whole

    cells = load(results)
    if not cells:
        raise SemiSegError(f"{results} holds no cell: nothing was measured yet.")
    text = tables(cells, published)
    write_whole(results / TABLE, text)
    print(f"\n{text}")
    for path in plots.draw(cells, results):
        print(path)


def _cores() -> int:
    import psutil

    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
