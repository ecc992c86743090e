"""Which files on disk a scan or a mask consists of, so that a change of any of them is noticed; imports nothing heavy.

A MetaImage or NRRD header may name the files that hold the voxels: one, a list, or a numbered pattern
(https://itk.org/Wiki/ITK/MetaIO/Documentation, https://teem.sourceforge.net/nrrd/format.html#detached).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from SemiSegLib.data.formats import extension, is_hidden

_META, _NRRD = (".mhd", ".mha"), (".nhdr", ".nrrd", ".seg.nrrd")
_LONGEST_LINE = 1 << 16  # bytes; a header's lines are short, voxels need not have lines at all


def stored_in(path: Path) -> list[Path]:
    """The slices of a DICOM folder, a header and the voxel files that it names, or the file itself.

    A voxel file that is named but not there is in the list, too: reading the image says so.
    """
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file() and not is_hidden(file))
    if extension(path) in _META:
        return [path, *(path.parent / name for name in _named(path, "elementdatafile", "="))]
    if extension(path) in _NRRD:
        return [path, *(path.parent / name for name in _named(path, "datafile", ":"))]
    return [path]


def _named(path: Path, field: str, separator: str) -> list[str]:
    """File names in the header's last field, or below it where that says LIST."""
    try:
        with path.open("rb") as file:
            lines = _lines(file)
            for line in lines:
                name, found, value = line.partition(separator)
                if found and name.replace(" ", "").lower() == field:
                    return _expanded(value.strip(), lines)
    except OSError:
        pass  # reading the image says why
    return []


def _lines(file: BinaryIO) -> Iterator[str]:
    """Lines of a header, to the blank one before voxels that follow in the same file."""
    while line := file.readline(_LONGEST_LINE).decode("utf-8", errors="replace").strip():
        yield line


def _expanded(value: str, following: Iterator[str]) -> list[str]:
    words = value.split()
    if not words or value.upper() == "LOCAL":
        return []
    if words[0].upper() == "LIST":
        return list(following)
    if "%" in value and len(words) >= 4:
        return _numbered(words) or [value]
    return [value]


def _numbered(words: list[str]) -> list[str]:
    """`slice%03d.raw 1 9 2` as slice001.raw, slice003.raw and so on, as C's printf writes numbers."""
    try:
        first, last, step = (int(word) for word in words[1:4])
        return [words[0] % number for number in range(first, last + (1 if step > 0 else -1), step)]
    except (TypeError, ValueError):
        return []
