"""MetaImage files (.mha, .mhd): the header as text, and whether compressed voxels are those that were written."""

from __future__ import annotations

import zlib
from pathlib import Path

from SemiSegLib.data.formats import ImageError

_LONGEST_HEADER = 1 << 16  # bytes
_AT_ONCE = 1 << 20  # bytes
_ZLIB_OR_GZIP = zlib.MAX_WBITS + 32


def read_header(path: Path) -> tuple[dict[str, str], int]:
    """The fields by lower-case name, and how many bytes they take. Raises OSError."""
    fields, length = {}, 0
    with path.open("rb") as file:
        for raw in file.read(_LONGEST_HEADER).splitlines(keepends=True):
            length += len(raw)
            name, _, value = raw.decode("utf-8", errors="replace").partition("=")
            fields[name.strip().lower()] = value.strip()
            if name.strip().lower() == "elementdatafile":
                break
    return fields, length


def why_unreadable(path: Path) -> str:
    """What is wrong with a file that ITK cannot read: of every fault it says that there were no such file."""
    try:
        data = read_header(path)[0].get("elementdatafile", "")
    except OSError as error:
        return f"{error.strerror}; see who may read it, and whether its drive is there"
    if not data:
        return "its header is cut off or damaged; export or copy it again"
    file = path if data.upper() == "LOCAL" else path.parent / data
    several = data.upper().startswith("LIST") or "%" in data
    if not several and not file.is_file():
        return f"its voxels are in the file {data}, which is not beside it; put it there, or export it as one file"
    place = "" if several or file == path else f" in {file}"
    return f"its header, or its voxels{place}, are cut off or damaged; export or copy it again"


def check_voxels(path: Path) -> None:
    """Raise ImageError where compressed voxels are damaged or cut off: ITK reads them all the same, some of them wrong.

    Voxels in several files are not looked at.
    """
    fields, length = read_header(path)
    data = fields.get("elementdatafile", "")
    local = data.upper() == "LOCAL"
    file = path if local else path.parent / data
    if fields.get("compresseddata", "").lower() != "true" or not file.is_file():
        return
    stream = zlib.decompressobj(_ZLIB_OR_GZIP)
    try:
        with file.open("rb") as stored:
            stored.seek(length if local else 0)
            while not stream.eof and (part := stored.read(_AT_ONCE)):
                stream.decompress(part)
    except (OSError, zlib.error) as error:
        raise ImageError(
            f"{path}: the voxels cannot be read, the file is damaged: {error}; export or copy it again"
        ) from error
    if not stream.eof:
        raise ImageError(f"{path}: the voxels cannot be read, the file is cut off; export or copy it again")
