"""What is kept of a finished cell: one small JSON file from which every table can be rebuilt.

It holds what was measured (data set, split, labelled count, method, variant, seed, budget), a digest of the scans and
masks in their parts, the complete settings, the environment (versions, device), the time and memory of the training,
and the scores of every validation case. It names no folder of the machine.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from SemiSegLib.benchmark.cells import Cell, comparable, differences
from SemiSegLib.errors import SemiSegError
from SemiSegLib.runs import RunFolder, read_json, write_json

FORMAT = "semiseg-benchmark-cell-1"
IDENTITY = ("dataset", "split", "budget", "labelled", "variant", "seed")

CellResult = dict[str, Any]


def collect(cell: Cell, run: RunFolder) -> CellResult:
    """The result of a finished run; `validation` is None when the split holds no cases to validate with."""
    settings = read_json(run.settings_file)
    settings["data"]["cache"] = None
    cases = read_json(run.cases_file)
    scores = run.report / "validation.json"
    return {
        "format": FORMAT,
        **identity(cell),
        "method": cell.variant.method,
        "cases": {part: len(cases[part]) for part in ("labelled", "unlabelled", "validation")},
        "digest": cases["fingerprint"]["digest"],
        "settings": settings,
        "environment": read_json(run.environment_file),
        **training_time(run),
        **peak_memory(run),
        "validation": read_json(scores) if scores.exists() else None,
    }


def identity(cell: Cell) -> dict[str, Any]:
    """What the cell's measurement is told apart by."""
    study = cell.study
    values = (study.dataset, study.split, study.budget, cell.labelled, cell.variant.text, cell.seed)
    return dict(zip(IDENTITY, values, strict=True))


def result_file(results: Path, cell: Cell) -> Path:
    """Where the cell's result is kept."""
    return results / f"{cell.name}.json"


def save(results: Path, cell: Cell, result: CellResult) -> None:
    """Write the cell's file whole."""
    write_json(result_file(results, cell), result)


def load(results: Path) -> list[CellResult]:
    """All cells of a folder, by name; raises SemiSegError for a file that is none."""
    return [read_result(file) for file in sorted(results.glob("*.json"))]


def read_result(file: Path) -> CellResult:
    """One cell; raises SemiSegError naming the file."""
    content = read_json(file)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise SemiSegError(f"{file} is not a cell of a benchmark of this version: move it out of the results' folder.")
    return content


def measured_otherwise(cell: Cell, result: Mapping[str, Any], digest: str) -> str:
    """What a stored result has otherwise than the cell wants it; '' when it is the cell's own.

    `digest` is that of the cell's cases, see `data.cases.fingerprint`; results of earlier versions have none.
    """
    wanted = identity(cell)
    unlike = [key for key in IDENTITY if result[key] != wanted[key]]
    unlike += ["set of scans and masks"] if result.get("digest", digest) != digest else []
    return ", ".join(unlike or differences(cell.settings().to_dict(), result["settings"]))


def recipe(result: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that make cells comparable: seeds of one recipe may be averaged."""
    return comparable(result["settings"])


def training_time(run: RunFolder) -> dict[str, float | None]:
    """Seconds of all iterations together (validation, preparation and lost iterations not counted), and of one."""
    total, speeds, before = 0.0, [], 0
    for event in run.history():
        if event["event"] == "iteration":
            speeds.append(event["seconds_per_iteration"])
            total += event["seconds_per_iteration"] * (event["iteration"] - before)
            before = event["iteration"]
    median = statistics.median(speeds) if speeds else None
    return {"training_seconds": total, "median_seconds_per_iteration": median}


def peak_memory(run: RunFolder) -> dict[str, int | None]:
    """Most bytes the training held, in main memory and on the GPU: the largest of its processes if it was resumed."""
    checkpoints = [event for event in run.events() if event["event"] == "checkpoint"]
    return {
        f"{key}_bytes": max((checkpoint[key] for checkpoint in checkpoints if key in checkpoint), default=None)
        for key in ("peak_memory", "peak_device_memory")
    }
