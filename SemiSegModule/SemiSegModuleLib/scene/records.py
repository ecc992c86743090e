"""What is known of a case, as plain values: its state, what to expect of a prediction, what to annotate next."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Mapping, Sequence
from typing import Any

from SemiSegLib.config import Label

ORIENTATIONS = ("axial", "coronal", "sagittal")


def labels_to_text(labels: Sequence[Label]) -> str:
    """Labels as text that a node of the scene keeps."""
    return json.dumps([dataclasses.asdict(label) for label in labels])


def labels_from_text(text: str) -> list[Label]:
    """The labels that were kept as this text; none when it is empty."""
    return [Label(entry["value"], entry["name"], tuple(entry["color"])) for entry in json.loads(text or "[]")]


class State(str, enum.Enum):
    """What a case is to the training."""

    UNLABELLED = "unlabelled"
    ANNOTATED = "annotated"
    PREDICTED = "predicted"
    CORRECTED = "corrected"
    EXCLUDED = "excluded"

    @property
    def trains_with_mask(self) -> bool:
        """The human mask of the case takes part in the training."""
        return self in (State.ANNOTATED, State.CORRECTED)


@dataclasses.dataclass(frozen=True)
class Expected:
    """The DSC to expect, and the bounds it lies between; None without calibration. `empty`: nothing was found."""

    dsc: float
    low: float | None
    high: float | None
    empty: bool = False


@dataclasses.dataclass(frozen=True)
class Quality:
    """What a model (its file) lets expect of its prediction as a whole, and of each structure by its name."""

    whole: Expected
    classes: dict[str, Expected]
    model: str = ""

    @classmethod
    def of(
        cls, whole: Mapping[str, Any], classes: Mapping[str, Mapping[str, Any]], model: str = "", **_others: object
    ) -> Quality:
        """From what `dataclasses.asdict` makes of it; what else is there is left out."""
        return cls(Expected(**whole), {name: Expected(**figures) for name, figures in classes.items()}, model)


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """A scan to annotate next: its place among those suggested, from 1, and the slices to begin with.

    `uncertainty` from 0 to 1, None without a model; slices are indices of the volume along its axis `axis` (0 for i),
    the most useful first.
    """

    rank: int
    uncertainty: float | None
    axis: int
    slices: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class SlicePlan:
    """The slices of one orientation that are to be annotated, in the order to do so, and what is known of them.

    `suggested` are those that matter most; in `empty` somebody has looked and found nothing to draw.
    """

    orientation: str
    proposed: tuple[int, ...]
    suggested: tuple[int, ...] = ()
    empty: tuple[int, ...] = ()
