"""Lengths of time as people write and read them; no torch."""

from __future__ import annotations

import math

from SemiSegLib.config import SettingsError


def parse_minutes(text: str) -> float:
    """Minutes of "15m", "1h", "1.5h" or "90" (minutes); raises SettingsError."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("m", "h") else (text, "m")
    try:
        minutes = float(number) * (60 if unit == "h" else 1)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < math.inf:
        raise SettingsError(f"The time '{text}' is not understood: write 15m, 1h or 8h.")
    return minutes


def duration(minutes: float) -> str:
    """15 minutes, 1 hour, 8 hours."""
    if minutes < 60:
        return f"{minutes:.0f} minutes"
    hours = f"{minutes / 60:.1f}".removesuffix(".0")
    return f"{hours} hour{'' if hours == '1' else 's'}"
