"""A run's events for TensorBoard, where that is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


class Board:
    """Listens to a run's events and writes scalars."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    @classmethod
    def if_installed(cls, folder: Path) -> Board | None:
        """A board, or None without the package `tensorboard`."""
        return cls(folder) if importlib.util.find_spec("tensorboard") else None

    def __call__(self, event: dict[str, Any]) -> None:
        """Write one event's numbers."""
        if event["event"] == "iteration":
            step = event["iteration"]
            scalars = {f"loss/{name}": value for name, value in event["losses"].items()}
            scalars |= {"loss/total": event["total"], "learning_rate": event["learning_rate"]}
            for name, value in scalars.items():
                if value is not None:
                    self.writer.add_scalar(name, value, step)
        elif event["event"] == "validation":
            if event["dsc"] is not None:
                self.writer.add_scalar("validation/dsc", event["dsc"], event["iteration"])
            self.writer.flush()
