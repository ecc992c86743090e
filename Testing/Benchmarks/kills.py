"""Trainings that are killed at random moments end as those that nobody touched, byte for byte, and leave no litter.

    python Testing/Benchmarks/kills.py                               # 50 kills; about ten minutes on two cores
    python Testing/Benchmarks/kills.py --kills 3 --methods bcp --out FOLDER

Every method with stages gets at least ten kills (of the default number), the rest go to a training that starts from a
model (--init). A training is a process of its own, ended by SIGKILL: while it starts, prepares scans, trains,
validates, writes a model or checkpoint, or writes its report. The next command is --resume, or, as long as nothing was
learnt, now and then the first command again. Compared at the end: every file of the run folder by its name; models,
report, settings, cases, preprocessed scans and labels byte for byte; checkpoints tensor by tensor; the events' losses
and scores. The data are made up, the patches tiny. Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from SemiSegLib.methods import available
from SemiSegLib.presets import build_settings
from SemiSegLib.runs import RunFolder, read_json
from SemiSegLib.synthetic import make_dataset
from SemiSegLib.training.checkpoints import load_checkpoint
from SemiSegLib.training.trainer import build_method

ITERATIONS = 12
SETTINGS = {
    "training.precision": "fp32",
    "training.threads": 1,
    "training.log_every": 1,
    "training.validation_every": 4,
    "training.checkpoint_minutes": 0.0001,
}
MOMENTS = ("starting", "preparing", "training", "validating", "saving", "reporting")
PATIENCE = 900.0  # seconds that a process may take
# Times, process ids and commands differ between any two runs, and TensorBoard has a file for every start.
INCOMPARABLE = re.compile(
    r"(lock|run\.json|intent\.json|status\.json|events\.jsonl|checkpoints/last\.pt|tensorboard/.*)"
)
DATED = re.compile(r"report/index\.html")  # says when and how long


class KillError(Exception):
    """A run did not end as it should; the message says which, how and after which kills."""


@dataclass
class Scenario:
    """One training, to be done once in peace and then with kills."""

    method: str
    data: Path
    out: Path
    init: Path | None = None
    log: list[str] = field(default_factory=list)
    moments: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        """Of its folders."""
        return f"{self.method}{'-init' if self.init else ''}"

    def command(self, run: Path) -> list[str]:
        """The first start."""
        sets = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
        return [
            *(sys.executable, "-m", "SemiSegLib.train", "--data", str(self.data), "--out", str(run)),
            *("--splits", f"{self.data / 'splits.json'}:demo", "--preset", "left-atrium", "--method", self.method),
            *("--spacing", "3.75,3.75,5", "--patch", "32,16,16", "--iterations", str(ITERATIONS)),
            *("--device", "cpu", "--quiet", *sets, *(("--init", str(self.init)) if self.init else ())),
        ]

    def next_command(self, run: RunFolder, chance: random.Random) -> list[str]:
        """How a person goes on after a kill."""
        if not run.run_file.exists() or (not run.has_training() and chance.random() < 0.5):
            return self.command(run.path)
        return [sys.executable, "-m", "SemiSegLib.train", "--out", str(run.path), "--resume", "--quiet"]


def undisturbed(scenario: Scenario) -> tuple[RunFolder, float]:
    """The run that nobody kills, and the seconds until it had a state."""
    run = RunFolder(scenario.out / f"{scenario.name}-whole")
    began = time.monotonic()
    process = subprocess.Popen(scenario.command(run.path), stderr=subprocess.PIPE)
    started = began
    while process.poll() is None:
        if started == began and run.status_file.exists():
            started = time.monotonic()
        time.sleep(0.01)
    if process.returncode != 0 or process.stderr is None:
        raise KillError(f"{scenario.name}: {process.stderr.read().decode() if process.stderr else ''}")
    return run, started - began


def killed(scenario: Scenario, number: int, kills: int, starting: float, chance: random.Random) -> RunFolder:
    """A run that is killed up to so many times, then left to finish."""
    run = RunFolder(scenario.out / f"{scenario.name}-killed-{number}")
    command = scenario.command(run.path)
    for _ in range(kills):
        moment = chance.choice(MOMENTS)
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        if not _await(moment, run, process, starting, chance):
            break  # it was faster
        process.kill()
        process.communicate()
        scenario.moments[moment] += 1
        scenario.log.append(f"{moment} (then: {_reached(run)})")
        command = scenario.next_command(run, chance)
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE)
    if result.returncode != 0 and "finished all its" not in result.stderr:
        raise KillError(f"{run.path}: exit code {result.returncode}: {result.stderr}\nafter {scenario.log}")
    return run


def _await(
    moment: str, run: RunFolder, process: subprocess.Popen[bytes], starting: float, chance: random.Random
) -> bool:
    """Wait for a moment of the process; whether it still runs then."""
    if moment == "starting":
        time.sleep(chance.uniform(0, starting))
        return process.poll() is None
    seen: dict[str, Callable[[], bool]] = {
        "preparing": lambda: _state(run, process.pid) == "preparing",
        "training": _after_events(run, chance.randint(1, 2 * ITERATIONS)),
        "validating": lambda: _state(run, process.pid) == "validating",
        "saving": lambda: any(True for folder in ("models", "checkpoints") for _ in (run.path / folder).glob(".*.tmp")),
        "reporting": lambda: _state(run, process.pid) == "reporting",
    }
    deadline = time.monotonic() + PATIENCE
    while not seen[moment]():
        if process.poll() is not None:
            return False
        if time.monotonic() > deadline:
            process.kill()
            raise KillError(f"{run.path}: nothing happened for {PATIENCE:.0f} s")
        time.sleep(0.001)
    longest = {"saving": 0.01, "training": 0.2, "validating": 0.5}.get(moment, starting / 2)
    time.sleep(chance.uniform(0, longest))
    return process.poll() is None


def _state(run: RunFolder, pid: int) -> str:
    """What this very process says of itself."""
    if not run.status_file.exists():
        return ""
    status = read_json(run.status_file)
    return status["state"] if status["pid"] == pid else ""


def _after_events(run: RunFolder, count: int) -> Callable[[], bool]:
    """Whether so many bytes were written to the events as that many events have."""
    before = run.events_file.stat().st_size if run.events_file.exists() else 0
    return lambda: run.events_file.exists() and run.events_file.stat().st_size - before > 250 * count


def _reached(run: RunFolder) -> str:
    if not run.run_file.exists():
        return "nothing"
    iteration = load_checkpoint(run.checkpoint)["iteration"] if run.checkpoint.exists() else 0
    return f"{run.status().state}, checkpoint of {iteration}"


def differences(run: RunFolder, whole: RunFolder) -> Iterator[str]:
    """What the two run folders have otherwise."""
    ours, theirs = _files(run.path), _files(whole.path)
    yield from (f"{name} is litter" for name in sorted(ours - theirs))
    yield from (f"{name} is missing" for name in sorted(theirs - ours))
    for name in sorted(ours & theirs):
        comparable = not INCOMPARABLE.fullmatch(name) and not DATED.fullmatch(name)
        if comparable and (run.path / name).read_bytes() != (whole.path / name).read_bytes():
            yield f"{name} differs"
    if not _equal(load_checkpoint(run.checkpoint), load_checkpoint(whole.checkpoint)):
        yield "the checkpoint differs"
    if _told(run) != _told(whole):
        yield "the events' losses or scores differ"
    if run.status().state != "finished" or run.is_locked():
        yield f"its state is {run.status().state}"


def _files(folder: Path) -> set[str]:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith("tensorboard/")}


def _equal(one: Any, other: Any) -> bool:
    """Whether two checkpoints hold the same values, tensors bit by bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other or (one != one and other != other)  # NaN: a score that does not exist


