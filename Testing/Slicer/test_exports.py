"""Exports read back by others: names, values, colours and the place in the world of masks and surfaces; the CSV."""

import contextlib
import csv
import json
import os
import signal

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from drawing import corner_points, draw, put_under_transform, same_points, world_points

GEOMETRIES = ["a_volume", "an_oblique_volume", "a_left_handed_volume"]
BLOCK = np.s_[2:6, 3:9, 4:12]


def stem_of(case):
    """The name of the scan as a file name."""
    return case.name.replace(" ", "_")


@pytest.fixture
def annotated(request, scene, table):
    """A finished case with both labels, its scan below a transform, segments in the wrong order."""

    def make(geometry="an_oblique_volume", transformed=True):
        volume = request.getfixturevalue(geometry)
        case = table.add_volume(volume)
        if transformed:
            put_under_transform(volume)
        draw(table, case, 3, np.s_[7, 1:3, 1:3])
        mask = draw(table, case, 1, BLOCK)
        case.annotation.GetSegmentation().ReorderSegments(["SemiSeg_3", "SemiSeg_1"])
        case.mark_done()
        return case, mask

    return make


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("suffix", [".seg.nrrd", ".nrrd", ".nii.gz"])
def test_masks_are_in_place_with_the_values_of_the_task(table, annotated, tmp_path, suffix, geometry):
    from SemiSegModuleLib.exports.masks import export_masks

    case, mask = annotated(geometry)
    (path,) = export_masks(table, [case], tmp_path, suffix)
    assert path.name == stem_of(case) + suffix
    for value in (1, 3):
        expected = corner_points(case.volume, np.argwhere(mask == value))
        assert same_points(world_points(path, value), expected)


def test_nifti_mask_read_by_nibabel(table, annotated, tmp_path):
    from SemiSegModuleLib.exports.masks import export_masks

    case, mask = annotated(transformed=False)
    (path,) = export_masks(table, [case], tmp_path, ".nii.gz")
    image = nibabel.load(path)
    assert image.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(image.dataobj).T, mask)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_seg_nrrd_opens_in_slicer_with_names_colours_values_and_terminology(table, annotated, tmp_path, geometry):
    import slicer
    from SemiSegModuleLib.exports.masks import export_masks

    case, mask = annotated(geometry)
    (path,) = export_masks(table, [case], tmp_path, ".seg.nrrd")
    node = slicer.modules.segmentations.logic().LoadSegmentationFromFile(str(path))
    segmentation = node.GetSegmentation()
    found = {}
    for identifier in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(identifier)
        found[segment.GetName()] = (segment.GetLabelValue(), tuple(round(255 * part) for part in segment.GetColor()))
    assert found == {"left atrium": (1, (152, 55, 13)), "aorta": (3, (224, 97, 76))}
    atrium = segmentation.GetSegment(segmentation.GetSegmentIdBySegmentName("left atrium"))
    assert "82471001" in atrium.GetTerminology()
    aorta = segmentation.GetSegmentIdBySegmentName("aorta")
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, aorta, case.volume)
    assert np.array_equal(array, mask == 3)


def test_names_and_colours_lie_beside_masks_that_cannot_hold_them(table, annotated, tmp_path):
    import slicer
    from SemiSegModuleLib.exports.masks import export_masks
    from SemiSegModuleLib.scene.predictions import read_labels

    case, _ = annotated()
    (path,) = export_masks(table, [case], tmp_path, ".nii.gz")
    assert read_labels(path) == table.labels
    colors = slicer.modules.colors.logic().LoadColorFile(str(tmp_path / "labels.ctbl"))
    assert [colors.GetColorName(value) for value in (1, 3)] == ["left atrium", "aorta"]
    rgba = [0.0] * 4
    colors.GetColor(3, rgba)
    assert np.allclose(rgba, [224 / 255, 97 / 255, 76 / 255, 1.0])


