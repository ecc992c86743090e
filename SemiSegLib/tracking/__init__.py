"""A run's numbers in experiment trackers: TensorBoard where it is installed, others where they are asked for.

A tracker is a class of one file here that follows `Tracker`; `follow` is what listens to the run. Nothing goes over a
network unless the user has said so to the tracker itself, by its own environment variables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from SemiSegLib.config import Settings
from SemiSegLib.runs import FINAL_STATES, RunFolder

TRACKERS = ("mlflow", "wandb")  # the choices of training.trackers


class Tracker(Protocol):
    """Where numbers go."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers of one iteration by name."""

    def close(self, state: str) -> None:
        """The process that trains ends; `state` is one of FINAL_STATES."""


class Following:
    """Listens to a run's events and hands the numbers to a tracker."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Hand on what a tracker wants to know of one event."""
        values = scalars(event)
        if values:
            self.tracker.log(values, event["iteration"])
        if event["event"] == "state" and event["state"] in FINAL_STATES:
            self.tracker.close(event["state"])


def scalars(event: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an event as trackers name them; what is undefined is left out."""
    found: dict[str, float | None] = {}
    if event["event"] == "iteration":
        found = {f"loss/{name}": value for name, value in event["losses"].items()}
        found |= {"loss/total": event["total"], "learning_rate": event["learning_rate"]}
    elif event["event"] == "validation":
        found = {f"validation/dsc/{name}": value for name, value in event["per_class"].items()}
        found |= {"validation/dsc": event["dsc"]}
    return {name: value for name, value in found.items() if value is not None}


def follow(run: RunFolder, settings: Settings) -> None:
    """Add TensorBoard and the trackers that the settings name to the run's listeners; what fails is a warning."""
    from SemiSegLib.tracking.mlflow import MLflow
    from SemiSegLib.tracking.tensorboard import TensorBoard
    from SemiSegLib.tracking.wandb import WandB

    wanted: dict[str, Callable[[], Tracker]] = {}
    if TensorBoard.installed():
        wanted["TensorBoard"] = lambda: TensorBoard(run.path / "tensorboard")
    if "mlflow" in settings.training.trackers:
        wanted["MLflow"] = lambda: MLflow(run, settings)
    if "wandb" in settings.training.trackers:
        wanted["Weights & Biases"] = lambda: WandB(run, settings)
    for name, make in wanted.items():
        run.listen(name, lambda make=make: Following(make()))  # type: ignore[misc]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found
