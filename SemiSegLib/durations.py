"""Lengths of time as people write and read them; no torch."""

from __future__ import annotations

import math
import re

from SemiSegLib.config import SettingsError

_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_TIME = re.compile(rf"(?:(?P<hours>{_NUMBER})h)?(?:(?P<minutes>{_NUMBER})m?)?", re.ASCII)


def parse_minutes(text: str) -> float:
    """Minutes of "15m", "1h", "1.5h", "1h30m" or "90" (minutes); raises SettingsError."""
    parts = _TIME.fullmatch(text)
    hours, minutes = (float(part or 0) for part in parts.group("hours", "minutes")) if parts else (0.0, 0.0)
    total = 60 * hours + minutes
    if not 0 < total < math.inf:
        raise SettingsError(f"The time '{text}' is not understood: write 15m, 1h, 1h30m or 8h.")
    return total


def duration(minutes: float) -> str:
    """1 minute, 15 minutes, 1 hour, 8 hours."""
    unit, count = ("minute", f"{minutes:.0f}") if minutes < 60 else ("hour", f"{minutes / 60:.1f}".removesuffix(".0"))
    return f"{count} {unit}{'' if count == '1' else 's'}"
