"""A run's numbers in experiment trackers: TensorBoard where it is installed, others where they are asked for.

A tracker is a class of one file here that follows `Tracker`; `follow` is what listens to the run. Nothing goes over a
network unless the user has said so to the tracker itself, by its own environment variables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from SemiSegLib.runs import FINAL_STATES, RunFolder, read_json


class Tracker(Protocol):
    """Where numbers go."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers of one iteration by name."""

    def close(self, state: str) -> None:
        """The process that trains ends; `state` is one of FINAL_STATES."""


class Following:
    """Listens to a run's events and hands the numbers to a tracker, which is made when the first come.

    The settings are complete by then. A tracker that cannot be made is tried once.
    """

    def __init__(self, name: str, make: Callable[[], Tracker]) -> None:
        self.name = name
        self.make: Callable[[], Tracker] | None = make
        self.tracker: Tracker | None = None

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Hand on what a tracker wants to know of one event."""
        values = scalars(event)
        if values and self.make is not None:
            make, self.make = self.make, None
            self.tracker = make()
        if self.tracker is None:
            return
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


def follow(run: RunFolder) -> None:
    """Add TensorBoard, and the trackers that the run's settings name, to its listeners."""
    from SemiSegLib.tracking.mlflow import MLflow
    from SemiSegLib.tracking.tensorboard import TensorBoard
    from SemiSegLib.tracking.wandb import WandB

    if TensorBoard.installed():
        run.listeners.append(Following("TensorBoard", lambda: TensorBoard(run)))
    asked = settings_of(run).get("training", {}).get("trackers", ())
    if "mlflow" in asked:
        run.listeners.append(Following("MLflow", lambda: MLflow(run)))
    if "wandb" in asked:
        run.listeners.append(Following("Weights & Biases", lambda: WandB(run)))


def settings_of(run: RunFolder) -> dict[str, Any]:
    """The run's settings as JSON has them: complete ones, else those that were asked for."""
    if run.settings_file.exists():
        return read_json(run.settings_file)
    return read_json(run.intent_file).get("settings", {}) if run.intent_file.exists() else {}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found
