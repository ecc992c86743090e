"""Scans and finished annotations of the scene as files that training and prediction read, always in world space.

>>> export = export_cases(table, run_folder / "data")                                  # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from SemiSegLib.config import Label
from SemiSegLib.data.origins import FILE as ORIGINS
from SemiSegLib.data.patients import FILE as PATIENTS
from SemiSegLib.runs import write_json

from . import segments, volumes
from .annotations import IGNORE_VALUE, annotation_mask
from .case import Case, CaseError
from .case_table import CaseTable
from .identity import write_identity
from .records import State
from .region import voxel_box, voxels_outside

MANIFEST = "exported_from_scene.json"
FILE_FORMATS = (".nrrd", ".nii.gz")
Progress = Callable[[int, int, str], None]  # cases done, cases in all, name of the one at hand


@dataclasses.dataclass
class Export:
    """What `export_cases` wrote: file stems by what they are for, and remarks for the user."""

    folder: Path
    labelled: list[str] = dataclasses.field(default_factory=list)
    unlabelled: list[str] = dataclasses.field(default_factory=list)
    remarks: list[str] = dataclasses.field(default_factory=list)
    places: dict[str, volumes.Place] = dataclasses.field(default_factory=dict)

    @property
    def images(self) -> Path:
        """Folder of the scans."""
        return self.folder / "images"


def export_cases(
    table: CaseTable,
    folder: Path,
    cases: Iterable[Case] | None = None,
    file_format: str = ".nrrd",
    progress: Progress | None = None,
    pool: Path | None = None,
    whole: bool = False,
) -> Export:
    """Write `folder/images/<stem>` for every case and `folder/labels/<stem>` for those with a finished annotation.

    Values in the masks are those of the task's labels; 255 marks what nobody annotated (`Case.partial`) or was sure
    of; origins.json says which masks were drawn, corrected or accepted, patients.json which scans are of one patient,
    whom it does not name. The volumes are written where their transforms put them, cropped to the region of interest
    where there is one. Called again for the same folder, it writes what has changed and removes files of cases that are
    no longer wanted.

    :param cases: all that are not excluded, when None
    :param pool: a folder that keeps every file once, compressed, for all exports of a study: the files of `folder` are
        links to those, copies only where the disk knows no links
    :param whole: scans alone, and all of each, wherever its region of interest is
    :raises SemiSegError: nothing to export, foreign files in the folder, a transform that cannot be exported, a
        region of interest that misses its scan
    """
    chosen = [case for case in (table.cases if cases is None else cases) if case.state is not State.EXCLUDED]
    if not chosen:
        raise CaseError("There is no case to export: add scans to the table, or include excluded ones again.")
    if file_format not in FILE_FORMATS:
        raise CaseError(f"Scans are exported as {' or '.join(FILE_FORMATS)}, not '{file_format}'.")
    labels = table.labels
    export = Export(Path(folder))
    store = _ExportFolder(Path(folder), pool)
    for number, case in enumerate(chosen):
        if progress:
            progress(number, len(chosen), case.name)
        _export_image(case, store, file_format, None if whole else case.box())
        export.places[case.file_name] = volumes.Place.of(case.volume)
        if case.state.trains_with_mask and not whole:
            _export_mask(case, labels, store, file_format, export.remarks)
            export.labelled.append(case.file_name)
        else:
            export.unlabelled.append(case.file_name)
            if case.unfinished:
                export.remarks.append(f"{case.name}: the annotation is not learnt from: it is not marked as done.")
    store.finish()
    _describe(export, table, chosen)
    if progress:
        progress(len(chosen), len(chosen), "")
    return export


def _describe(export: Export, table: CaseTable, cases: Sequence[Case]) -> None:
    """Write beside the files what their masks are, whose scans they are, and where these lie."""
    origins = {case.file_name: case.origin for case in cases if case.state.trains_with_mask}
    write_json(export.folder / ORIGINS, origins)
    write_json(export.folder / PATIENTS, _patients(cases))
    names = {"background": 0, **{label.name: label.value for label in table.labels}}
    write_json(export.folder / "dataset.json", {"labels": names})
    write_identity(export.folder, table.identifier, cases, export.places)


def _patients(cases: Sequence[Case]) -> dict[str, str]:
    """A number for each patient, by the stem of the case's files."""
    numbers: dict[str, str] = {}
    return {case.file_name: numbers.setdefault(case.patient_key, f"patient_{len(numbers) + 1:03d}") for case in cases}


