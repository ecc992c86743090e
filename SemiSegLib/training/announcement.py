"""What a training is about to do, said before it starts."""

from __future__ import annotations

from typing import Any

from SemiSegLib.config import Settings
from SemiSegLib.data.cases import CaseList, listed
from SemiSegLib.durations import duration
from SemiSegLib.runs import RunFolder

_NOT_USED = (
    "The scans without a mask are not learnt from: so short a training gains more from the annotated ones alone. They "
    "are used when it is given more time."
)


def announce(
    run: RunFolder, settings: Settings, cases: CaseList, left: int, seconds: float | None, unlabelled_used: bool = True
) -> None:
    """Tell all watchers what was found and how long it will take, as one message with its facts beside the text.

    `left` iterations are to be done, of `seconds` each (None: not known yet). `unlabelled_used`: False where a method
    that learns from unlabelled scans has no stage for it in so short a training.
    """
    facts = {
        "labelled": len(cases.labelled),
        "unlabelled": len(cases.unlabelled),
        "held_out": [case.name for case in cases.validation],
        "layout": cases.layout,
        "classes": {label.name: label.value for label in settings.data.labels},
        "spacing": settings.data.spacing,
        "patch_size": settings.training.patch_size,
        "iterations": left,
        "expected_seconds": None if seconds is None else left * seconds,
    }
    text = _text(settings, cases, facts)
    if cases.unlabelled and not unlabelled_used:
        text += f"\n{_NOT_USED}"
    run.event("message", level="info", text=text, found=facts)


def _text(settings: Settings, cases: CaseList, facts: dict[str, Any]) -> str:
    patch = " x ".join(map(str, facts["patch_size"]))
    spacing = " x ".join(f"{side:.4g}" if side else "as it is" for side in facts["spacing"])
    classes = ", ".join(f"{value} {name}" for name, value in facts["classes"].items())
    held_out = f"held out to measure with: {listed(facts['held_out'])}" if facts["held_out"] else "nothing is held out"
    expected = facts["expected_seconds"]
    time = "how long that takes shows after the first ones"
    if expected is not None:
        time = f"about {duration(expected / 60)}" if expected >= 60 else "less than a minute"
    return "\n".join(
        (
            cases.describe(),
            f"classes: {classes}; {held_out}",
            f"voxels of {spacing} mm, patches of {patch} voxels",
            f"{settings.method}, {facts['iterations']} iterations: {time}, and validation and the report besides",
        )
    )
