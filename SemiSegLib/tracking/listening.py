"""From a run's events to the trackers that are wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from SemiSegLib.runs import FINAL_STATES, RunFolder
from SemiSegLib.tracking.tracker import Tracker, scalars, settings_of


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
