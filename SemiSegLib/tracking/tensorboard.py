"""TensorBoard: RUN/tensorboard; written wherever the package is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from SemiSegLib.runs import RunFolder


class TensorBoard:
    """Writes event files: `tensorboard --logdir RUN`."""

    def __init__(self, run: RunFolder) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(run.tensorboard))

    @staticmethod
    def installed() -> bool:
        """Whether the package `tensorboard` is there."""
        return importlib.util.find_spec("tensorboard") is not None

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See Tracker."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        if "validation/dsc" in values:
            self.writer.flush()

    def close(self, state: str) -> None:
        """See Tracker."""
        self.writer.close()
