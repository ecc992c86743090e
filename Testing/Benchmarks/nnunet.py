"""nnU-Net v2 itself as a baseline: its code from PyPI, our scans, our scores.

    python -m venv VENV && VENV/bin/pip install torch==2.13.0 && VENV/bin/pip install nnunetv2
    python nnunet.py --python VENV/bin/python --data LA --splits LA/splits.json:development --preset left-atrium \
        --labelled 8 --spacing 1.6,1.6,1.6 --patch 48,48,32 --batch 4 --iterations 1500 --out RUN --result FILE

With --spacing and --patch nnU-Net trains at that voxel size on patches of that size, so that it can be compared with a
training of ours for as many iterations or minutes; without them it is as it plans itself. It sees the annotated scans
alone (nnU-Net knows no unlabelled ones), the last checkpoint predicts, the validation scans are scored with
SemiSegLib.evaluate on their own grids. nnU-Net mirrors its inputs when it predicts, eight passes a window, unless
--no-mirror. On a CPU it computes in fp32; --bf16 has it compute in bf16, as our trainings do. The same command goes on
with an interrupted one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from SemiSegLib.data.cases import Case, CaseList, read_case
from SemiSegLib.data.layouts import find_cases
from SemiSegLib.data.splits import apply_splits
from SemiSegLib.errors import SemiSegError
from SemiSegLib.evaluate import evaluate
from SemiSegLib.presets import PRESET_TITLES, build_settings
from SemiSegLib.runs import read_json, write_json

DATASET = "Dataset001_scans"
WORKER = Path(__file__).with_name("nnunet_worker.py")


def main() -> int:
    """Export, let nnU-Net train and predict, score; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--python", type=Path, required=True, help="Python of the environment that has nnunetv2")
    add("--data", type=Path, required=True)
    add("--splits", metavar="FILE:NAME", required=True, help="the split that names the scans to validate with")
    add("--preset", choices=list(PRESET_TITLES), default="custom", help="the task, for the names of its classes")
    add("--labelled", type=int, metavar="N", help="how many annotated cases are trained on (default: all)")
    add("--spacing", type=_numbers(float), metavar="X,Y,Z", help="voxel size, mm (default: nnU-Net's plan)")
    add("--patch", type=_numbers(int), metavar="X,Y,Z", help="patch size (default: nnU-Net's plan)")
    add("--batch", type=int, default=2, help="patches in a batch, where --patch is given (default: 2)")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--iterations", type=int)
    length.add_argument("--minutes", type=float, help="of training iterations; nothing else is counted")
    add("--seed", type=int, default=1)
    add("--device", default="cpu", help="cpu or cuda")
    add("--threads", type=int, default=1)
    add("--bf16", action="store_true", help="compute in bf16 on the CPU")
    add(
        "--processor-time",
        action="store_true",
        help="count the processor's time instead of the clock's: with --threads 1 on a machine that is not idle",
    )
    add("--no-mirror", dest="mirror", action="store_false", help="predict without mirrored inputs")
    add("--out", type=Path, required=True, help="run folder")
    add("--result", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args()
    if (options.spacing is None) != (options.patch is None):
        parser.error("--spacing and --patch belong together")
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(options.out / "lock", timeout=0):
            return run(options)
    except Timeout:
        print(f"error: another process is at work in {options.out}", file=sys.stderr)
    except SemiSegError as error:
        print(f"error: {error}", file=sys.stderr)
    return 2


def run(options: argparse.Namespace) -> int:
    """The steps, those that are done already skipped; returns the exit code, raises SemiSegError."""
    cases = apply_splits(find_cases(options.data), options.splits, options.labelled)
    task = prepare(options, cases)
    status = subprocess.run([options.python, WORKER, task], env=environment(options), check=False).returncode
    if status:
        print(f"error: nnU-Net ended with exit code {status}; the same command goes on", file=sys.stderr)
        return 1
    score(options, cases)
    return 0


def prepare(options: argparse.Namespace, cases: CaseList) -> Path:
    """The scans in nnU-Net's layout, and the file that says what to do with them."""
    raw, images = options.out / "nnUNet_raw" / DATASET, options.out / "images"
    if not (raw / "dataset.json").exists():
        for case in cases.labelled:
            export(case, raw / "imagesTr", raw / "labelsTr")
        for case in cases.validation:
            export(case, images, None)
        write_json(raw / "dataset.json", description(classes(options, cases), len(cases.labelled)))
    plan = None
    if options.patch:  # nnU-Net's axes are z, y, x
        plan = {"spacing": options.spacing[::-1], "patch": options.patch[::-1], "batch": options.batch}
    copied = ("iterations", "minutes", "seed", "device", "threads", "bf16", "mirror", "processor_time")
    task = {
        "training_scans": str(raw.resolve()),
        "preprocessed": str((options.out / "nnUNet_preprocessed" / DATASET).resolve()),
        "plan": plan,
        **{name: getattr(options, name) for name in copied},
        "images": {case.name: str((images / f"{case.name}_0000.nii.gz").resolve()) for case in cases.validation},
        "predictions": str((options.out / "predictions").resolve()),
        "report": str((options.out / "report.json").resolve()),
    }
    file = options.out / "task.json"
    if file.exists() and read_json(file) != task:
        raise SemiSegError(f"{options.out} was begun with other options or cases: name another --out")
    write_json(file, task)
    return file


def export(case: Case, images: Path, labels: Path | None) -> None:
    """One scan, and its mask, as nnU-Net names them."""
    import SimpleITK as sitk

    image, mask = read_case(case)
    images.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, images / f"{case.name}_0000.nii.gz", useCompression=True)
    if labels is not None and mask is not None:
        labels.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.Cast(mask.image, sitk.sitkUInt8), labels / f"{case.name}.nii.gz", useCompression=True)