def test_an_exported_mask_comes_back_as_it_was(table, annotated, tmp_path, scene):
    from SemiSegModuleLib.exports.masks import export_masks
    from SemiSegModuleLib.scene import segments
    from SemiSegModuleLib.scene.predictions import load_prediction

    case, mask = annotated()
    (path,) = export_masks(table, [case], tmp_path, ".seg.nrrd")
    load_prediction(table, case, path)
    assert np.array_equal(segments.voxels_on_grid(case.prediction, case.volume, table.labels), mask)


@pytest.mark.parametrize("suffix", [".nrrd", ".stl"])
def test_what_a_virus_scanner_holds_for_a_moment_is_exported(table, annotated, tmp_path, monkeypatch, suffix):
    """On Windows a new file cannot be renamed while it is scanned."""
    from SemiSegModuleLib.exports.masks import export_masks
    from SemiSegModuleLib.exports.surfaces import export_surfaces

    failures, rename = [PermissionError(13, "held"), PermissionError(13, "held")], os.replace

    def replace(source, target):
        if failures:
            raise failures.pop()
        rename(source, target)

    case, _ = annotated()
    monkeypatch.setattr(os, "replace", replace)
    export = export_surfaces if suffix == ".stl" else export_masks
    assert all(path.is_file() for path in export(table, [case], tmp_path, suffix))
    assert not list(tmp_path.glob(".unfinished*"))


