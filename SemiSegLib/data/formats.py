"""Which file formats are read and written, told by their names alone; imports nothing heavy."""

from __future__ import annotations

import argparse
import contextlib
import locale
import re
import sys
import unicodedata
from pathlib import Path

from SemiSegLib.commands import file_to_write
from SemiSegLib.errors import SemiSegError

READABLE = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".nhdr", ".mha", ".mhd", ".h5")
WRITABLE = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha")
SEVERAL_VOLUMES = (
    "save the wanted volume as its own file (training and `semiseg predict` take 4D files, frame by frame)"
)


class ImageError(SemiSegError):
    """A file cannot be read or written as an image or a mask; the message names it and says what was found."""


def extension(path: Path) -> str:
    """The known extension of a file name in lower case (`.nii.gz`, `.seg.nrrd` as a whole), or ''."""
    name = path.name.lower()
    return next((known for known in READABLE if name.endswith(known) and name != known), "")


def stem(path: Path) -> str:
    """File name without its known extension: `a/b.1.seg.nrrd` gives `b.1`; a folder's name stays as it is.

    As `one_spelling`, so it is for comparing and for new files; on disk the file may be called otherwise.
    """
    return one_spelling(path.name[: len(path.name) - len(extension(path))])


def one_spelling(name: str) -> str:
    """The name with each accented letter as one character: macOS writes `ü` as `u` and two dots, others mostly not, so
    that the names of a scan and of its mask look alike and are not equal."""
    return unicodedata.normalize("NFC", name)


def map_stem(case: str, label: str) -> str:
    """Name, without extension, of the file of a map of one label; no system takes every character of a label's name."""
    safe = re.sub(r"[^\w.()+-]", "_", label)
    return f"{case}_{safe}"


def itk_name(path: Path) -> str:
    """A file's name as ITK takes it.

    ITK hands names to the C library as UTF-8, which Windows takes for letters of its code page unless it is told so:
    nothing in the folder of a user called Müller could be read. SimpleITK's documentation recommends this.
    """
    if sys.platform == "win32":
        with contextlib.suppress(locale.Error):  # before Windows 10 1803
            locale.setlocale(locale.LC_CTYPE, ".UTF-8")
    return str(path)


def is_hidden(path: Path) -> bool:
    """Whether the name starts with a dot: hidden files, macOS `._*` doubles, our own unfinished files."""
    return path.name.startswith(".")


def is_image(path: Path) -> bool:
    """Whether the name is that of an image file; a `.seg.nrrd` is a segmentation, not an image."""
    return extension(path) not in ("", ".seg.nrrd") and not is_hidden(path)


def is_mask(path: Path) -> bool:
    """Whether the name is that of a file a mask can be stored in: every readable format."""
    return extension(path) != "" and not is_hidden(path)


def known_extension(path: Path, allowed: tuple[str, ...] = READABLE) -> str:
    """The extension of `path`. Raises ImageError, listing the `allowed` ones, when it is none of them."""
    found = extension(path)
    if found not in allowed:
        raise ImageError(f"{path}: unknown or unsupported extension; supported are {', '.join(allowed)}")
    return found


def results_to_write(text: str) -> Path:
    """`file_to_write` of what is neither scan nor mask: under the name of one it would replace it."""
    path = file_to_write(text)
    if extension(path):
        raise argparse.ArgumentTypeError(f"{path} is called like a scan or a mask, and would replace one: rename it")
    return path
