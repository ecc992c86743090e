"""Results as files to give away: masks, surface models, a table of volumes. Nothing is overwritten silently.

>>> export_masks(table, table.cases, folder, ".seg.nrrd")               # doctest: +SKIP
>>> export_surfaces(table, [case], folder, ".stl", decimation=0.5)      # doctest: +SKIP
>>> export_volumes_csv(table, table.cases, folder / "volumes.csv")      # doctest: +SKIP
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from SemiSegLib.config import Label
from SemiSegLib.errors import SemiSegError
from SemiSegLib.runs import write_whole

from . import segments, volumes
from .case_table import Case, CaseTable, safe_file_name

MASK_FORMATS = (".seg.nrrd", ".nrrd", ".nii.gz")
SURFACE_FORMATS = (".stl", ".obj", ".ply")
SOURCES = ("best", "annotation", "prediction")


class ExportError(SemiSegError):
    """Something cannot be exported; the message says what and why."""


class FilesExist(ExportError):
    """Files are there already; `paths` names them, so that the user can be asked."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        names = ", ".join(path.name for path in self.paths[:3]) + (" and more" if len(self.paths) > 3 else "")
        super().__init__(f"{self.paths[0].parent} holds {names} already; nothing was written.")


def segmentation_of(case: Case, source: str = "best"):
    """The segmentation to export, or None.

    :param source: 'annotation', 'prediction', or 'best': the annotation when finished, else the prediction
    """
    if source not in SOURCES:
        raise ExportError(f"Masks come from {', '.join(SOURCES)}, not '{source}'.")
    if source == "annotation":
        return case.annotation if case.has_drawing else None
    if source == "prediction":
        return case.prediction
    return case.annotation if case.done else (case.prediction or segmentation_of(case, "annotation"))


def export_masks(
    table: CaseTable,
    cases: Iterable[Case],
    folder: Path,
    file_format: str = ".seg.nrrd",
    source: str = "best",
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Path]:
    """Write one mask a case on the voxels of its scan, in world space; cases without a mask are left out.

    Names and colours are in the `.seg.nrrd` files themselves; for the other formats they are in `labels.json` and
    in `labels.ctbl`, Slicer's colour table. Values are those of the task's labels.

    :return: the files of the masks
    :raises FilesExist: and nothing is written
    :raises ExportError: unknown format, or no case has a mask
    """
    _check_format(file_format, MASK_FORMATS)
    chosen = _with_mask(cases, source)
    folder = Path(folder)
    labels = table.labels
    paths = [folder / (case.file_name + file_format) for case in chosen]
    beside = {} if file_format == ".seg.nrrd" else _label_files(labels)
    _refuse_existing([*paths, *_different(folder, beside)], overwrite)
    for number, (case, path) in enumerate(zip(chosen, paths, strict=True)):
        if progress:
            progress(number, len(chosen), case.name)
        array = segments.voxels_on_grid(segmentation_of(case, source), case.volume, labels)
        _write_mask(volumes.world_image(case.volume, array), path, labels)
    for name, text in beside.items():
        write_whole(folder / name, text)
    return paths


def export_surfaces(
    table: CaseTable,
    cases: Iterable[Case],
    folder: Path,
    file_format: str = ".stl",
    source: str = "best",
    smoothing: float = 0.5,
    decimation: float = 0.0,
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Path]:
    """Write a surface for each label of each case, in world space, mm, LPS as Slicer writes models.

    Colours are in the `.ply` and (as a `.mtl` beside it) the `.obj` files; STL holds none.

    :param smoothing: 0 to 1, that of Slicer's closed surface representation
    :param decimation: share of the triangles to take away, 0 to 0.95
    :raises FilesExist: and nothing is written
    :raises ExportError: unknown format, or no case has a mask
    """
    _check_format(file_format, SURFACE_FORMATS)
    if not 0 <= smoothing <= 1 or not 0 <= decimation <= 0.95:
        raise ExportError("Smoothing must lie between 0 and 1, decimation between 0 and 0.95.")
    labels = segments.by_value(table.labels)
    wanted = []
    for case in _with_mask(cases, source):
        for value, count in segments.voxel_counts(segmentation_of(case, source), table.labels).items():
            stem = f"{case.file_name}_{safe_file_name(labels[value].name)}"
            if count:
                wanted.append((case, labels[value], Path(folder) / (stem + file_format)))
    if not wanted:
        raise ExportError("There is no mask to make a surface of.")
    _refuse_existing([path for _, _, path in wanted], overwrite)
    for number, (case, label, path) in enumerate(wanted):
        if progress:
            progress(number, len(wanted), f"{case.name}, {label.name}")
        surface = world_surface(segmentation_of(case, source), label, table.labels, smoothing, decimation)
        write_surface(surface, path, label)
    return [path for _, _, path in wanted]


