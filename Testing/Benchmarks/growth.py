"""How time and memory grow with the number of cases, voxels and annotations: draws growth.png beside this file.

    python Testing/Benchmarks/growth.py --cases 10 30 100 300 1000

Each point is a SimCVD training of its own with 12 iterations on synthetic scans: 40 x 40 x 32 voxels unless voxels
grow, patches of 32 x 32 x 32. Preparing and iterations are timed by the run's own records (median iteration); memory
is the peak of the training process.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import speed

from SemiSegLib.runs import RunFolder
from SemiSegLib.synthetic import make_dataset

PATCH = 32
SECONDS = {"preparing": 1, "iteration": 100}  # what is drawn of the times, and its factor
DISTINCT = 10  # scans that are drawn; more cases are copies of them under other names


def dataset(folder: Path, cases: int, labelled: int, size: tuple[int, int, int]) -> Path:
    """A data set of so many cases."""
    distinct = min(cases, DISTINCT)
    make_dataset(folder, distinct, distinct, 0, size)
    for number in range(distinct, cases):
        for part in ("images", "labels"):
            source = folder / part / f"atrium_{number % distinct + 1:03d}.nii.gz"
            shutil.copyfile(source, folder / part / f"copy_{number:04d}.nii.gz")
    (folder / "splits.json").unlink()
    for path in sorted((folder / "labels").iterdir())[labelled:]:
        path.unlink()
    return folder


def measure(folder: Path, data: Path, spacing: str, threads: int) -> dict[str, float]:
    """Peak memory (MiB), seconds of preparing and of an iteration, of a SimCVD training."""
    run = folder / "run"
    arguments = ["--data", str(data), "--out", str(run), "--method", "simcvd", "--iterations", "12", "--quiet"]
    arguments += ["--patch", ",".join([str(PATCH)] * 3), "--set", "training.log_every=1", "--device", "cpu"]
    arguments += ["--set", f"training.threads={threads}", "--set", f"data.spacing={spacing}"]
    begun = time.perf_counter()
    peak = speed.training_peak(arguments)
    events = list(RunFolder(run).history())
    iterations = sorted(event["seconds_per_iteration"] for event in events if event["event"] == "iteration")
    preparing = [event["time"] for event in events if event["event"] == "preparing"]
    return {
        "memory": peak / 2**20,
        "preparing": preparing[-1] - preparing[0],
        "iteration": iterations[len(iterations) // 2],
        "total": time.perf_counter() - begun,
    }


def sweep(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Every point of the three curves."""
    size = (40, 40, 32)
    annotated = [10, 100, 200]
    points = {
        "cases": [(count, count, 5, size) for count in options.cases],
        "annotated of 300 cases": [(count, 300, count, size) for count in annotated],
        "voxels of a scan [1000]": [(n * n * n // 1000, 10, 5, (n, n, n)) for n in options.sides],
    }
    found: dict[str, list[dict[str, Any]]] = {}
    for title, settings in points.items():
        found[title] = []
        for x, cases, labelled, voxels in settings:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
                spacing = f"{120 / voxels[0]},{120 / voxels[1]},{80 / voxels[2]}"  # of the synthetic field of view
                data = dataset(Path(temporary) / "data", cases, labelled, voxels)
                found[title].append({"x": x, **measure(Path(temporary), data, spacing, options.threads)})
            print(title, found[title][-1], flush=True)
    return found


def draw(found: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """One column a sweep; memory above, seconds below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(found), figsize=(4 * len(found), 6), sharex="col", squeeze=False)
    for (above, below), (title, points) in zip(axes.T, found.items(), strict=True):
        x = [point["x"] for point in points]
        above.plot(x, [point["memory"] for point in points], "o-", color="tab:blue")
        above.set_ylim(0, 1.2 * max(point["memory"] for point in points))
        above.set_ylabel("peak memory of training [MiB]")
        preparing, iterations = ([scale * point[key] for point in points] for key, scale in SECONDS.items())
        below.plot(x, preparing, "o-", color="tab:orange", label="preparing all scans [s]")
        below.plot(x, iterations, "s-", color="tab:green", label="100 iterations [s]")
        below.set_ylim(0, None)
        below.set_xlabel(title)
    handles, labels = below.get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=2, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.94))
    figure.savefig(file, dpi=90)


def main() -> None:
    """Measure and draw."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, nargs="+", default=[10, 30, 100, 300, 1000])
    parser.add_argument("--sides", type=int, nargs="+", default=[40, 64, 96, 128, 160])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=here / "growth.png")
    options = parser.parse_args()
    found = sweep(options)
    options.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(found, options.out)


if __name__ == "__main__":
    main()
