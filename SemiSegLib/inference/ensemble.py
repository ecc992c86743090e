"""Several opinions on one scan: networks of a run, and views of the scan, each of which gives a mask.

Views are what the network was trained to be indifferent to: mirror images along the axes that the task allows, else
small shifts and changes of contrast. Everything lies on the networks' grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from SemiSegLib.data.components import cleaned
from SemiSegLib.inference.conformal import logit
from SemiSegLib.inference.predictor import Predictor
from SemiSegLib.inference.windows import mirrorings
from SemiSegLib.metrics import dice


@dataclass(frozen=True)
class View:
    """A scan mirrored, shifted by whole voxels (what leaves is lost, the edge is repeated), its contrast scaled."""

    name: str
    mirrored: tuple[int, ...] = ()
    shift: tuple[int, int, int] = (0, 0, 0)
    contrast: float = 1.0

    def of(self, image: np.ndarray) -> np.ndarray:
        """The view of a normalised scan (x, y, z)."""
        margins = [(max(step, 0), max(-step, 0)) for step in self.shift]
        moved = np.pad(image, margins, mode="edge") if any(self.shift) else image
        return np.flip(self.contrast * moved, self.mirrored)

    def undone(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities (C, x, y, z) of the view, brought back to the scan's voxels."""
        back = np.flip(probabilities, tuple(axis + 1 for axis in self.mirrored))
        ends = [length + min(step, 0) for step, length in zip(self.shift, back.shape[1:], strict=True)]
        x, y, z = (slice(max(step, 0), end) for step, end in zip(self.shift, ends, strict=True))
        return back[:, x, y, z]


AS_IT_IS = View("as it is")
SHIFTED = (
    View("shifted", shift=(5, 5, 0)),
    View("shifted back", shift=(-5, 3, 0)),
    View("more contrast", contrast=1.15),
    View("less contrast", contrast=0.87),
)


def views_for(mirror_axes: Sequence[int]) -> tuple[View, ...]:
    """The views that suit a task with this `augmentation.mirror_axes`; the first is the scan as it is."""
    if not mirror_axes:
        return (AS_IT_IS, *SHIFTED)
    mirrored = (
        View(f"mirrored {' and '.join('xyz'[axis] for axis in axes)}", axes) for axes in mirrorings(mirror_axes)[1:]
    )
    return (AS_IT_IS, *mirrored)


@dataclass(frozen=True)
class Opinions:
    """What the members of an ensemble say of a scan.

    own            float32 (C, x, y, z), the probabilities that prediction goes by
    judged         uint8 (x, y, z) class indices: the mask that they give
    votes          the same of every member, the judged network's view of the scan as it is first
    probabilities  float32 (C, x, y, z), mean of all members
    """

    own: np.ndarray
    judged: np.ndarray
    votes: Sequence[np.ndarray]
    probabilities: np.ndarray

    def agreement(self, index: int) -> float:
        """Mean DSC of class `index` between the judged mask and every vote that is another mask; 1 if there is none."""
        mine = self.judged == index
        others = [vote for vote in self.votes if vote is not self.judged]
        return float(np.mean([dice(mine, vote == index) for vote in others])) if others else 1.0

    def probable_dice(self, index: int) -> float:
        """DSC of class `index` with a truth that has the mean probabilities: 2 sum(p m) / (sum(p) + sum(m))."""
        mine, p = self.judged == index, self.probabilities[index]
        return float(2 * p[mine].sum(dtype=np.float64) / (p.sum(dtype=np.float64) + mine.sum() + 1e-9))

    def score(self, index: int, with_probable: bool = False) -> float:
        """What the DSC of class `index` is estimated from: the agreement, on the logit scale.

        :param with_probable: the mean with the probable DSC instead, which says less: networks are sure of themselves,
            right or wrong, most of all those that learnt from their own labels (Testing/Benchmarks)
        """
        agreement, probable = logit(np.array([self.agreement(index), self.probable_dice(index)]))
        return float((agreement + probable) / 2 if with_probable else agreement)

    def entropy(self) -> np.ndarray:
        """float32 (x, y, z): entropy of the mean probabilities, 0 (certain) to 1 (all classes equally likely)."""
        return entropy(self.probabilities)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropy (x, y, z) of probabilities (C, x, y, z), in units of its largest value log(C)."""
    kept = np.clip(probabilities, 1e-7, 1)
    return (-(kept * np.log(kept)).sum(0) / np.log(len(kept))).astype(np.float32)


class Ensemble:
    """Networks for one task, the first of which is judged; each sees every view.

    :param members: predictors that share the first one's data settings
    """

    def __init__(self, members: Sequence[Predictor]) -> None:
        self.members = list(members)
        first = self.members[0]
        axes = first.card.settings.augmentation.mirror_axes
        self.judged_by_mean = first.settings.mirror and bool(axes)  # prediction averages over the same mirror images
        for member in self.members:
            member.settings = replace(member.settings, mirror=False)
        self.views = views_for(axes)
        self.data = first.data

    def opinions(self, image: np.ndarray) -> Opinions:
        """What all members say of a normalised scan (x, y, z) on the networks' grid."""
        votes: list[np.ndarray] = []
        total: np.ndarray | None = None
        own: np.ndarray | None = None
        for probabilities in self._each(image):
            total = probabilities if total is None else total + probabilities
            votes.append(self._mask(probabilities))
            if len(votes) == (len(self.views) if self.judged_by_mean else 1):
                own = total / len(votes)
        assert total is not None
        assert own is not None
        return Opinions(own, self._mask(own) if self.judged_by_mean else votes[0], votes, total / len(votes))

    def _each(self, image: np.ndarray) -> Iterator[np.ndarray]:
        for member in self.members:
            for view in self.views:
                yield np.ascontiguousarray(view.undone(member.probabilities(view.of(image))))

    def _mask(self, probabilities: np.ndarray) -> np.ndarray:
        indices = probabilities.argmax(0).astype(np.uint8)
        return cleaned(indices, probabilities[1:].sum(0), len(probabilities) - 1, self.members[0].settings)
