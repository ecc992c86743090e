"""Values that change during training: ramps, decays and learning rates, as functions of the iteration."""

from __future__ import annotations

import math
from dataclasses import dataclass

from SemiSegLib.config import TrainingSettings


@dataclass(frozen=True)
class Step:
    """Where training stands: `iteration` counts from 0 to `iterations` - 1 over all stages."""

    iteration: int
    iterations: int

    @property
    def ramp(self) -> float:
        """exp(-5 (1 - t/T)^2): near 0 at the start, 1 at the end (Laine and Aila 2017; SimCVD's Psi)."""
        return gaussian_ramp(self.iteration / self.iterations)


def gaussian_ramp(fraction: float) -> float:
    """exp(-5 (1 - x)^2) for x clipped to [0, 1]."""
    return math.exp(-5.0 * (1.0 - min(max(fraction, 0.0), 1.0)) ** 2)


def learning_rate(step: Step, settings: TrainingSettings) -> float:
    """The learning rate of an iteration."""
    fraction = step.iteration / step.iterations
    if settings.schedule == "poly":
        return settings.learning_rate * (1 - fraction) ** 0.9
    if settings.schedule == "step":
        passed = sum(fraction >= milestone for milestone in settings.milestones)
        return settings.learning_rate * 0.1**passed
    return settings.learning_rate
