"""File names that every system accepts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def safe_file_name(name: str, taken: Iterable[str] = ()) -> str:
    """A file stem for `name` that Windows, macOS and Linux accept, different from `taken` in any case of letters.

    >>> safe_file_name("Müller: LA 3/4?"), safe_file_name("con"), safe_file_name("a b", {"a_b"})
    ('Muller_LA_3_4', 'con_', 'a_b_2')
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    stem = re.sub(r"[^A-Za-z0-9-]+", "_", plain).strip("_-")[:60] or "case"
    stem = stem + "_" if stem.casefold() in _RESERVED else stem
    lowered = {other.casefold() for other in taken}
    candidate, number = stem, 2
    while candidate.casefold() in lowered:
        candidate, number = f"{stem}_{number}", number + 1
    return candidate
