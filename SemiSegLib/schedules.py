"""Values that change during training: ramps, decays and learning rates, as functions of the iteration."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from SemiSegLib.config import TrainingSettings


@dataclass(frozen=True)
class Step:
    """Where training stands: iteration `iteration` of a stage with `iterations`, both counted within the stage."""

    iteration: int
    iterations: int
    stage: str = "main"

    @property
    def fraction(self) -> float:
        """Share of the stage that is done, 0 to below 1."""
        return self.iteration / self.iterations

    @property
    def ramp(self) -> float:
        """exp(-5 (1 - t/T)^2): near 0 at the start, 1 at the end (Laine and Aila 2017; SimCVD's Psi)."""
        return gaussian_ramp(self.fraction)


def step_at(iteration: int, iterations: int, stages: Mapping[str, float]) -> Step:
    """The step of a run's iteration 0 to `iterations` - 1; `stages` gives each stage's share of the whole."""
    first = 0
    total, reached = sum(stages.values()), 0.0
    for name, share in stages.items():
        reached += share
        end = round(iterations * reached / total)
        if iteration < end:
            return Step(iteration - first, end - first, name)
        first = end
    raise ValueError(f"iteration {iteration} lies beyond the last, {iterations - 1}")


def gaussian_ramp(fraction: float) -> float:
    """exp(-5 (1 - x)^2) for x clipped to [0, 1]."""
    return math.exp(-5.0 * (1.0 - min(max(fraction, 0.0), 1.0)) ** 2)


def learning_rate(step: Step, settings: TrainingSettings, constant: Collection[str] = ()) -> float:
    """The learning rate of an iteration; the schedule runs once in every stage but the `constant` ones."""
    if step.stage in constant:
        return settings.learning_rate
    if settings.schedule == "poly":
        return settings.learning_rate * (1 - step.fraction) ** 0.9
    if settings.schedule == "step":
        passed = sum(step.fraction >= milestone for milestone in settings.milestones)
        return settings.learning_rate * 0.1**passed
    return settings.learning_rate
