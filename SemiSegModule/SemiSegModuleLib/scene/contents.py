"""What is drawn in a segmentation, in numbers few enough for a scene: whether it still is that is told by them.

>>> known = contents(case.prediction, case.volume)                      # doctest: +SKIP
>>> holds(known, case.prediction, case.volume)                          # doctest: +SKIP
True

`[number of voxels, checksum]` by the ID of each segment that has some. Scenes of earlier versions hold the number
alone, and then nothing else is compared.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from SemiSegLib.errors import SemiSegError

from . import segments, volumes
from .memo import Memo


def contents(segmentation_node, volume_node) -> dict[str, list[int]]:
    """What is drawn now, and where on the scan that lies; nothing without a segmentation."""
    if segmentation_node is None:
        return {}
    frame, segmentation = _onto_scan(segmentation_node, volume_node), segmentation_node.GetSegmentation()
    counts = segments.counts_by_segment(segmentation_node)
    return {key: [count, _checksum(segmentation.GetSegment(key), frame)] for key, count in counts.items()}


def holds(known: Mapping[str, Any], segmentation_node, volume_node) -> bool:
    """Whether exactly that is drawn still.

    Numbers of voxels first: they are at hand, and a stroke of the brush changes them nearly always.
    """
    numbers = {key: entry if isinstance(entry, int) else entry[0] for key, entry in known.items()}
    now = segments.counts_by_segment(segmentation_node) if segmentation_node is not None else {}
    if {key: number for key, number in numbers.items() if number} != now:
        return False
    checksums = {key: entry[1] for key, entry in known.items() if not isinstance(entry, int)}
    if not checksums:
        return True
    frame, segmentation = _onto_scan(segmentation_node, volume_node), segmentation_node.GetSegmentation()
    return all(_checksum(segmentation.GetSegment(key), frame) == checksum for key, checksum in checksums.items())


def has_checksums(known: Mapping[str, Any]) -> bool:
    """Whether `holds` tells for certain, as it cannot of scenes of earlier versions."""
    return not any(isinstance(entry, int) for entry in known.values())


def _onto_scan(segmentation_node, volume_node) -> np.ndarray | None:
    """4 x 4 from the segmentation's frame to the voxels of its scan, which transforms of both together leave as it is;
    None where the scan was deleted, or one of them is bent."""
    if volume_node is None:
        return None
    try:
        to_world = segments.world_matrix(volume_node) @ volumes.ijk_to_ras(volume_node)
        return np.linalg.inv(to_world) @ segments.world_matrix(segmentation_node)
    except SemiSegError:
        return None


_checksums: Memo[int] = Memo()


def _checksum(segment, frame: np.ndarray | None) -> int:
    """CRC-32 of the voxels of a segment and their place, made once for each state of both."""
    image = segment.GetRepresentation(segments.BINARY)
    place = b"" if frame is None else (np.round(frame @ segments.image_matrix(image), 3) + 0.0).tobytes()  # no -0
    state = segments.state_of_voxels(segment)
    return _checksums.of((state, place), lambda: _crc(*segments.drawn_block(segment), zlib.crc32(place)))


def _crc(voxels: np.ndarray, first: np.ndarray, crc: int) -> int:
    """Slice by slice (k, j, i), without what is empty around: an editor may have made the grid larger since."""
    for number, plane in enumerate(voxels):
        rows = np.flatnonzero(plane.any(axis=1))
        if len(rows):
            plane = plane[rows[0] : rows[-1] + 1]
            columns = np.flatnonzero(plane.any(axis=0))
            plane = plane[:, columns[0] : columns[-1] + 1]
            corner = (first[0] + columns[0], first[1] + rows[0], first[2] + number)
            crc = zlib.crc32(np.packbits(plane), zlib.crc32(np.array([*corner, *plane.shape], "<i8"), crc))
    return crc
