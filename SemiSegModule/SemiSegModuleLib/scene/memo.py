"""What takes long to find out, found out once.

>>> counts = Memo()
>>> counts.of("a", lambda: 3), counts.of("a", lambda: 4)
(3, 3)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")
_MOST = 20_000  # a study of hundreds of scans with fourteen structures each


class Memo(Generic[Value]):
    """Values by what they depend on; the oldest are forgotten when there are many."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Value] = {}

    def of(self, key: Hashable, find: Callable[[], Value]) -> Value:
        """The value for a key, found by `find` the first time."""
        if key not in self._known:
            while len(self._known) >= _MOST:
                del self._known[next(iter(self._known))]
            self._known[key] = find()
        return self._known[key]
