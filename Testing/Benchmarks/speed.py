"""Time and memory on this machine, beside the code that the literature's numbers come from, in turn and in one run.

    git clone https://github.com/yulequan/UA-MT
    python Testing/Benchmarks/speed.py --data LA --peer UA-MT --model RUN

LA holds images/ and labels/ of the 2018 Atrial Segmentation Challenge (80 training cases). `--model` names a trained
V-Net whose DSC is compared in both window loops; without it random weights are used. `--only iteration predict`
measures some of the rows. Everything else should rest meanwhile. How time and memory grow: growth.py.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import ours
import peer

from SemiSegLib.config import InferenceSettings
from SemiSegLib.report import markdown_table


@dataclass(frozen=True)
class Row:
    """One figure: ours, what it is compared with, and what is to be reached."""

    what: str
    ours: str
    other: str
    ratio: float
    limit: float
    higher_is_better: bool = False
    unit: str = ""

    def cells(self) -> list[str]:
        """The row as text."""
        holds = self.ratio >= self.limit if self.higher_is_better else self.ratio <= self.limit
        sign = ">=" if self.higher_is_better else "<="
        return [
            self.what,
            self.ours,
            self.other,
            f"{self.ratio:.3g}{self.unit}",
            f"{sign} {self.limit:.3g}{self.unit}",
            "yes" if holds else "no",
        ]


class Bench:
    """The options and the worker processes, started when first asked for."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options, self.work = options, work
        self._workers: dict[str, ProcessPoolExecutor] = {}

    def ours(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function of ours.py in this project's worker."""
        o = self.options
        return self._run(
            "ours", ours.start, (o.data, self.work, o.device, o.threads, o.processor_time), function, arguments
        )

    def peer(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function of peer.py in the peer's worker."""
        o = self.options
        return self._run("peer", peer.start, (o.peer, o.device, o.threads, o.processor_time), function, arguments)

    def _run(self, name: str, start: Any, settings: Any, function: Callable[..., Any], arguments: Any) -> Any:
        if name not in self._workers:
            context = get_context("spawn")
            self._workers[name] = ProcessPoolExecutor(1, mp_context=context, initializer=start, initargs=settings)
        return self._workers[name].submit(function, *arguments).result()

    def in_turn(self, first: Callable[[], float], second: Callable[[], float]) -> tuple[list[float], list[float]]:
        """Seconds of both, one after the other, `repeats` times; ours has a first call that is not counted.

        It brings in the data; the peer's, eight times longer, would not be noticed.
        """
        first()
        pairs = [(first(), second()) for _ in range(self.options.repeats)]
        return [a for a, _ in pairs], [b for _, b in pairs]

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers.values():
            worker.shutdown()


def iteration(bench: Bench) -> list[Row]:
    """One UA-MT iteration on 2 + 2 patches of 112 x 112 x 80, on the same voxels."""
    images, masks = bench.ours(ours.batch, "ua-mt", 2, 2)
    mine, theirs = bench.in_turn(
        lambda: bench.ours(ours.iteration, "ua-mt", 2, 2), lambda: bench.peer(peer.iteration, images, masks)
    )
    return [_times("UA-MT iteration, 2 + 2 patches of 112x112x80", mine, theirs, "peer", 0.2)]


def simcvd(bench: Bench) -> list[Row]:
    """SimCVD against supervised training on as many patches."""
    mine, plain = bench.in_turn(
        lambda: bench.ours(ours.iteration, "simcvd", 2, 2), lambda: bench.ours(ours.iteration, "supervised", 4, 0)
    )
    return [_times("SimCVD iteration, 2 + 2, against supervised, 4 labelled", mine, plain, "supervised", 1.4)]


def predict(bench: Bench) -> list[Row]:
    """One scan, same weights: the default settings against the papers' windows in the peer's loop."""
    model = bench.options.model
    weights = bench.ours(ours.weights, model)
    image = bench.ours(ours.case_on_grid, bench.options.case)
    masks: dict[str, Any] = {}

    def mine(inference: InferenceSettings | None = None) -> float:
        seconds, masks["ours"] = bench.ours(ours.predict, bench.options.case, model, inference)
        return seconds

    def theirs() -> float:
        seconds, masks["peer"] = bench.peer(peer.predict, image, weights)
        return seconds

    mine()
    pairs = [(mine(), theirs(), mine()) for _ in range(min(2, bench.options.repeats))]
    fast, slow = [t for first, _, second in pairs for t in (first, second)], [seconds for _, seconds, _ in pairs]
    size = "x".join(map(str, image.shape))
    rows = [_times(f"prediction of one case ({size} voxels), default settings", fast, slow, "peer", 0.05)]
    if model is not None:
        scores = {name: bench.ours(ours.score, bench.options.case, mask) for name, mask in masks.items()}
        rows.append(
            Row(
                "DSC of that case, below the peer's by",
                f"{scores['ours']:.2f}",
                f"{scores['peer']:.2f} (peer)",
                scores["peer"] - scores["ours"],
                0.1,
                unit=" points",
            )
        )
    for name, inference in {
        "overlap=0.25": InferenceSettings(overlap=0.25),
        "window=whole": InferenceSettings(window="whole"),
    }.items():
        seconds = [mine(inference) for _ in range(3)]
        rows.append(_times(f"the same with inference.{name}", seconds, slow, "peer", 0.05))
        if model is not None:
            score = bench.ours(ours.score, bench.options.case, masks["ours"])
            rows[-1] = Row(**{**vars(rows[-1]), "ours": f"{rows[-1].ours}, DSC {score:.2f}"})
    return rows


def limit(bench: Bench) -> list[Row]:
    """A bare forward pass and a whole prediction as shares of what the machine's matrix product manages."""
    operations = bench.ours(ours.operations)
    rate = max(bench.ours(ours.matrix_rate) for _ in range(2))
    forward = bench.ours(ours.forward_seconds)
    seconds, windows = min(bench.ours(ours.predict_windows, bench.options.case) for _ in range(3))
    rate = max(rate, bench.ours(ours.matrix_rate))
    other = f"{rate / 1e9:.0f} GFLOP/s (matrix product)"
    return [
        Row(what, f"{work / took / 1e9:.0f} GFLOP/s", other, 100 * work / took / rate, 50, True, " %")
        for what, work, took in (
            (f"a bare forward pass of {operations / 1e9:.1f} GFLOP", operations, forward),
            (f"prediction of one case, {windows:.1f} times that", operations * windows, seconds),
        )
    ]


def waiting(bench: Bench) -> list[Row]:
    """Share of a training's time that is spent waiting for patches, files read for the first time."""
    found = bench.ours(ours.waiting, "simcvd", bench.options.waits)
    share = 100 * found["waiting"] / (found["waiting"] + found["computing"])
    return [
        Row(
            f"waiting for data, 80 cases, first {bench.options.waits} iterations of SimCVD",
            f"{found['waiting'] / (bench.options.waits - 1):.3f} s",
            f"{found['iteration']:.2f} s (iteration)",
            share,
            3,
            unit=" %",
        ),
        Row(
            "drawing a batch (in a thread of its own), mean of the first epoch",
            f"{found['drawing']:.3f} s",
            f"{found['iteration']:.2f} s (iteration)",
            100 * found["drawing"] / found["iteration"],
            100,
            unit=" %",
        ),
    ]


def memory(bench: Bench) -> list[Row]:
    """Peak of a training process of its own, all 80 cases."""
    options = bench.options
    command = ["--data", str(options.data), "--out", str(bench.work / "memory-run"), "--labelled", "16"]
    command += ["--preset", "left-atrium", "--method", "ua-mt", "--iterations", "3", "--device", options.device]
    command += ["--set", f"data.cache={bench.work / 'cache'}", "--set", f"training.threads={options.threads}"]
    peak = training_peak([*command, "--quiet"])
    gib = 2**30
    what = "memory in training (UA-MT, 2 + 2), 80 cases, peak of the process"
    return [Row(what, f"{peak / gib:.2f} GiB", "-", peak / gib, 8, unit=" GiB")]


def training_peak(arguments: Sequence[str]) -> int:
    """Largest resident memory, bytes, of a `SemiSegLib.train` process; mapped files that are in memory count."""
    import psutil

    process = subprocess.Popen([sys.executable, "-m", "SemiSegLib.train", *arguments])
    peak, watched = 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.02)
    if process.wait():
        raise SystemExit(f"the training {' '.join(arguments)} failed")
    return peak


def metrics(bench: Bench) -> list[Row]:
    """HD95 and ASSD against medpy's, distance maps against SciPy's, on a mask and the same mask moved and thickened."""
    found = bench.ours(ours.metrics, bench.options.case, bench.options.repeats)
    return [
        _times("HD95 and ASSD of one case", found["ours"], found["medpy"], "medpy", 1 / 3),
        Row("largest difference of the two", f"{found['difference']:.1e}", "0 (medpy)", found["difference"], 1e-6),
        _times("distance map of one case", found["sdm"], found["scipy"], "scipy", 1),
        Row(
            "distance maps made while 20 batches are drawn",
            str(found["made"]),
            "once per case, when it is prepared",
            found["made"],
            0,
        ),
    ]


def startup(bench: Bench) -> list[Row]:
    """Start of the command line and of what 3D Slicer's process imports."""
    names = ("methods", "config", "runs", "models", "synthetic", "errors")
    names += ("data.cases", "data.images", "data.segnrrd")
    imports = "; ".join(f"import SemiSegLib.{name}" for name in names)
    check = "import sys; assert 'torch' not in sys.modules"
    bare: list[float] = []
    helped: list[float] = []
    imported: list[float] = []

    def now() -> float:
        return sum(os.times()[2:4]) if bench.options.processor_time else time.perf_counter()  # children's

    for _ in range(5):
        for seconds, command in (
            (bare, ["-c", "pass"]),
            (helped, ["-m", "SemiSegLib.train", "--help"]),
            (imported, ["-c", f"{imports}; {check}"]),
        ):
            start = now()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            seconds.append(now() - start)
    interpreter = f"{min(bare):.2f} s (bare interpreter)"
    own = min(imported) - min(bare)
    return [
        Row("python -m SemiSegLib.train --help", f"{min(helped):.2f} s", interpreter, min(helped), 1, unit=" s"),
        Row("imports of the Slicer module, without PyTorch", f"{own:.2f} s", interpreter, own, 0.3, unit=" s"),
    ]


def _times(what: str, mine: Sequence[float], others: Sequence[float], name: str, limit: float) -> Row:
    """Medians; the range of what was measured in brackets."""

    def text(seconds: Sequence[float]) -> str:
        return f"{statistics.median(seconds):.3g} s [{min(seconds):.3g}-{max(seconds):.3g}]"

    ratio = statistics.median(mine) / statistics.median(others)
    return Row(what, text(mine), f"{text(others)} ({name})", ratio, limit)


ROWS = {
    function.__name__: function for function in (iteration, simcvd, predict, limit, waiting, memory, metrics, startup)
}
NEED_PEER = ("iteration", "predict")


def print_profile(bench: Bench) -> None:
    """The largest costs of an iteration and of a prediction."""
    for title, shares in (
        ("UA-MT iteration", bench.ours(ours.profile, "ua-mt", 2, 2)),
        ("SimCVD iteration", bench.ours(ours.profile, "simcvd", 2, 2)),
        ("prediction", bench.ours(ours.profile_prediction, bench.options.case)),
    ):
        print(f"{title}: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares), flush=True)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with images/ and labels/")
    parser.add_argument("--peer", type=Path, help="checkout of yulequan/UA-MT")
    parser.add_argument("--model", type=Path, help="trained V-Net (run folder or file)")
    parser.add_argument("--case", type=int, default=0, help="number of the case to predict, in order of names")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="count the processor's time instead of the clock's: with --threads 1 on a machine that is not idle",
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--waits", type=int, default=8, help="iterations over which waiting is measured")
    parser.add_argument("--work", type=Path, help="folder for prepared cases; kept, so that the next run is shorter")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--profile", action="store_true", help="also print the largest costs")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args()
    if options.peer is None and set(options.only) & set(NEED_PEER):
        parser.error("--peer is needed to measure " + ", ".join(NEED_PEER))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        bench = Bench(options, work)
        print(f"{platform.platform()}, {os.cpu_count()} cores; {bench.ours(ours.reason)}", end="")
        print(
            f"; {options.threads or os.cpu_count()} threads, processor time" if options.processor_time else "",
            flush=True,
        )
        rows = []
        for name in options.only:
            found = [row.cells() for row in ROWS[name](bench)]
            print("\n".join(" | ".join(cells) for cells in found), file=sys.stderr, flush=True)
            rows += found
        print(markdown_table(["what", "ours", "other", "ratio or figure", "to reach", "holds"], rows))
        if options.profile:
            print_profile(bench)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        bench.close()


if __name__ == "__main__":
    main()