def read_surface(path):
    """Points (n, 3) and triangles of a surface file, by VTK's own readers."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    reader = {".stl": vtk.vtkSTLReader, ".obj": vtk.vtkOBJReader, ".ply": vtk.vtkPLYReader}[path.suffix]()
    reader.SetFileName(str(path))
    reader.Update()
    mass = vtk.vtkMassProperties()
    mass.SetInputData(reader.GetOutput())
    return vtk_to_numpy(reader.GetOutput().GetPoints().GetData()), reader.GetOutput(), mass.GetVolume()


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("suffix", [".stl", ".obj", ".ply"])
def test_surfaces_lie_round_the_voxels_in_lps(table, annotated, tmp_path, suffix, geometry):
    from SemiSegModuleLib.exports.surfaces import export_surfaces

    case, mask = annotated(geometry)
    paths = export_surfaces(table, [case], tmp_path, suffix, smoothing=0.0)
    assert sorted(path.name for path in paths) == [
        f"{stem_of(case)}_aorta{suffix}",
        f"{stem_of(case)}_left_atrium{suffix}",
    ]
    points, _, volume = read_surface(tmp_path / f"{stem_of(case)}_left_atrium{suffix}")
    voxels = corner_points(case.volume, np.argwhere(mask == 1))
    assert np.allclose(points.mean(axis=0), voxels.mean(axis=0), atol=0.6)
    assert np.abs(points.min(axis=0) - voxels.min(axis=0)).max() < 2.6  # half a voxel's diagonal at most
    expected = np.count_nonzero(mask == 1) * 0.9 * 1.3 * 2.5
    assert volume == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_normals_point_outwards(table, annotated, geometry):
    import vtk
    from SemiSegModuleLib.exports.surfaces import world_surface
    from vtk.util.numpy_support import vtk_to_numpy

    case, _ = annotated(geometry)
    surface = world_surface(case.annotation, table.labels[0], table.labels, 0.5, 0.0)
    normals = vtk_to_numpy(surface.GetPointData().GetNormals())
    points = vtk_to_numpy(surface.GetPoints().GetData())
    outward = (normals * (points - points.mean(axis=0))).sum(axis=1)
    assert (outward > 0).mean() > 0.95
    edges = vtk.vtkFeatureEdges()
    edges.SetInputData(surface)
    edges.FeatureEdgesOff()
    edges.ManifoldEdgesOff()
    edges.Update()
    assert edges.GetOutput().GetNumberOfCells() == 0, "closed: no border, nothing that branches"


def test_decimation_takes_triangles_away_and_smoothing_rounds(table, annotated):
    from SemiSegModuleLib.exports.surfaces import world_surface

    case, _ = annotated()
    rough = world_surface(case.annotation, table.labels[0], table.labels, 0.0, 0.0)
    light = world_surface(case.annotation, table.labels[0], table.labels, 0.0, 0.6)
    smooth = world_surface(case.annotation, table.labels[0], table.labels, 0.8, 0.0)
    assert light.GetNumberOfPolys() < 0.5 * rough.GetNumberOfPolys()
    assert area(smooth) < 0.95 * area(rough)


def area(surface):
    import vtk

    mass = vtk.vtkMassProperties()
    mass.SetInputData(surface)
    return mass.GetSurfaceArea()


def test_no_surface_takes_the_place_of_another_ones_in_a_name_without_latin_letters(table, a_volume, tmp_path):
    from SemiSegModuleLib.exports import export_surfaces

    from SemiSegLib.config import Label

    table.labels = [Label(1, "左心房", (152, 55, 13)), Label(3, "右心房", (224, 97, 76))]
    case = table.add_volume(a_volume)
    draw(table, case, 1)
    draw(table, case, 3, np.s_[6:8, 1:3, 1:3])
    case.mark_done()
    paths = export_surfaces(table, [case], tmp_path)
    assert len(set(paths)) == 2
    assert sorted(tmp_path.glob("*.stl")) == sorted(paths)


def test_surfaces_of_two_scans_never_share_a_file(table, add_volume, tmp_path):
    """'pat' with 'left atrium' and 'pat left' with 'atrium' are called the same; so is what the second is numbered."""
    from SemiSegModuleLib.exports import export_surfaces

    from SemiSegLib.config import Label

    names = ["left atrium", "atrium", "atrium 2"]
    table.labels = [Label(value, name, (1, 2, 3)) for value, name in enumerate(names, 1)]
    cases = [table.add_volume(add_volume(name)) for name in ("pat", "Pat left")]
    for case in cases:
        for label in table.labels:
            draw(table, case, label.value, np.s_[2 * label.value : 2 * label.value + 2, 3:9, 4:12])
        case.mark_done()
    written = [path.name for path in export_surfaces(table, cases, tmp_path / "all")]
    assert written[:3] == ["pat_left_atrium.stl", "pat_atrium.stl", "pat_atrium_2.stl"]
    assert len({name.casefold() for name in written}) == len(list((tmp_path / "all").glob("*.stl"))) == 6
    (tmp_path / "apart").mkdir()
    apart = [path.name for case in cases for path in export_surfaces(table, [case], tmp_path / "apart")]
    assert apart == written, "whichever are exported"


def test_the_scene_keeps_its_own_surface_settings(table, annotated, tmp_path):
    from SemiSegModuleLib.exports.surfaces import export_surfaces

    case, _ = annotated()
    segmentation = case.annotation.GetSegmentation()
    before = segmentation.GetConversionParameter("Smoothing factor")
    export_surfaces(table, [case], tmp_path, ".stl", smoothing=0.9)
    assert segmentation.GetConversionParameter("Smoothing factor") == before
    assert not segmentation.ContainsRepresentation("Closed surface")


def test_surface_files_carry_the_colour_where_they_can(table, annotated, tmp_path):
    from SemiSegModuleLib.exports.surfaces import export_surfaces
    from vtk.util.numpy_support import vtk_to_numpy

    case, _ = annotated()
    for suffix in (".ply", ".obj", ".stl"):
        export_surfaces(table, [case], tmp_path, suffix)
    _, surface, _ = read_surface(tmp_path / f"{stem_of(case)}_aorta.ply")
    assert (vtk_to_numpy(surface.GetPointData().GetScalars())[:, :3] == [224, 97, 76]).all()
    assert "Kd 0.8784 0.3804 0.2980" in (tmp_path / f"{stem_of(case)}_aorta.mtl").read_text(encoding="utf-8")
    obj = (tmp_path / f"{stem_of(case)}_aorta.obj").read_text(encoding="utf-8")
    assert f"mtllib {stem_of(case)}_aorta.mtl\nusemtl aorta\n" in obj
    assert b"SPACE=LPS" in (tmp_path / f"{stem_of(case)}_aorta.stl").read_bytes()[:80]


@contextlib.contextmanager
def no_file_longer_than(limit):
    """As on a disk that is full: the system refuses what is longer."""
    resource = pytest.importorskip("resource", reason="Windows knows no such limit")
    before, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("suffix", [".stl", ".obj", ".ply"])
def test_no_half_surface_is_left_by_a_disk_that_is_full(table, annotated, tmp_path, suffix):
    """VTK's writers do not all notice."""
    from SemiSegModuleLib.exports.choice import ExportError
    from SemiSegModuleLib.exports.surfaces import export_surfaces

    case, _ = annotated()
    size = min(path.stat().st_size for path in export_surfaces(table, [case], tmp_path / "whole", suffix))
    for limit in (size // 2, size - 1):
        with no_file_longer_than(limit), pytest.raises(ExportError, match="cannot be written"):
            export_surfaces(table, [case], tmp_path / "half", suffix)
        assert not list((tmp_path / "half").glob(f"*{suffix}"))


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz"])
def test_no_half_image_is_left_by_a_disk_that_is_full(a_volume, tmp_path, suffix, compress):
    """Nor do ITK's: that of NIfTI never, that of NRRD not where the end alone is missing."""
    from SemiSegModuleLib.scene import volumes

    image, path = volumes.world_image(a_volume), tmp_path / f"scan{suffix}"
    volumes.write_image(image, path, compress)
    size = path.stat().st_size
    path.unlink()
    for limit in (size // 2, size - 1):
        with no_file_longer_than(limit), pytest.raises(volumes.VolumeError, match="cannot be written"):
            volumes.write_image(image, path, compress)
        assert not list(tmp_path.iterdir())


def test_existing_files_are_kept_unless_overwriting_is_asked_for(table, annotated, tmp_path):
    from SemiSegModuleLib import exports

    case, _ = annotated()
    stem, cases = stem_of(case), [case]
    for write, name in (
        (lambda **more: exports.export_masks(table, cases, tmp_path, ".nrrd", **more), f"{stem}.nrrd"),
        (lambda **more: exports.export_surfaces(table, cases, tmp_path, ".stl", **more), f"{stem}_aorta.stl"),
        (lambda **more: exports.export_volumes_csv(table, cases, tmp_path / "v.csv", **more), "v.csv"),
    ):
        (tmp_path / name).write_text("precious")
        with pytest.raises(exports.FilesExist) as error:
            write()
        assert [path.name for path in error.value.paths] == [name]
        assert (tmp_path / name).read_text(encoding="utf-8") == "precious"
        write(overwrite=True)
        assert (tmp_path / name).stat().st_size > 20
    assert not (tmp_path / "v.csv").read_text(encoding="utf-8-sig").startswith("precious")


def test_a_label_list_of_another_task_is_not_overwritten(table, annotated, tmp_path):
    from SemiSegModuleLib import exports

    case, _ = annotated()
    (tmp_path / "labels.json").write_text(json.dumps({"labels": []}))
    with pytest.raises(exports.FilesExist, match=r"labels\.json"):
        exports.export_masks(table, [case], tmp_path, ".nii.gz")
    assert not list(tmp_path.glob("*.nii.gz"))


def test_more_cases_can_be_exported_beside_earlier_ones(table, annotated, add_volume, tmp_path):
    from SemiSegModuleLib import exports

    case, _ = annotated()
    exports.export_masks(table, [case], tmp_path, ".nii.gz")
    other = table.add_volume(add_volume("other"))
    draw(table, other)
    other.mark_done()
    assert exports.export_masks(table, [other], tmp_path, ".nii.gz") == [tmp_path / "other.nii.gz"]


def test_csv_has_the_volumes_in_ml(table, annotated, add_volume, tmp_path):
    from SemiSegModuleLib.exports.volumes_table import export_volumes_csv

    case, mask = annotated()
    table.add_volume(add_volume('with, comma and "quotes"'))
    path = export_volumes_csv(table, table.cases, tmp_path / "volumes.csv")
    rows = read_csv(path)
    assert [row["scan"] for row in rows] == [case.scan_name, 'with, comma and "quotes"']
    assert (rows[0]["state"], rows[0]["mask"]) == ("annotated", "annotation")
    voxel_ml = 0.9 * 1.3 * 2.5 / 1000
    assert float(rows[0]["left atrium [ml]"]) == pytest.approx(np.count_nonzero(mask == 1) * voxel_ml, abs=6e-4)
    assert float(rows[0]["aorta [ml]"]) == pytest.approx(np.count_nonzero(mask == 3) * voxel_ml, abs=6e-4)
    assert rows[1]["left atrium [ml]"] == ""


def test_csv_has_the_expected_dsc_of_masks_that_it_is_of(table, annotated, tmp_path):
    """Of predictions and of those accepted as they are; not of masks that somebody has drawn or changed."""
    from SemiSegModuleLib.exports.masks import export_masks
    from SemiSegModuleLib.exports.volumes_table import export_volumes_csv
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.annotations import accept_prediction
    from SemiSegModuleLib.scene.predictions import load_prediction
    from SemiSegModuleLib.scene.quality import load_quality

    columns = ("expected DSC", "expected DSC low", "expected DSC high")

    def row(source="best"):
        (found,) = read_csv(export_volumes_csv(table, [case], tmp_path / "volumes.csv", source, overwrite=True))
        return tuple(found[column] for column in columns)

    def edit(node):
        array = segments.voxels_on_grid(node, case.volume, table.labels)
        array[0] = 3
        segments.set_voxels(node, array, volumes.ijk_to_ras(case.volume), table.labels)

    case, _ = annotated()
    (path,) = export_masks(table, [case], tmp_path / "masks", ".seg.nrrd")
    load_prediction(table, case, path)
    assert row("prediction") == ("", "", "")
    figures = {"expected_dsc": 0.876, "low": None, "high": None, "empty": False, "classes": {}}
    load_quality(table, case, figures, tmp_path / "model")
    assert row("prediction") == ("", "", "")  # agreement without calibration is no DSC
    load_quality(table, case, {**figures, "low": 0.8, "high": 0.9}, tmp_path / "model")
    assert row("prediction") == ("0.876", "0.800", "0.900")
    assert row() == ("", "", "")  # that is a drawing
    accept_prediction(table, case, overwrite=True)
    assert row() == ("0.876", "0.800", "0.900")
    edit(case.annotation)
    assert row() == ("", "", "")
    edit(case.prediction)
    assert row("prediction") == ("", "", "")


def test_a_drawing_that_nobody_called_done_is_seen_and_counts_nowhere(table, annotated, tmp_path):
    """One rule for table, picture, training and export: neither the drawing nor the prediction below it goes out."""
    from SemiSegModuleLib.exports.choice import ExportError, segmentation_of
    from SemiSegModuleLib.exports.masks import export_masks
    from SemiSegModuleLib.exports.surfaces import export_surfaces
    from SemiSegModuleLib.exports.volumes_table import export_volumes_csv
    from SemiSegModuleLib.scene.annotations import accept_prediction
    from SemiSegModuleLib.scene.predictions import load_prediction
    from SemiSegModuleLib.scene.training_files import export_cases

    case, predicted = annotated()
    (path,) = export_masks(table, [case], tmp_path / "predicted", ".seg.nrrd")
    load_prediction(table, case, path)
    assert not case.unfinished
    accept_prediction(table, case, overwrite=True, done=False)
    drawn = draw(table, case, 1, np.s_[1:8, 1:11, 1:14])
    assert np.count_nonzero(drawn == 1) > np.count_nonzero(predicted == 1)
    assert case.unfinished
    assert case.shown_segmentation() is case.annotation  # in table and picture
    assert segmentation_of(case) is None
    for export in (export_masks, export_surfaces):
        with pytest.raises(ExportError, match="once it is marked as done"):
            export(table, [case], tmp_path / "masks")
    (row,) = read_csv(export_volumes_csv(table, [case], tmp_path / "not done.csv"))
    assert (row["left atrium [ml]"], row["mask"]) == ("", "annotation, not marked as done")
    learnt = export_cases(table, tmp_path / "not done")
    assert (learnt.labelled, learnt.unlabelled) == ([], [case.file_name])
    assert "not marked as done" in learnt.remarks[0]

    case.mark_done()
    (path,) = export_masks(table, [case], tmp_path, ".seg.nrrd")
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert np.count_nonzero(voxels == 1) == np.count_nonzero(drawn == 1)
    (row,) = read_csv(export_volumes_csv(table, [case], tmp_path / "volumes.csv"))
    assert float(row["left atrium [ml]"]) == pytest.approx(case.volumes_ml(table.labels)[1], abs=6e-4)
    assert export_cases(table, tmp_path / "done").labelled == [case.file_name]


def test_where_a_mask_comes_from_can_be_asked_for(table, annotated, tmp_path):
    from SemiSegModuleLib.exports.choice import ExportError, segmentation_of
    from SemiSegModuleLib.exports.masks import export_masks
    from SemiSegModuleLib.scene.predictions import load_prediction

    case, _mask = annotated()
    load_prediction(table, case, export_masks(table, [case], tmp_path, ".seg.nrrd")[0])
    case.mark_done(False)
    assert segmentation_of(case, "annotation") is case.annotation
    assert segmentation_of(case, "prediction") is case.prediction
    with pytest.raises(ExportError, match="not 'both'"):
        segmentation_of(case, "both")


def read_csv(path):
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def test_nothing_to_export_is_said(table, a_volume, tmp_path):
    from SemiSegModuleLib.exports.choice import ExportError
    from SemiSegModuleLib.exports.masks import export_masks
    from SemiSegModuleLib.exports.surfaces import export_surfaces

    case = table.add_volume(a_volume)
    for export in (export_masks, export_surfaces):
        with pytest.raises(ExportError, match="mask"):
            export(table, [case], tmp_path)


def test_a_mask_that_lies_beside_its_scan_is_not_given_away_as_an_empty_one(table, annotated, add_volume, tmp_path):
    """Somebody moved the segmentation alone, or it came from another scan."""
    import slicer
    from SemiSegModuleLib.exports.choice import ExportError
    from SemiSegModuleLib.exports.masks import export_masks

    other = table.add_volume(add_volume("first in the list"))
    draw(table, other, 1, BLOCK)
    other.mark_done()
    case, _ = annotated()
    matrix = np.eye(4)
    matrix[:3, 3] = 1000
    transform = table.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    case.annotation.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(ExportError, match="'oblique scan' lies beside the scan"):
        export_masks(table, [other, case], tmp_path / "masks", ".nrrd")
    assert not list((tmp_path / "masks").glob("oblique*"))


@pytest.fixture
def cancelled(table, add_volume):
    """Export two annotated scans by a function, and cancel it after the first."""
    for name in ("one", "two"):
        draw(table, table.add_volume(add_volume(name)), 1, BLOCK)
    for case in table:
        case.mark_done()

    def cancel(done, _count, _name):
        if done == 1:
            raise KeyboardInterrupt

    def run(export, *arguments, **options):
        with pytest.raises(KeyboardInterrupt):
            export(table, table.cases, *arguments, progress=cancel, **options)

    return run


def test_masks_of_an_export_that_was_cancelled_say_what_they_are(cancelled, tmp_path):
    """Their values and, while names are hidden, whose they are stand in the files beside them."""
    from SemiSegModuleLib.exports.masks import export_masks

    cancelled(export_masks, tmp_path / "masks", ".nrrd")
    names = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert names == ["labels.ctbl", "labels.json", "one.nrrd", "scans.csv"]
    assert "two" not in (tmp_path / "masks" / "scans.csv").read_text(encoding="utf-8-sig")


@pytest.mark.parametrize("by_patient", [False, True])
def test_surfaces_of_an_export_that_was_cancelled_say_whose_they_are(cancelled, tmp_path, by_patient):
    from SemiSegModuleLib.exports.surfaces import export_surfaces

    cancelled(export_surfaces, tmp_path / "s", by_patient=by_patient)
    assert [path.name for path in (tmp_path / "s").rglob("*.stl")] == ["one_left_atrium.stl"]
    assert [row["scan"] for row in read_csv(tmp_path / "s" / "scans.csv")] == ["one"]


def test_unknown_formats_are_named(table, a_volume, tmp_path):
    from SemiSegModuleLib.exports.choice import ExportError
    from SemiSegModuleLib.exports.masks import export_masks

    with pytest.raises(ExportError, match=r"not '\.tiff'"):
        export_masks(table, [table.add_volume(a_volume)], tmp_path, ".tiff")


def test_masks_agree_with_slicers_own_export(table, annotated, tmp_path, scene):
    import slicer
    from SemiSegModuleLib.exports.masks import export_masks

    case, _ = annotated()
    (path,) = export_masks(table, [case], tmp_path, ".nrrd")
    labelmap = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    slicer.vtkSlicerSegmentationsModuleLogic.ExportSegmentsToLabelmapNode(
        case.annotation, ["SemiSeg_1"], labelmap, case.volume, slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY
    )
    ours = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert np.array_equal(ours == 1, slicer.util.arrayFromVolume(labelmap) == 1)


# ---- a folder for each patient -------------------------------------------------------------------------------


@pytest.fixture
def two_patients(table, add_volume):
    """Two patients of one name, the first with two series of one name, and a scan of nobody."""
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(table.scene)
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelPatient()
    patients = [hierarchy.CreateHierarchyItem(hierarchy.GetSceneItemID(), "Lee: A", level) for _ in range(2)]
    cases = []
    for name, patient in (("CT", patients[0]), ("CT", patients[1]), ("CT", patients[0]), ("alone", None)):
        case = table.add_volume(add_volume(name))
        if patient is not None:
            hierarchy.SetItemParent(hierarchy.GetItemByDataNode(case.volume), patient)
        draw(table, case)
        case.mark_done()
        cases.append(case)
    return cases


def relative(paths, folder):
    return [path.relative_to(folder).as_posix() for path in paths]


def test_each_patient_has_a_folder_also_where_names_are_the_same(table, two_patients, tmp_path):
    from SemiSegModuleLib import exports

    written = exports.export_masks(table, two_patients, tmp_path, ".nii.gz", by_patient=True)
    second, third = (f"{case.identifier[:6]}" for case in two_patients[1:3])
    expected = ["Lee_A/CT", f"Lee_A_{second}/CT", f"Lee_A/CT_{third}", "alone/alone"]
    assert relative(written, tmp_path) == [f"{stem}.nii.gz" for stem in expected]
    assert all(path.is_file() and (path.parent / "labels.json").is_file() for path in written)
    assert [row["file"] for row in read_csv(tmp_path / "scans.csv")] == sorted(expected)
    one = exports.export_masks(table, two_patients[2:3], tmp_path / "one", ".seg.nrrd", by_patient=True)
    assert relative(one, tmp_path / "one") == [f"Lee_A/CT_{third}.seg.nrrd"]  # whichever cases are exported
    with pytest.raises(exports.FilesExist):
        exports.export_masks(table, two_patients, tmp_path, ".nii.gz", by_patient=True)
    (surface, *_others) = exports.export_surfaces(table, two_patients, tmp_path, ".stl", by_patient=True)
    assert surface.parent == tmp_path / "Lee_A"


def test_folders_of_patients_say_of_nobody_who_that_is_while_names_are_hidden(table, two_patients, tmp_path):
    from SemiSegModuleLib import exports

    table.names_hidden = True
    written = exports.export_masks(table, two_patients, tmp_path, ".seg.nrrd", by_patient=True)
    folders = ["patient_001", "patient_002", "patient_001", "patient_003"]
    names = [f"{folder}/scan_00{number}.seg.nrrd" for number, folder in enumerate(folders, start=1)]
    assert relative(written, tmp_path) == names
    assert "Lee" not in (tmp_path / "scans.csv").read_text(encoding="utf-8-sig")


# ---- names that a file keeps ---------------------------------------------------------------------------------


@pytest.fixture
def named(table, add_volume):
    """Annotated scans that are called so."""

    def make(*names):
        cases = [table.add_volume(add_volume(name)) for name in names]
        for case in cases:
            draw(table, case)
            case.mark_done()
        return cases

    return make


@pytest.mark.parametrize("names", [("王伟", "李娜"), ("CT", "CT"), ("CT", "ct"), ("x" * 70, "x" * 71)])
@pytest.mark.parametrize("by_patient", [False, True])
def test_no_file_ever_becomes_that_of_another_scan(table, named, tmp_path, names, by_patient):
    """The first scan is taken off the table, and the rest exported again over what is there."""
    from SemiSegModuleLib.exports import export_masks

    def export():
        written = export_masks(table, table.cases, tmp_path, ".nii.gz", overwrite=True, by_patient=by_patient)
        return dict(zip((case.identifier for case in table), written, strict=True))

    first, second = named(*names)
    before = export()
    assert len(set(before.values())) == 2
    rows = read_csv(tmp_path / "scans.csv")
    gone = first.identifier
    table.remove(first)
    assert export() == {second.identifier: before[second.identifier]}
    assert before[gone].is_file()
    assert read_csv(tmp_path / "scans.csv") == rows
    named(names[0])
    assert not set(export().values()) & {before[gone]}


def test_nor_where_there_was_one_scan_of_the_name_at_a_time(table, named, tmp_path):
    from SemiSegModuleLib.exports import export_masks, export_surfaces

    (first,) = named("CT")
    export_masks(table, [first], tmp_path)
    (second,) = named("CT")
    table.remove(first)
    (mask,) = export_masks(table, [second], tmp_path)
    (surface,) = export_surfaces(table, [second], tmp_path)
    assert mask.name == f"CT_{second.identifier[:6]}.seg.nrrd"
    assert surface.name == f"CT_{second.identifier[:6]}_left_atrium.stl"


def test_what_tells_names_apart_belongs_to_the_scan(table, named, tmp_path):
    from SemiSegModuleLib.exports import export_masks
    from SemiSegModuleLib.exports.names import stems

    cases = named("Müller, LA 3", "Muller_LA_3", "王伟", "scan_002")
    parts = [case.identifier[:6] for case in cases]
    assert stems(table, cases) == ["Muller_LA_3", f"Muller_LA_3_{parts[1]}", f"case_{parts[2]}", "scan_002"]
    export_masks(table, cases, tmp_path)
    table.names_hidden = True
    assert stems(table, cases) == ["scan_001", f"scan_002_{parts[1]}", "scan_003", "scan_004"]


def test_numbers_of_patients_are_kept_when_one_leaves(table, two_patients, tmp_path):
    from SemiSegModuleLib.exports import export_masks

    table.names_hidden = True
    before = export_masks(table, two_patients, tmp_path, by_patient=True)
    for case in (two_patients[0], two_patients[2]):
        table.remove(case)
    assert export_masks(table, table.cases, tmp_path, overwrite=True, by_patient=True) == [before[1], before[3]]