def export_volumes_csv(
    table: CaseTable, cases: Iterable[Case], path: Path, source: str = "best", overwrite: bool = False
) -> Path:
    """Write a table: case, state, source of the mask, and the volume in ml of each label; empty without a mask.

    :raises FilesExist: and nothing is written
    """
    path = Path(path)
    _refuse_existing([path], overwrite)
    labels = table.labels
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "state", "mask", *(f"{label.name} [ml]" for label in labels), "quality", "measure"])
    for case in cases:
        writer.writerow(_volumes_row(case, labels, source))
    write_whole(path, "\ufeff" + text.getvalue())  # the mark makes Excel read UTF-8
    return path


def world_surface(segmentation_node, label: Label, labels: Sequence[Label], smoothing: float, decimation: float):
    """Closed, smoothed surface of one label in world space (RAS, mm) with normals, a vtkPolyData.

    :raises ExportError: the label has no voxels
    """
    identifier = next(
        (key for key, value in segments.segments_by_label(segmentation_node, labels).items() if value == label.value),
        None,
    )
    if identifier is None or segments.is_empty(segmentation_node, identifier):
        raise ExportError(f"'{segmentation_node.GetName()}' has nothing drawn for '{label.name}'.")
    pipeline = _Pipeline(_closed_surface(segmentation_node, identifier, smoothing))
    transform = vtk.vtkTransform()
    transform.SetMatrix(segments.world_matrix(segmentation_node).ravel())
    pipeline.add(vtk.vtkTransformPolyDataFilter(), Transform=transform)
    pipeline.add(vtk.vtkTriangleFilter())
    if decimation > 0:
        pipeline.add(vtk.vtkQuadricDecimation(), TargetReduction=decimation)
    pipeline.add(vtk.vtkPolyDataNormals(), ConsistencyOn=None, AutoOrientNormalsOff=None, SplittingOff=None)
    if _signed_volume(pipeline.output()) < 0:  # inside out, as left-handed grids leave it
        pipeline.add(vtk.vtkReverseSense(), ReverseCellsOn=None, ReverseNormalsOn=None)
    return pipeline.output()


def write_surface(surface, path: Path, label: Label) -> None:
    """Write a surface given in RAS as LPS, whole or not at all, with the label's colour where the format has one."""
    flip = vtk.vtkTransform()
    flip.Scale(-1, -1, 1)
    pipeline = _Pipeline(surface)
    pipeline.add(vtk.vtkTransformPolyDataFilter(), Transform=flip)
    lps = pipeline.output()  # two axes flipped: a rotation, so triangles keep their outside
    path = Path(path)
    unfinished = path.with_name(f".unfinished-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if not _surface_writer(lps, unfinished, label).Write():
            raise ExportError(f"{path} cannot be written.")
        if path.suffix == ".obj":
            _give_material(unfinished, path.with_suffix(".mtl"), label)
        unfinished.replace(path)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        unfinished.unlink(missing_ok=True)


class _Pipeline:
    """VTK filters one after the other."""

    def __init__(self, data) -> None:
        self._data = data

    def add(self, stage, **settings) -> None:
        """Run a filter; `Name=value` calls SetName(value), `NameOn=None` calls NameOn()."""
        for name, value in settings.items():
            getattr(stage, name)() if value is None else getattr(stage, f"Set{name}")(value)
        stage.SetInputData(self._data)
        stage.Update()
        self._data = stage.GetOutput()

    def output(self):
        """What the last filter made."""
        return self._data


def _closed_surface(segmentation_node, identifier: str, smoothing: float):
    """Slicer's own conversion, on a copy, so that the scene's surfaces and settings stay."""
    segmentation = slicer.vtkSegmentation()
    segmentation.SetSourceRepresentationName(segments.BINARY)
    segmentation.CopySegmentFromSegmentation(segmentation_node.GetSegmentation(), identifier)
    segmentation.SetConversionParameter("Smoothing factor", str(smoothing))
    segmentation.GetSegment(identifier).RemoveRepresentation(segments.SURFACE)
    if not segmentation.CreateRepresentation(segments.SURFACE, True):
        raise ExportError(f"No surface could be made of '{segmentation_node.GetName()}'.")
    return segmentation.GetSegment(identifier).GetRepresentation(segments.SURFACE)


def _signed_volume(triangles) -> float:
    """Volume in a closed surface, mm³; negative when its triangles face inwards."""
    points = vtk_to_numpy(triangles.GetPoints().GetData()).astype(float)
    corners = points[vtk_to_numpy(triangles.GetPolys().GetConnectivityArray()).reshape(-1, 3)]
    return float(np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))) / 6.0


