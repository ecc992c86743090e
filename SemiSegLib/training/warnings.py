"""What the library warns of while it reads scans and trains, for all who watch a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Teller(logging.Handler):
    """Tells each warning once."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self.tell = tell
        self.told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Tell a warning."""
        text = record.getMessage()
        if text not in self.told:
            self.told.add(text)
            self.tell(text)


@contextmanager
def warnings_to(tell: Callable[[str], None]) -> Iterator[None]:
    """Within it, what SemiSegLib's loggers warn of goes to `tell`, each text once."""
    logger, teller = logging.getLogger("SemiSegLib"), _Teller(tell)
    logger.addHandler(teller)
    try:
        yield
    finally:
        logger.removeHandler(teller)


@contextmanager
def warnings_kept() -> Iterator[list[str]]:
    """A list of what is warned of within, to be told later."""
    kept: list[str] = []
    with warnings_to(kept.append):
        yield kept
