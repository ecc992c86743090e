"""The papers' protocol on a machine with a GPU that is lent for minutes, has no network and receives 64 MiB at once.

    python gpu.py pack --data LA --splits LA/splits.json:development --labelled 8 16 --limit 40 --out PACKS
    pip install --target SITE SimpleITK nibabel monai && python gpu.py pack --packages SITE --out PACKS/packages.tar
    python gpu.py run --packs PACKS/*.tar --work WORK --results RESULTS --minutes 9       (again, until all is measured)

`pack` divides scans into files of at most --limit MiB, annotated and validation scans first, and packs what Python
packages the other machine lacks. `run` unpacks what is new into WORK, measures the speed of a training (bf16 and fp32,
eager and compiled), trains cell after cell (recipe, labelled count, method, seed; see SemiSegLib.benchmark), stops in
time with checkpoints in WORK, and goes on when it is called again. What is measured is kept in RESULTS, a small JSON
file a cell; a cell that has one is not measured again, also on another machine. Packs may come in several calls: a
training that uses unlabelled scans should not begin before the last. The default is LA as in the literature: 0.625 mm,
112x112x80, 6,000 iterations. Exit code: 0 all measured, 1 some failed, 2 wrong input, 3 time is up.
"""

from __future__ import annotations

import _thread
import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import packing
from throughput import throughput

from SemiSegLib.benchmark.budgets import BUDGETS
from SemiSegLib.errors import SemiSegError
from SemiSegLib.presets import PRESETS

RECIPES = ("published", "strong")
METHODS = (  # in order of interest, supervised training with as many patches as the others
    "supervised:training.labelled_batch=4",
    "simcvd",
    "unimatch",
    "ad-mt",
    "self-training",
    "cvrl",
    "ua-mt",
    "mean-teacher",
    "secl",
    "action",
    "bcp",
)
MEBI = 2**20
TIME_IS_UP = 3


def main() -> int:
    """Run the command line; returns the exit code."""
    options = parser().parse_args()
    try:
        return pack(options) if options.command == "pack" else run(options)
    except SemiSegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = result.add_subparsers(dest="command", required=True)
    add = commands.add_parser("pack", help="scans or packages into files to send").add_argument
    add("--data", type=Path, help="the scans and masks, as for SemiSegLib.train")
    add("--splits", metavar="FILE:NAME")
    add("--labelled", type=int, nargs="+", default=[8, 16], help="counts of annotated scans to compare")
    add("--unlabelled", type=int, metavar="N", help="at most so many of the other scans (default: all)")
    add("--limit", type=float, default=60, metavar="MIB", help="size of a part (default: 60)")
    add("--packages", type=Path, metavar="DIR", help="pack this folder of Python packages instead of scans")
    add("--out", type=Path, required=True, help="folder for the parts; with --packages, the file")
    add = commands.add_parser("run", help="unpack, measure the speed, train, score").add_argument
    add("--packs", type=Path, nargs="*", default=[], help="files to unpack; those unpacked before may be missing")
    add("--work", type=Path, required=True, help="unpacked scans, prepared scans, run folders")
    add("--results", type=Path, required=True, help="what was measured, and the tables")
    add("--minutes", type=float, default=9, help="stop with checkpoints after so many (default: 9)")
    add("--dataset", choices=list(BUDGETS["paper"]), default="left-atrium", help="the task's preset")
    add("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    add("--methods", nargs="+", default=list(METHODS), help="METHOD or METHOD:KEY=VALUE, in this order")
    add("--labelled", type=int, nargs="+", default=[8, 16])
    add("--seeds", type=int, nargs="+", default=[1])
    add("--speed", nargs="*", default=list(METHODS[:2]), metavar="METHOD", help="methods to measure the speed of")
    add("--speed-iterations", type=int, default=20, metavar="N")
    add("--modes", nargs="+", choices=("eager", "compiled"), default=["eager", "compiled"])
    add("--device", default="auto")
    add("--threads", type=int, default=os.cpu_count() or 1)
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all cells; may be repeated")
    return result


def pack(options: argparse.Namespace) -> int:
    """Write the packs and say how large they are."""
    if options.packages:
        files = [packing.pack_packages(options.packages, options.out)]
    elif options.data:
        limit = int(options.limit * MEBI)
        files = packing.pack_scans(
            options.data, options.splits, options.labelled, options.unlabelled, options.out, limit
        )
    else:
        raise SemiSegError("name --data or --packages; --help explains")
    for file in files:
        print(f"{file}: {file.stat().st_size / MEBI:.1f} MiB")
    return 0


def run(options: argparse.Namespace) -> int:
    """Unpack, measure, print."""
    deadline = time.monotonic() + 60 * options.minutes
    for file in options.packs:
        if packing.unpack(file, options.work):
            print(f"unpacked {file}", flush=True)
    use_packages(options.work / "packages")
    splits = packing.split_of(options.work)
    options.results.mkdir(parents=True, exist_ok=True)
    in_time = measure_speed(options, splits, deadline)
    failures: dict[str, str] = {}
    for recipe in options.recipes:
        in_time = in_time and measure_cells(options, recipe, splits, deadline, failures)
    text = tables(options.results)
    (options.results / "gpu.md").write_text(text, encoding="utf-8")
    print(text)
    for name, message in failures.items():
        print(f"error: {name}: {message}", file=sys.stderr)
    if not in_time:
        print("time is up; the same command goes on")
        return TIME_IS_UP
    return 1 if failures else 0


def use_packages(folder: Path) -> None:
    """Let this process and its children find the packages that came along; the machine's own come first."""
    if folder.is_dir():
        sys.path.append(str(folder))
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (before, str(folder.resolve()))))