def _told(run: RunFolder) -> list[tuple[Any, ...]]:
    history = run.history()
    losses = [
        (e["iteration"], e["total"], e["losses"], e["learning_rate"]) for e in history if e["event"] == "iteration"
    ]
    return losses + [(e["iteration"], e["dsc"], e["cases"]) for e in history if e["event"] == "validation"]


def staged_methods() -> list[str]:
    """Methods that train in several stages."""
    made = {}
    for name in available():
        made[name] = build_method(build_settings(name, "left-atrium", overrides={"training.patch_size": (32, 16, 16)}))
    return [name for name, method in made.items() if len(method.stages) > 1]


def show(scenario: Scenario, kills: int, chance: random.Random) -> bool:
    """Kill the scenario's trainings so many times in all; whether every one of them ended like the undisturbed one."""
    whole, starting = undisturbed(scenario)
    print(f"{scenario.name}: undisturbed, had a state after {starting:.1f} s", flush=True)
    number, good = 0, True
    while scenario.moments.total() < kills:
        before = len(scenario.log)
        run = killed(scenario, number, min(5, kills - scenario.moments.total()), starting, chance)
        found = list(differences(run, whole))
        good = good and not found
        number += 1
        verdict = "; ".join(found) or "byte-equal, no litter"
        print(f"{scenario.name} {number}: killed {', '.join(scenario.log[before:]) or 'never'}: {verdict}", flush=True)
    return good


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 all equal, 1 some run was not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="in all (default: 50)")
    parser.add_argument("--methods", nargs="+", help="default: all with stages, and one that starts from a model")
    parser.add_argument("--out", type=Path, help="folder of the runs (default: a temporary one)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args(arguments)
    out = options.out or Path(tempfile.mkdtemp(prefix="semiseg-kills-"))
    data = make_dataset(out / "data", cases=6, labelled=2, validation=1, size=(32, 32, 16))
    scenarios = [Scenario(method, data, out) for method in options.methods or staged_methods()]
    if not options.methods:
        model = undisturbed(Scenario("supervised", data, out))[0].last_model
        scenarios.append(Scenario("mean-teacher", data, out, model))
    chance, good, left = random.Random(options.seed), True, options.kills
    for index, scenario in enumerate(scenarios):
        kills = left if index == len(scenarios) - 1 else max(1, options.kills // len(scenarios))
        good = show(scenario, kills, chance) and good
        left -= scenario.moments.total()
    moments = sum((scenario.moments for scenario in scenarios), Counter[str]())
    print(
        f"{moments.total()} kills: {', '.join(f'{count} {moment}' for moment, count in moments.items())}; runs: {out}"
    )
    print("all runs ended as the undisturbed ones" if good else "NOT ALL RUNS ENDED AS THE UNDISTURBED ONES")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
