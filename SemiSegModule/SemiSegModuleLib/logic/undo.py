"""The last steps of the work, each with what takes it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..signal import Signal

_STEPS = 20


class Undo:
    """Steps are forgotten when the scene is closed, and the oldest when there are many."""

    def __init__(self) -> None:
        self.changed = Signal()
        self._steps: list[tuple[str, Callable[[], Any], Callable[[], bool]]] = []

    @property
    def text(self) -> str:
        """What the next `undo` takes back; '' when there is nothing."""
        return self._steps[-1][0] if self._steps else ""

    @property
    def loses_work(self) -> bool:
        """Somebody went on from what the next `undo` takes back."""
        return bool(self._steps) and self._steps[-1][2]()

    def add(self, text: str, back: Callable[[], Any], worked_on: Callable[[], bool] = lambda: False) -> None:
        """Remember a step that was done; `worked_on` tells whether somebody has gone on from there."""
        self._steps = [*self._steps, (text, back, worked_on)][-_STEPS:]
        self.changed.emit()

    def undo(self) -> Any:
        """Take the last step back; returns what its function does, None without a step. One that fails is forgotten."""
        if not self._steps:
            return None
        _text, back, _worked_on = self._steps.pop()
        try:
            return back()
        finally:
            self.changed.emit()

    def clear(self) -> None:
        """Forget all steps."""
        self._steps.clear()
        self.changed.emit()
