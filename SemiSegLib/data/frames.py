"""Scans with a time axis (x, y, z, t), such as cardiac cine: each frame is a case of its own, all are of one patient.

>>> frame_count(Path("patient001_4d.nii.gz"))                                 # doctest: +SKIP
30
>>> series_name(Path("patient001_4d.nii.gz")), frame_name("patient001", 0, 30)
('patient001', 'patient001_frame01')

Frames are counted from 1 in names, as data sets do (ACDC), and from 0 elsewhere. Nothing heavy is imported: what a file
holds is read in its header.
"""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from SemiSegLib.data.cases import Case, CasesError
from SemiSegLib.data.formats import extension, stem

_SUFFIX = re.compile(r"([._-](4d|seq))+$", re.IGNORECASE)
_FRAME = re.compile(r"(?P<series>.+)_frame(?P<number>\d+)", re.IGNORECASE)
_NO_TIME = (1005, 1006, 1007, 2003, 2004)  # intents of NIfTI files whose fourth axis holds tensors, vectors or colours
_HEADER_BYTES = 540  # of NIfTI-2, the longer one


def series_name(path: Path) -> str:
    """What the frames of a file are called after."""
    return without_suffix(stem(path))


def without_suffix(name: str) -> str:
    """The name of a sequence without `_4d` or `.seq`, which say what it is."""
    return _SUFFIX.sub("", name) or name


def frame_name(series: str, frame: int, count: int) -> str:
    """The name of a frame's case, numbered from 1 with as many digits as the last one has, two at least."""
    return f"{series}_frame{frame + 1:0{max(2, len(str(count)))}d}"


def patient_of(name: str) -> str:
    """The patient that a case's name tells of: what stands before `_frame01`, else the whole name."""
    found = _FRAME.fullmatch(name)
    return found["series"] if found else name


def frame_count(path: Path) -> int:
    """How many volumes follow one another in a file. 1 for a single volume, for channels, vectors and colours, and for
    what cannot be read: reading it says what is wrong."""
    readers = {".nii": _in_nifti, ".nii.gz": _in_nifti, ".nrrd": _in_nrrd, ".nhdr": _in_nrrd}
    reader = {**readers, ".mha": _in_metaimage, ".mhd": _in_metaimage}.get(extension(path))
    try:
        return max(1, reader(path)) if reader is not None and path.is_file() else 1
    except (OSError, EOFError, ValueError, struct.error, zlib.error):
        return 1


def _in_nifti(path: Path) -> int:
    with path.open("rb") as stored:
        stream = gzip.GzipFile(fileobj=stored) if path.name.lower().endswith(".gz") else stored
        header = stream.read(_HEADER_BYTES)
    order = next((order for order in "<>" if struct.unpack(order + "i", header[:4])[0] in (348, 540)), "<")
    if struct.unpack(order + "i", header[:4])[0] == 540:
        sides, intent = struct.unpack_from(order + "8q", header, 16), struct.unpack_from(order + "i", header, 504)[0]
    else:
        sides, intent = struct.unpack_from(order + "8h", header, 40), struct.unpack_from(order + "h", header, 68)[0]
    further = any(side > 1 for side in sides[5 : sides[0] + 1])
    return sides[4] if sides[0] >= 4 and not further and intent not in _NO_TIME else 1


def _in_nrrd(path: Path) -> int:
    """The kinds decide, as Slicer writes them for sequences: a list beside three axes of space; or four of space."""
    from SemiSegLib.data.nrrd import read_header

    header = read_header(path)
    sizes = [int(size) for size in header.fields.get("sizes", "").split()]
    kinds = [kind.lower() for kind in header.fields.get("kinds", "").split()]
    # Slicer names in these keys what is a list, too, and no time: layers of a segmentation, directions of diffusion.
    if len(sizes) != 4 or "Segment0_ID" in header.keys or header.keys.get("modality") == "DWMRI":
        return 1
    if kinds.count("list") == 1:
        return sizes[kinds.index("list")]
    spatial = len(header.directions) == 4 or ("space" not in header.fields and not header.directions)
    return sizes[3] if spatial and all(kind in ("domain", "space", "time") for kind in kinds) else 1


def _in_metaimage(path: Path) -> int:
    from SemiSegLib.data.metaimage import read_header

    fields, _ = read_header(path)
    sides = [int(side) for side in fields.get("dimsize", "").split()]
    return sides[3] if len(sides) == 4 and fields.get("elementnumberofchannels", "1") == "1" else 1


# ---- cases --------------------------------------------------------------------------------------------------


def in_frames(case: Case, masks: Mapping[str, Path]) -> list[Case]:
    """The case, or one for each frame of its scan.

    A mask is one of all frames, or there is one file a frame among `masks` (by name), called as the scan is with
    `_frame07` at the end. In a mask of all frames an empty frame is one that nobody annotated, as data sets have it
    (M&Ms annotates two of thirty). Raises CasesError where scan and mask do not fit, and for two masks of one frame.
    """
    count = frame_count(case.image)
    if count == 1:
        return [case]
    annotated = _annotated_frames(case, count)
    series = case.name if case.name != stem(case.image) else series_name(case.image)
    own = _masks_of_frames({series.casefold(), case.name.casefold()}, masks)
    cases = []
    for frame in range(count):
        single = replace(case, name=frame_name(series, frame, count), frame=frame, label=None, patient=series)
        if frame in own and frame in annotated:
            raise CasesError(f"{case.label} and {own[frame]} both hold the mask of {single.name}: remove one")
        if frame in own:
            single = replace(single, label=own[frame])
        elif frame in annotated:
            single = replace(single, label=case.label, label_frame=frame)
        cases.append(single)
    return cases


def _masks_of_frames(names: set[str], masks: Mapping[str, Path]) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for name, path in masks.items():
        match = _FRAME.fullmatch(name)
        if match and match["series"].casefold() in names:
            other = found.setdefault(int(match["number"]) - 1, path)
            if other != path:
                raise CasesError(f"{other} and {path} are both the mask of frame {match['number']}: remove one")
    return found


def _annotated_frames(case: Case, count: int) -> set[int]:
    if case.label is None:
        return set()
    frames = frame_count(case.label)
    if frames != count:
        raise CasesError(
            f"{case.image} holds {count} frames, its mask {case.label} {frames}: give each frame that is annotated a "
            f"mask of its own, called {frame_name(series_name(case.image), 0, count)} and so on. If these are channels "
            "and no frames, save the channel to be segmented as its own file."
        )
    from SemiSegLib.data.images import drawn_frames

    return drawn_frames(case.label, count)
