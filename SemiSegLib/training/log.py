"""The log of a training: what the losses were, how fast it goes, when it will end."""

from __future__ import annotations

import math
import time

import torch

from SemiSegLib.compute.devices import device_memory
from SemiSegLib.config import TrainingSettings
from SemiSegLib.errors import TrainingError
from SemiSegLib.runs import RunFolder


class Log:
    """Collects loss terms on the device and writes their means every few iterations."""

    def __init__(self, run: RunFolder, training: TrainingSettings, device: torch.device) -> None:
        self.run, self.training, self.device = run, training, device
        self.terms: list[dict[str, torch.Tensor]] = []
        self.rate = training.learning_rate
        self.speed: float | None = None
        self.bad = 0
        self.since = time.monotonic()

    def add(self, iteration: int, terms: dict[str, torch.Tensor], rate: float) -> bool:
        """Remember the terms of an iteration; write when it is time, and say whether it was."""
        self.terms.append(terms)
        self.rate = rate
        due = iteration % self.training.log_every == 0 or iteration == 1
        if due:
            self.flush(iteration)
        return due

    def flush(self, iteration: int) -> None:
        """Write what is collected; raises TrainingError when the loss is no longer a number."""
        if not self.terms:
            return
        count = len(self.terms)
        names = dict.fromkeys(name for terms in self.terms for name in terms)  # stages differ in their terms
        means = {name: float(torch.stack([t[name] for t in self.terms if name in t]).mean()) for name in names}
        now = time.monotonic()
        self.speed, self.since, self.terms = (now - self.since) / count, now, []
        total = means.pop("total")
        self.run.event(
            "iteration",
            iteration=iteration,
            iterations=self.training.iterations,
            losses=means,
            total=total,
            learning_rate=self.rate,
            seconds_per_iteration=self.speed,
            eta_seconds=self.eta(iteration),
            **device_memory(self.device),
        )
        if not math.isfinite(total):
            raise TrainingError(
                f"The loss is no longer a number at iteration {iteration} ({means}): lower "
                "training.learning_rate, or choose training.precision=fp32. The last checkpoint is still good."
            )

    def eta(self, iteration: int) -> float | None:
        """Seconds to the last iteration at the present speed."""
        return None if self.speed is None else (self.training.iterations - iteration) * self.speed