def classes(options: argparse.Namespace, cases: CaseList) -> dict[str, int]:
    """Names and values of the classes, as the data set or else the preset names them."""
    labels = cases.labels or build_settings("supervised", options.preset).data.labels
    known = {label.name: label.value for label in labels}
    if list(known.values()) != list(range(1, len(known) + 1)):
        raise SemiSegError(f"nnU-Net wants the labels 1, 2, … without gaps; {cases.root} has {known}: name a --preset.")
    return known


def description(known: dict[str, int], count: int) -> dict[str, Any]:
    """nnU-Net's dataset.json; intensities are z-scored as it does for magnetic resonance."""
    labels = {"background": 0, **known}
    return {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": count, "file_ending": ".nii.gz"}


def environment(options: argparse.Namespace) -> dict[str, str]:
    """What nnU-Net's process finds in its environment."""
    folders = {name: str((options.out / name).resolve()) for name in ("nnUNet_raw", "nnUNet_preprocessed")}
    threads = {"OMP_NUM_THREADS": str(options.threads), "nnUNet_n_proc_DA": "1"}
    results = {"nnUNet_results": str((options.out / "nnUNet_results").resolve()), "nnUNet_def_n_proc": "1"}
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**inherited, **folders, **threads, **results}


def score(options: argparse.Namespace, cases: CaseList) -> None:
    """The result file, in the shape of those of our own cells."""
    found = evaluate(options.out / "predictions", options.data, classes(options, cases))
    predicted = {case.name for case in cases.validation}
    if found.cases.keys() != predicted:
        raise SemiSegError(f"no prediction of {', '.join(sorted(predicted - found.cases.keys()))}")
    report = read_json(options.out / "report.json")
    report.setdefault("environment", {})["device"] = options.device
    report["environment"]["precision"] = "bfloat16" if options.bf16 or options.device == "cuda" else "float32"
    scores = found.to_dict()
    settings = ("iterations", "minutes", "batch", "seed", "threads", "bf16", "mirror", "processor_time")
    write_json(
        options.result,
        {
            "format": "semiseg-benchmark-peer-1",
            "dataset": options.preset,
            "method": "nnU-Net v2",
            "split": options.splits.rpartition(":")[2],
            "labelled": len(cases.labelled),
            "cases": {"labelled": len(cases.labelled), "unlabelled": 0, "validation": len(cases.validation)},
            "plan_of": "given voxel size and patch" if options.patch else "nnU-Net",
            "settings": {name: getattr(options, name) for name in settings},
            **report,
            "validation": {"cases": scores["cases"], "summary": scores["summary"]},
        },
    )
    for name, statistics in found.summary.items():
        print(f"{name}: DSC {100 * statistics['dsc']['mean']:.2f}")


def _numbers(kind: type) -> Any:
    def read(text: str) -> list[Any]:
        values = [kind(part) for part in text.split(",")]
        if len(values) != 3:
            raise argparse.ArgumentTypeError("write X,Y,Z")
        return values

    return read


if __name__ == "__main__":
    sys.exit(main())
