"""Which file on the disk a volume of the scene was read from, so that none is added twice.

>>> known = volumes_by_source(scene)                                    # doctest: +SKIP
>>> known.get(source_of(path))                                          # doctest: +SKIP

The name of a file is no proof: two patients may have a `CT.nii.gz` each. Its place and its state together are. What the
volume keeps is a digest of these: scenes are given away, and paths often name patients.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import slicer

_SOURCE = "SemiSeg.Source"  # attribute of the volume


def source_of(path: Path, frame: int | None = None) -> str:
    """Of a file, or a folder of DICOM files, as it is now.

    :param frame: of a file of several scans
    """
    try:
        parts = sorted(path.iterdir()) if path.is_dir() else [path]
        states = [(part.name, part.stat().st_size, part.stat().st_mtime_ns) for part in parts]
    except OSError:  # whoever reads it is told
        states = []
    told = os.path.normcase(path.resolve()), states, frame
    return hashlib.blake2b(repr(told).encode(), digest_size=16).hexdigest()


def remember_source(volume, source: str) -> None:
    """The volume, and no copy of it, was read from there."""
    volume.SetAttribute(_SOURCE, f"{volume.GetID()} {source}")


def volumes_by_source(scene) -> dict[str, object]:
    """The scans of a scene that have voxels by where they were read from, here or by Slicer itself."""
    every = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene)
    scans = [node for node in every if node.GetClassName() == "vtkMRMLScalarVolumeNode" and node.GetImageData()]
    found = {_remembered(scan) or _stored(scan): scan for scan in reversed(scans)}
    return {source: scan for source, scan in found.items() if source}


def _remembered(volume) -> str:
    identifier, _, source = (volume.GetAttribute(_SOURCE) or "").partition(" ")
    return source if identifier == volume.GetID() else ""


def _stored(volume) -> str:
    storage = volume.GetStorageNode()
    name = storage.GetFullNameFromFileName() if storage is not None and storage.GetFileName() else ""
    return source_of(Path(name)) if name else ""
