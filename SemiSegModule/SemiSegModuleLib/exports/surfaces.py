"""Surface models of masks as files to give away.

>>> export_surfaces(table, [case], folder, ".stl", decimation=0.5)      # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from SemiSegLib.config import Label
from SemiSegLib.files import replace, write_whole

from ..scene import segments
from ..scene.case import Case
from ..scene.case_table import CaseTable
from ..scene.file_names import safe_file_name
from ..scene.names_list import write_names
from ..scene.scan import shown_name
from .choice import ExportError, check_format, refuse_existing, segmentation_of, with_mask
from .names import give, stems

SURFACE_FORMATS = (".stl", ".obj", ".ply")


def export_surfaces(
    table: CaseTable,
    cases: Iterable[Case],
    folder: Path,
    file_format: str = ".stl",
    source: str = "best",
    smoothing: float = 0.5,
    decimation: float = 0.0,
    overwrite: bool = False,
    by_patient: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Path]:
    """Write a surface for each label of each case, in world space, mm, LPS as Slicer writes models.

    Colours are in the `.ply` and (as a `.mtl` beside it) the `.obj` files; STL holds none.

    :param smoothing: 0 to 1, that of Slicer's closed surface representation
    :param decimation: share of the triangles to take away, 0 to 0.95
    :param by_patient: a folder for each patient
    :raises FilesExist: and nothing is written
    :raises ExportError: unknown format, or no case has a mask
    """
    check_format(file_format, SURFACE_FORMATS)
    if not 0 <= smoothing <= 1 or not 0 <= decimation <= 0.95:
        raise ExportError("Smoothing must lie between 0 and 1, decimation between 0 and 0.95.")
    labels, named = segments.by_value(table.labels), _names(table, by_patient)
    wanted = []
    chosen = with_mask(cases, source, table.labels)
    for case in chosen:
        for value, count in segments.voxel_counts(segmentation_of(case, source), table.labels).items():
            if count:
                wanted.append((case, labels[value], Path(folder) / (named[case.id, value] + file_format)))
    if not wanted:
        raise ExportError("There is no mask to make a surface of.")
    refuse_existing([path for _, _, path in wanted], overwrite)
    names = stems(table, chosen, by_patient)
    stem_of = dict(zip(chosen, names, strict=True))
    give(table, chosen, names)
    written: dict[str, Case] = {}
    try:
        for number, (case, label, path) in enumerate(wanted):
            if progress:
                progress(number, len(wanted), f"{case.name}, {label.name}")
            surface = world_surface(segmentation_of(case, source), label, table.labels, smoothing, decimation)
            write_surface(surface, path, label)
            written[stem_of[case]] = case
    finally:  # somebody may have cancelled: what is there says whose it is
        if written:
            write_names(folder, written)
    return [path for _, _, path in wanted]


def _names(table: CaseTable, by_patient: bool) -> dict[tuple[str, int], str]:
    """Name of the file by case and value of the label, the same whichever cases are exported, none twice: 'pat' with
    'left atrium' and 'pat left' with 'atrium' would share one."""
    every, parts = table.cases, _parts(table.labels)
    named: dict[tuple[str, int], str] = {}
    taken: set[str] = set()
    for case, stem in zip(every, stems(table, every, by_patient), strict=True):
        for value, part in parts.items():
            name, number = f"{stem}_{part}", 2
            while name.casefold() in taken:
                name, number = f"{stem}_{part}_{number}", number + 1
            taken.add(name.casefold())
            named[case.id, value] = name
    return named


def _parts(labels: Sequence[Label]) -> dict[int, str]:
    """What each label is called in the names of files, by value; names in other letters would all become one."""
    parts: dict[int, str] = {}
    for label in labels:
        parts[label.value] = safe_file_name(label.name, parts.values())
    return parts


def world_surface(segmentation_node, label: Label, labels: Sequence[Label], smoothing: float, decimation: float):
    """Closed, smoothed surface of one label in world space (RAS, mm) with normals, a vtkPolyData.

    :raises ExportError: the label has no voxels
    """
    identifier = next(
        (key for key, value in segments.segments_by_label(segmentation_node, labels).items() if value == label.value),
        None,
    )
    if identifier is None or segments.is_empty(segmentation_node, identifier):
        raise ExportError(f"'{shown_name(segmentation_node)}' has nothing drawn for '{label.name}'.")
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
        written = _surface_writer(lps, unfinished, label).Write()
        if not written or (path.suffix == ".ply" and not _is_whole_ply(unfinished, lps)):
            raise ExportError(f"{path} cannot be written.")
        if path.suffix == ".obj":
            _give_material(unfinished, path.with_suffix(".mtl"), label)
        replace(unfinished, path, attempts=7)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        with contextlib.suppress(OSError):  # not there, or held
            unfinished.unlink()


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
        raise ExportError(f"No surface could be made of '{shown_name(segmentation_node)}'.")
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


def _is_whole_ply(path: Path, surface) -> bool:
    """VTK's writer of this format does not notice that a disk is full."""
    header, _end, body = path.read_bytes().partition(b"end_header\n")
    vertex, _count, face = header.partition(b"element face ")
    point = 4 * vertex.count(b"property float") + vertex.count(b"property uchar")
    triangle = 1 + 3 * 4 + face.count(b"property uchar")  # the number of its corners, and each of them
    return len(body) == point * surface.GetNumberOfPoints() + triangle * surface.GetNumberOfPolys()


def _give_material(obj: Path, material: Path, label: Label) -> None:
    name = safe_file_name(label.name)
    color = " ".join(f"{part:.4f}" for part in segments.rgb(label))
    write_whole(material, f"newmtl {name}\nKa 0 0 0\nKd {color}\nKs 0.2 0.2 0.2\nNs 20\nd 1\n")
    geometry = obj.read_text(encoding="ascii")
    obj.write_text(f"# SPACE=LPS\nmtllib {material.name}\nusemtl {name}\n{geometry}", encoding="ascii", newline="\n")
