"""Masks as files to give away.

>>> export_masks(table, table.cases, folder, ".seg.nrrd")               # doctest: +SKIP
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from SemiSegLib.config import Label
from SemiSegLib.files import write_whole

from ..scene import segments, volumes
from ..scene.annotations import beside_its_scan
from ..scene.case import Case
from ..scene.case_table import CaseTable
from ..scene.names_list import write_names
from .choice import ExportError, check_format, refuse_existing, segmentation_of, with_mask
from .names import give, stems

MASK_FORMATS = (".seg.nrrd", ".nrrd", ".nii.gz")


def export_masks(
    table: CaseTable,
    cases: Iterable[Case],
    folder: Path,
    file_format: str = ".seg.nrrd",
    source: str = "best",
    overwrite: bool = False,
    by_patient: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Path]:
    """Write one mask a case on the voxels of its scan, in world space; cases without a mask are left out.

    Names and colours are in the `.seg.nrrd` files themselves; for the other formats they are in `labels.json` and
    in `labels.ctbl`, Slicer's colour table. Values are those of the task's labels.

    :param by_patient: a folder for each patient
    :return: the files of the masks
    :raises FilesExist: and nothing is written
    :raises ExportError: unknown format, no case has a mask, or one lies beside its scan
    """
    check_format(file_format, MASK_FORMATS)
    chosen = with_mask(cases, source, table.labels)
    folder = Path(folder)
    labels = table.labels
    names = stems(table, chosen, by_patient)
    paths = [folder / (name + file_format) for name in names]
    files = {} if file_format == ".seg.nrrd" else _label_files(labels)
    beside = {path.parent / name: text for path in paths for name, text in files.items()}
    refuse_existing([*paths, *_different(beside)], overwrite)
    give(table, chosen, names)
    written: dict[str, Case] = {}
    try:
        for number, (name, case, path) in enumerate(zip(names, chosen, paths, strict=True)):
            if progress:
                progress(number, len(chosen), case.name)
            _write_mask(volumes.world_image(case.volume, _mask_of(case, source, labels)), path, labels)
            written[name] = case
    finally:  # somebody may have cancelled: what is there says what it is
        _write_beside(folder, files, written)
    return paths


def _write_beside(folder: Path, files: Mapping[str, str], written: Mapping[str, Case]) -> None:
    """What masks do not say themselves: the meaning of their values, in each folder with some, and whose they are."""
    for parent in sorted({(folder / name).parent for name in written}):
        for name, text in files.items():
            write_whole(parent / name, text)
    if written:
        write_names(folder, written)


def _mask_of(case: Case, source: str, labels: Sequence[Label]) -> np.ndarray:
    """The mask on the voxels of its scan; an empty one only where nothing is drawn or found."""
    node = segmentation_of(case, source)
    mask = segments.voxels_on_grid(node, case.volume, labels)
    if not mask.any() and any(segments.voxel_counts(node, labels).values()):
        raise ExportError(beside_its_scan(case))
    return mask


def _write_mask(image, path: Path, labels: Sequence[Label]) -> None:
    if path.name.endswith(".seg.nrrd"):
        from SemiSegLib.data.writing import write_mask

        write_mask(image, path, labels, terminology={label.value: segments.terminology(label) for label in labels})
    else:
        volumes.write_image(image, path)


def _label_files(labels: Sequence[Label]) -> dict[str, str]:
    """Content by name of the files that say what the values in masks mean, to programs and to Slicer."""
    entries = [{"value": label.value, "name": label.name, "color": list(label.color)} for label in labels]
    rows = [f"{label.value} {label.name.replace(' ', '_')} {' '.join(map(str, label.color))} 255" for label in labels]
    return {
        "labels.json": json.dumps({"labels": entries}, indent=1, ensure_ascii=False) + "\n",
        "labels.ctbl": "\n".join(["# Color table file", "0 Background 0 0 0 0", *rows]) + "\n",
    }


def _different(files: dict[Path, str]) -> list[Path]:
    """Those of the files that exist with another content, from another task."""
    existing = [path for path in files if path.exists()]
    return [path for path in existing if path.read_text(encoding="utf-8", errors="replace") != files[path]]
