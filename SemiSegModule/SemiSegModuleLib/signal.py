"""Word of a change, from whoever knows of it to whoever wants to: no Qt, no MRML.

>>> moved = Signal()
>>> moved.connect(lambda name, far: print(f"{name} moved {far} mm"))
>>> moved.emit("the scan", 3)
the scan moved 3 mm
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Signal:
    """Functions that are called, in the order they were connected, with what `emit` is given."""

    def __init__(self) -> None:
        self._listeners: list[Callable[..., Any]] = []

    def connect(self, listener: Callable[..., Any]) -> None:
        """Call `listener` from now on."""
        self._listeners.append(listener)

    def disconnect(self, listener: Callable[..., Any]) -> None:
        """Call it no more; one that was never connected is no error."""
        self._listeners = [other for other in self._listeners if other != listener]

    def emit(self, *content: Any) -> None:
        """Tell everybody who was connected when this began."""
        for listener in list(self._listeners):
            listener(*content)

    def clear(self) -> None:
        """Tell nobody any more."""
        self._listeners.clear()
