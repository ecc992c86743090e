"""Mask files: which values they hold, and what each means in the scene."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from SemiSegLib.config import Label

from .case import CaseError


def read_labels(mask: Path) -> list[Label] | None:
    """Labels of a mask file: in its own header (.seg.nrrd), else in labels.json beside it, else None."""
    from SemiSegLib.data.segnrrd import read_segments

    if mask.name.lower().endswith(".seg.nrrd"):
        return [segment.label for segment in read_segments(mask)] or None
    beside = mask.with_name("labels.json")
    if not beside.is_file():
        return None
    entries = json.loads(beside.read_text(encoding="utf-8"))
    entries = entries["labels"] if isinstance(entries, dict) and "labels" in entries else entries
    return [Label(entry["value"], entry["name"], tuple(entry["color"])) for entry in entries]


def scene_labels(path: Path, image: sitk.Image, labels: Sequence[Label], task: Sequence[Label]) -> dict[int, Label]:
    """What each value of a mask file means in the scene: the task's label of that name, else the file's own.

    :raises CaseError: the mask has a value that no label explains
    """
    present = {int(value) for value in np.unique(sitk.GetArrayViewFromImage(image))} - {0}
    unknown = sorted(present - {label.value for label in labels})
    if unknown:
        raise CaseError(f"{path} holds the values {unknown}, which are none of its labels ({label_names(labels)}).")
    of_task = {label.name.casefold(): label for label in task}
    taken = {label.value for label in task}
    meaning = {}
    for label in labels:
        known = of_task.get(label.name.casefold())
        if known is None and label.value in taken:
            known = dataclasses.replace(label, value=max(taken) + 1)
        meaning[label.value] = known or label
        taken.add(meaning[label.value].value)
    return meaning


def relabelled(array: np.ndarray, meaning: dict[int, Label]) -> np.ndarray:
    result = np.zeros(array.shape, np.min_scalar_type(max((label.value for label in meaning.values()), default=0)))
    for value, label in meaning.items():
        result[array == value] = label.value
    return result


def label_names(labels: Sequence[Label]) -> str:
    return ", ".join(f"{label.value} {label.name}" for label in labels) or "none"
