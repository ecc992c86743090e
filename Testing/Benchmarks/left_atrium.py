"""Compare methods on the left atrium (80 cases of the 2018 challenge) at a size that a CPU manages.

    python Testing/Benchmarks/left_atrium.py --data LA --out RUNS --results Testing/Benchmarks/results

LA holds images/, labels/ and splits.json with the section `development` (8 labelled, 16 validation cases). Every cell
is one run of `SemiSegLib.train`; finished cells are skipped, interrupted ones resumed. The scores are the run's own
report: the last model on the validation cases, on their own grids.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from SemiSegLib.report import markdown_table
from SemiSegLib.runs import RunFolder, read_json, write_json

SETTINGS = {
    "data.spacing": "1.6,1.6,1.6",
    "training.patch_size": "48,48,32",
    "training.iterations": "1500",
    "training.foreground_fraction": "0",  # uniform crops and no post-processing, as in the papers
    "inference.largest_component": "false",
}
# The papers' time constants for 6000 iterations, scaled to 1500.
METHOD_SETTINGS = {"simcvd": {"method_settings.ema_decay": "0.996"}}
METRICS = {
    "dsc": ("DSC [%]", 100),
    "jaccard": ("Jaccard [%]", 100),
    "assd_mm": ("ASSD [mm]", 1),
    "hd95_mm": ("HD95 [mm]", 1),
}


def run_cell(data: Path, out: Path, method: str, seed: int, threads: int) -> RunFolder:
    """Train one cell unless it is finished."""
    run = RunFolder(out / f"{method}-seed{seed}")
    if run.status().state == "finished":
        return run
    command = [sys.executable, "-m", "SemiSegLib.train", "--out", str(run.path)]
    if run.checkpoint.exists():
        command.append("--resume")
    else:
        settings = SETTINGS | METHOD_SETTINGS.get(method, {}) | {"training.threads": str(threads)}
        command += ["--data", str(data), "--splits", f"{data / 'splits.json'}:development", "--labelled", "8"]
        command += ["--preset", "left-atrium", "--method", method, "--seed", str(seed)]
        command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    subprocess.run(command, check=True)
    return run


def collect(run: RunFolder, results: Path) -> None:
    """Keep what a table can be rebuilt from: settings, machine, scores per case, time."""
    settings = read_json(run.settings_file)
    iterations = [event for event in run.history() if event["event"] == "iteration"]
    speeds = sorted(event["seconds_per_iteration"] for event in iterations)
    cell = {
        "method": settings["method"],
        "seed": settings["training"]["seed"],
        "median_seconds_per_iteration": speeds[len(speeds) // 2],
        "settings": settings,
        "environment": read_json(run.environment_file),
        "validation": read_json(run.report / "validation.json"),
    }
    cell["settings"]["data"]["cache"] = None
    write_json(results / f"left-atrium-{settings['method']}-seed{cell['seed']}.json", cell)


def table(results: Path) -> str:
    """All collected cells, mean of the validation cases."""
    rows = []
    for file in sorted(results.glob("left-atrium-*.json")):
        cell = read_json(file)
        scores = cell["validation"]["summary"]["left atrium"]
        values = [f"{factor * scores[metric]['mean']:.2f}" for metric, (_, factor) in METRICS.items()]
        speed = f"{cell['median_seconds_per_iteration']:.2f}"
        rows.append([cell["method"], str(cell["seed"]), *values, speed])
    return markdown_table(["method", "seed", *(title for title, _ in METRICS.values()), "s/iteration"], rows)


def main() -> None:
    """Run the cells and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=["supervised", "mean-teacher", "simcvd"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    options = parser.parse_args()
    for seed in options.seeds:
        for method in options.methods:
            collect(run_cell(options.data, options.out, method, seed, options.threads), options.results)
    print(table(options.results))


if __name__ == "__main__":
    main()
