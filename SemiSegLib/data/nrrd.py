"""NRRD headers as text, and a writer that repeats another file's geometry character by character."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from SemiSegLib.data.formats import ImageError
from SemiSegLib.data.geometry import Geometry

PLACED_FIELDS = ("space", "space dimension", "space units", "space directions", "space origin", "measurement frame")
"""Fields that place a grid in the world."""

UNPLACED_FIELDS = ("spacings", "axis mins", "axis maxs", "centerings", "units", "thicknesses")
"""Per-axis fields of files that have no world space."""

SYNONYMS = {"axismins": "axis mins", "axismaxs": "axis maxs", "centers": "centerings", "spaceunits": "space units"}
TYPE_NAMES = {"uint8": "unsigned char", "uint16": "unsigned short", "uint32": "unsigned int", "float32": "float"}


@dataclass(frozen=True)
class NrrdHeader:
    """fields: the `name: value` lines by lower-case name. keys: the `key:=value` pairs, unescaped."""

    fields: dict[str, str]
    keys: dict[str, str]

    @property
    def directions(self) -> list[str]:
        """The vectors of `space directions` as written, without the `none` of axes that are not spatial."""
        written = re.findall(r"\([^)]*\)|none", self.fields.get("space directions", ""))
        return [vector for vector in written if vector != "none"]


def read_header(path: Path) -> NrrdHeader:
    """The text header of a .nrrd or .nhdr file. Raises ImageError when it is not one."""
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    try:
        with path.open("rb") as file:
            if not file.readline(64).startswith(b"NRRD"):
                raise ImageError(f"{path}: not an NRRD file (its first line does not start with NRRD)")
            for raw in file:
                line = raw.decode("utf-8", errors="replace").rstrip("\r\n")
                if not line:
                    break
                _take_line(line, fields, keys)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror or error}") from error
    return NrrdHeader(fields, keys)


def _take_line(line: str, fields: dict[str, str], keys: dict[str, str]) -> None:
    if line.startswith("#"):
        return
    key, pair, value = line.partition(":=")
    name, field, content = line.partition(": ")
    if pair and (not field or len(key) <= len(name)):
        keys[key] = _unescape(value)
    elif field:
        name = name.strip().lower()
        fields[SYNONYMS.get(name, name)] = content.strip()


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\r", "").replace("\n", "\\n")


def _unescape(text: str) -> str:
    return re.sub(r"\\(n|\\)", lambda found: "\n" if found[1] == "n" else "\\", text)


def geometry_fields(geometry: Geometry, template: Path | None = None) -> dict[str, str]:
    """The header fields of a grid: those of the `template` file verbatim where it has them, else computed."""
    if template is not None:
        header = read_header(template)
        if len(header.directions) == 3:
            fields = {name: header.fields[name] for name in PLACED_FIELDS if name in header.fields}
            return {**fields, "space directions": " ".join(header.directions)}
        if header.fields.get("dimension") == "3" and "space" not in header.fields:
            return {name: header.fields[name] for name in UNPLACED_FIELDS if name in header.fields}
    return {
        "space": "left-posterior-superior",
        "space directions": " ".join(_vector(axis) for axis in geometry.axes.T),
        "space origin": _vector(geometry.origin),
    }


def _vector(values: np.ndarray | tuple[float, ...]) -> str:
    return "(" + ",".join(repr(float(value)) for value in values) + ")"


def write(array: np.ndarray, path: Path, placed: Mapping[str, str], keys: Mapping[str, str] | None = None) -> None:
    """Writes a volume, gzip-compressed.

    array: (x, y, z), uint8, uint16, uint32 or float32; or (x, y, z, t), as Slicer writes sequences. placed: from
    `geometry_fields`. keys: `key:=value` pairs.
    """
    several = array.ndim == 4
    if several and "space directions" in placed:
        placed = {**placed, "space directions": f"{placed['space directions']} none"}
    fields = {
        "type": TYPE_NAMES[array.dtype.name],
        "dimension": str(array.ndim),
        **{name: placed[name] for name in ("space", "space dimension") if name in placed},
        "sizes": " ".join(str(n) for n in array.shape),
        **{name: value for name, value in placed.items() if name not in ("space", "space dimension")},
        "kinds": "domain domain domain" + (" list" if several else ""),
        "endian": "little",
        "encoding": "gzip",
    }
    lines = ["NRRD0005", "# Complete NRRD file format specification at:"]
    lines.append("# http://teem.sourceforge.net/nrrd/format.html")
    lines += [f"{name}: {value}" for name, value in fields.items()]
    lines += [f"{key}:={_escape(value)}" for key, value in (keys or {}).items()]
    data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(order="F")
    with path.open("wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode("utf-8"))
        file.write(gzip.compress(data, compresslevel=1, mtime=0))
