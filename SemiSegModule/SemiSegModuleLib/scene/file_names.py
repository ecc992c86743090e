"""File names that every system accepts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def loses_letters(name: str) -> bool:
    """Letters or digits of a name have no counterpart in `safe_file_name`, as in most alphabets.

    >>> loses_letters("Müller: LA 3/4?"), loses_letters("王伟"), loses_letters("Łukasz")
    (False, True, True)
    """
    return any(letter.isalnum() and not _plain(letter) for letter in name)


def safe_file_name(name: str, taken: Iterable[str] = ()) -> str:
    """A file stem for `name` that Windows, macOS and Linux accept, different from `taken` in any case of letters.

    >>> safe_file_name("Müller: LA 3/4?"), safe_file_name("con"), safe_file_name("a b", {"a_b"})
    ('Muller_LA_3_4', 'con_', 'a_b_2')
    """
    stem = re.sub(r"[^A-Za-z0-9-]+", "_", _plain(name)).strip("_-")[:60] or "case"
    stem = stem + "_" if stem.casefold() in _RESERVED else stem
    lowered = {other.casefold() for other in taken}
    candidate, number = stem, 2
    while candidate.casefold() in lowered:
        candidate, number = f"{stem}_{number}", number + 1
    return candidate


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
