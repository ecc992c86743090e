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
        self._steps: list[tuple[str, Callable[[], Any]]] = []

    @property
    def text(self) -> str:
        """What the next `undo` takes back; '' when there is nothing."""
        return self._steps[-1][0] if self._steps else ""

    def add(self, text: str, back: Callable[[], Any]) -> None:
        """Remember a step that was done."""
        self._steps = [*self._steps, (text, back)][-_STEPS:]
        self.changed.emit()

    def undo(self) -> Any:
        """Take the last step back; returns what its function does, None without a step. One that fails is forgotten."""
        if not self._steps:
            return None
        _text, back = self._steps.pop()
        try:
            return back()
        finally:
            self.changed.emit()

    def clear(self) -> None:
        """Forget all steps."""
        self._steps.clear()
        self.changed.emit()