def _surface_writer(surface, path: Path, label: Label):
    suffix = path.suffix
    writer = {".stl": vtk.vtkSTLWriter, ".obj": vtk.vtkOBJWriter, ".ply": vtk.vtkPLYWriter}[suffix]()
    if suffix != ".obj":
        writer.SetFileTypeToBinary()
    if suffix == ".stl":
        writer.SetHeader(f"SemiSeg {label.name}. SPACE=LPS".encode("ascii", "replace").decode()[:79])
    if suffix == ".ply":
        writer.SetColorModeToUniformColor()
        writer.SetColor(*label.color)
    writer.SetInputData(surface)
    writer.SetFileName(str(path))
    return writer


def _give_material(obj: Path, material: Path, label: Label) -> None:
    name = safe_file_name(label.name)
    color = " ".join(f"{part:.4f}" for part in segments.rgb(label))
    write_whole(material, f"newmtl {name}\nKa 0 0 0\nKd {color}\nKs 0.2 0.2 0.2\nNs 20\nd 1\n")
    geometry = obj.read_text(encoding="ascii")
    obj.write_text(f"# SPACE=LPS\nmtllib {material.name}\nusemtl {name}\n{geometry}", encoding="ascii", newline="\n")


def _volumes_row(case: Case, labels: Sequence[Label], source: str) -> list[str]:
    node = segmentation_of(case, source)
    measured = segments.volumes_ml(node, labels) if node is not None else {}
    origin = "" if node is None else ("prediction" if node is case.prediction else "annotation")
    amounts = [f"{measured[label.value]:.3f}" if label.value in measured else "" for label in labels]
    quality = case.quality if origin == "prediction" else None
    rating = [f"{quality.value:.3f}", quality.measure] if quality else ["", ""]
    return [case.name, case.state.value, origin, *amounts, *rating]


def _write_mask(image, path: Path, labels: Sequence[Label]) -> None:
    if path.name.endswith(".seg.nrrd"):
        from SemiSegLib.data.images import write_mask

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


def _different(folder: Path, files: dict[str, str]) -> list[Path]:
    """Those of the files that exist with another content, from another task."""
    existing = [folder / name for name in files if (folder / name).exists()]
    return [path for path in existing if path.read_text(encoding="utf-8", errors="replace") != files[path.name]]


def _with_mask(cases: Iterable[Case], source: str) -> list[Case]:
    chosen = [case for case in cases if segmentation_of(case, source) is not None]
    if not chosen:
        raise ExportError("None of the chosen cases has a mask to export.")
    return chosen


def _check_format(file_format: str, allowed: Sequence[str]) -> None:
    if file_format not in allowed:
        raise ExportError(f"The format is one of {', '.join(allowed)}, not '{file_format}'.")


def _refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    existing = [path for path in paths if path.exists()]
    if existing and not overwrite:
        raise FilesExist(existing)
