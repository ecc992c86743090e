"""The built-in demonstration: synthetic scans, a short training by the default method, predictions, scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from SemiSegLib.presets import build_settings
from SemiSegLib.runs import RunFolder

# A length and a resolution that two CPU cores manage in minutes.
_SETTINGS: dict[str, Any] = {
    "training.iterations": 360,
    "training.patch_size": (48, 48, 32),
    "data.spacing": (2.0, 2.0, 2.0),
    "training.validation_every": 120,
}


def run_demo(
    folder: Path, train: Callable[..., RunFolder], overrides: Mapping[str, Any] | None = None, quiet: bool = False
) -> RunFolder:
    """Make FOLDER/data, train in FOLDER/run, predict into FOLDER/predictions, score FOLDER/scores.json.

    `train` is SemiSegLib.train's function, which offers this demonstration. The scores are of the unlabelled scans,
    whose masks the training never saw. Raises SemiSegError if the folder holds an earlier demonstration.
    """
    from SemiSegLib.evaluate import evaluate
    from SemiSegLib.predict import predict
    from SemiSegLib.runs import write_json
    from SemiSegLib.synthetic import make_dataset

    def say(text: str) -> None:
        if not quiet:
            print(text, flush=True)

    say(f"Making 12 synthetic scans in {folder / 'data'}: 4 annotated, 6 not, 2 to validate with.")
    data = make_dataset(folder / "data", cases=12, labelled=4, validation=2)
    overrides = {**_SETTINGS, **(overrides or {})}
    if "training.minutes" in overrides:
        del overrides["training.iterations"]  # follow from the time
    settings = build_settings(preset="left-atrium", overrides=overrides)
    say(f"Training {settings.method} for {settings.training.iterations} iterations.")
    run = train(data, folder / "run", settings, f"{data / 'splits.json'}:demo", quiet=quiet)
    say("Predicting all scans.")
    for case in predict(run.path, data / "images", folder / "predictions", sdm=True):
        say(f"  {case.mask}  {case.seconds:.1f} s")
    report = evaluate(folder / "predictions", data / "held_out")
    write_json(folder / "scores.json", report.to_dict())
    pictures = "\n".join(f"  {path}" for path in sorted(run.report.rglob("*.png")))
    say(f"\nThe unlabelled scans, against masks that training never saw:\n{report.text()}\n\nPictures:\n{pictures}")
    return run