def _export_image(case: Case, store: _ExportFolder, file_format: str, box: volumes.VoxelBox | None) -> None:
    image = volumes.world_image(case.volume, box=box)
    store.write(f"images/{case.file_name}{file_format}", image, compress=file_format.endswith(".gz"))


def _export_mask(case: Case, labels: Sequence[Label], store: _ExportFolder, suffix: str, remarks: list[str]) -> None:
    mask, box = annotation_mask(case, labels), case.box()
    unseen = _count_labels(mask) - _count_labels(mask[box.slices])
    if unseen and unseen == _count_labels(mask):
        raise CaseError(
            f"Nothing that is drawn in the annotation of '{case.name}' lies in its region of interest: "
            "move the region, fit it again, or remove it."
        )
    if unseen:
        remarks.append(f"{case.name}: {unseen} annotated voxels outside the region of interest are not learnt from.")
    beside = voxels_outside(case.annotation, case.volume, voxel_box(None, case.volume), labels)
    if beside:
        remarks.append(
            f"{case.name}: {beside} annotated voxels lie beside the scan and are not learnt from. Was it moved or "
            "cropped since?"
        )
    store.write(f"labels/{case.file_name}{suffix}", volumes.world_image(case.volume, mask, box), compress=True)
    foreign = segments.foreign_segments(case.annotation, labels)
    if foreign:
        remarks.append(f"{case.name}: left out segments that are not labels of the task: {', '.join(foreign)}.")


def _count_labels(mask: np.ndarray) -> int:
    return int(np.count_nonzero((mask != 0) & (mask != IGNORE_VALUE)))


class _ExportFolder:
    """The files of an export, with a fingerprint of each, so that only what has changed is written again."""

    def __init__(self, folder: Path, pool: Path | None = None) -> None:
        self.folder, self._pool = folder, pool
        self._before = self._read_manifest()
        self._now: dict[str, str] = {}
        foreign = sorted(self._files() - set(self._before))
        if foreign:
            raise CaseError(
                f"{folder} holds files that were not exported from this module ({', '.join(foreign[:3])}); "
                "choose a new or empty folder."
            )

    def write(self, name: str, image: sitk.Image, compress: bool) -> None:
        """Write an image unless the file holds exactly this already."""
        fingerprint = _fingerprint(image)
        if self._before.get(name) != fingerprint or not (self.folder / name).is_file():
            self._write(self.folder / name, image, compress, fingerprint)
        self._now[name] = fingerprint
        write_json(self.folder / MANIFEST, {**self._before, **self._now})  # so that a crash leaves no foreign files

    def _write(self, path: Path, image: sitk.Image, compress: bool, fingerprint: str) -> None:
        if self._pool is None:
            volumes.write_image(image, path, compress)
            return
        kept = self._pool / f"{fingerprint}.{path.name.partition('.')[2]}"
        if not kept.is_file():
            volumes.write_image(image, kept)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            os.link(kept, path)
        except OSError:  # another disk, or one such as FAT
            shutil.copyfile(kept, path)

    def finish(self) -> None:
        """Remove files of an earlier export that nobody wants any more: they would take part in the training."""
        for name in set(self._before) - set(self._now):
            (self.folder / name).unlink(missing_ok=True)
        write_json(self.folder / MANIFEST, self._now)

    def _read_manifest(self) -> dict[str, str]:
        path = self.folder / MANIFEST
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except (OSError, json.JSONDecodeError) as error:
            raise CaseError(f"{path} is damaged ({error}); choose a new folder.") from error

    def _files(self) -> set[str]:
        found = [path for part in ("images", "labels") for path in (self.folder / part).glob("*")]
        return {f"{path.parent.name}/{path.name}" for path in found if not path.name.startswith(".")}


def _fingerprint(image: sitk.Image) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((image.GetPixelIDTypeAsString(), image.GetSize(), image.GetSpacing())).encode())
    digest.update(repr((image.GetOrigin(), image.GetDirection())).encode())
    digest.update(np.ascontiguousarray(sitk.GetArrayViewFromImage(image)).data)
    return digest.hexdigest()