def measure_speed(options: argparse.Namespace, splits: str, deadline: float) -> bool:
    """Add to speed.json what it lacks; False when time is up."""
    file = options.results / "speed.json"
    known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for method in options.speed:
        for mode in options.modes:
            for precision in ("bf16", "fp32"):
                name = f"{method}, {mode}, {precision}"
                if name in known:
                    continue
                if time.monotonic() > deadline:
                    return False
                cell = next(cells(options, options.recipes[0], splits, [method]))
                settings = cell.settings()
                settings.training.precision = precision
                known[name] = throughput(
                    {
                        "data": options.work / "data",
                        "splits": splits,
                        "labelled": cell.labelled,
                        "settings": settings.to_dict(),
                        "compiled": mode == "compiled",
                        "iterations": options.speed_iterations,
                    }
                )
                print(f"speed: {name}: {speed_text(known[name])}", flush=True)
                file.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return True


def measure_cells(
    options: argparse.Namespace, recipe: str, splits: str, deadline: float, failures: dict[str, str]
) -> bool:
    """Train what has no result yet; False when time is up. Failed cells are added to `failures`."""
    from SemiSegLib.benchmark.running import Benchmark

    wanted = list(cells(options, recipe, splits, options.methods))
    folders = options.work / "runs" / recipe, options.results / recipe
    benchmark = Benchmark(wanted, *folders, say=lambda text: print(f"{recipe}: {text}", flush=True))
    benchmark.check()
    left = deadline - time.monotonic()
    if left <= 0:
        return False
    # SIGTERM, since a command in the background of a shell is deaf to SIGINT.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    timer = threading.Timer(left, _thread.interrupt_main, [signal.SIGTERM])
    timer.daemon = True
    timer.start()
    try:
        benchmark.measure()  # writes a checkpoint when it is interrupted
    except KeyboardInterrupt:
        if time.monotonic() < deadline:
            raise
        return False
    finally:
        timer.cancel()
        signal.signal(signal.SIGTERM, before)
        failures.update({f"{recipe}, {name}": message for name, message in benchmark.failures.items()})
    return True


def cells(options: argparse.Namespace, recipe: str, splits: str, chosen: list[str]) -> Iterator[Any]:
    """The cells of a recipe, all methods of a labelled count and seed before the next."""
    from SemiSegLib.benchmark.cells import Cell, Study, Variant
    from SemiSegLib.train import assignments

    study = Study(
        data=options.work / "data",
        dataset=options.dataset,
        splits=splits,
        budget="paper" if recipe == "published" else recipe,
        overrides={**full_size(recipe, options.dataset), **assignments(options.set)},
        device=options.device,
        threads=options.threads,
        cache=options.work / "cache",
    )
    for seed in options.seeds:
        for labelled in options.labelled:
            for method in chosen:
                yield Cell(study, labelled, Variant.parse(method), seed)


def full_size(recipe: str, dataset: str) -> dict[str, str]:
    """Our own recipe's budget is for CPUs: voxels and patches as the preset has them, iterations as in the papers."""
    if recipe == "published":
        return {}
    preset = PRESETS[dataset]
    sizes = {key: preset[key] for key in ("data.spacing", "training.patch_size") if key in preset}
    iterations = {key: value for key, value in BUDGETS["paper"][dataset].items() if key == "training.iterations"}
    return {key: ",".join(map(str, value)) for key, value in sizes.items()} | iterations


def tables(results: Path) -> str:
    """What is measured so far, as Markdown."""
    from SemiSegLib.benchmark.results import read_result
    from SemiSegLib.report import markdown_table

    rows = []
    for file in sorted(results.glob("*/*.json")):
        cell = read_result(file)
        seconds, memory = cell["median_seconds_per_iteration"], cell["peak_device_memory_bytes"]
        rows.append(
            [
                file.parent.name,
                cell["variant"],
                str(cell["labelled"]),
                str(cell["seed"]),
                dsc(cell),
                f"{1 / seconds:.2f}" if seconds else "–",
                f"{cell['training_seconds'] / 60:.1f}",
                f"{memory / 1e9:.1f}" if memory else "–",
                f"{cell['environment']['device']}, {cell['environment']['precision']}",
            ]
        )
    header = [
        "recipe",
        "method",
        "labelled",
        "seed",
        "DSC [%]",
        "iterations/s",
        "training [min]",
        "GPU memory [GB]",
        "",
    ]
    text = markdown_table(header, rows) + "\n"
    file = results / "speed.json"
    if file.exists():
        known = json.loads(file.read_text(encoding="utf-8"))
        lines = [[*name.rsplit(", ", 2), speed_text(found)] for name, found in known.items()]
        text += "\n" + markdown_table(["method", "mode", "precision", "speed without drawing patches"], lines) + "\n"
    return text


def dsc(cell: dict[str, Any]) -> str:
    """Mean over classes of the validation scans' mean, in percent."""
    if not cell["validation"]:
        return "–"
    means = [statistics["dsc"]["mean"] for statistics in cell["validation"]["summary"].values()]
    return f"{100 * sum(means) / len(means):.2f}"


def speed_text(found: dict[str, Any]) -> str:
    """One measurement in words."""
    if "error" in found:
        return found["error"]
    memory = found.get("peak_device_memory_bytes", found.get("peak_memory_bytes"))
    where = f"{found['device']}, {found['precision']}"
    return f"{found['iterations_per_second']:.2f} iterations/s, {memory / 1e9:.1f} GB, {where}"


if __name__ == "__main__":
    sys.exit(main())
