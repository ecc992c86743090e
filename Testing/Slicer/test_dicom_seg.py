"""DICOM SEG by highdicom, read back by pydicom: place, names and codes; clear words when something is missing."""

import importlib.util
import itertools
import sys
import types

import numpy as np
import pytest
from drawing import corner_points, draw, same_points

needs_highdicom = pytest.mark.skipif(
    importlib.util.find_spec("highdicom") is None, reason="needs highdicom: pip install highdicom"
)


def write_series(volume, folder):
    """The volume's slices as an MR series, written by pydicom from the volume's own matrix."""
    import pydicom
    import slicer
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
    from SemiSegModuleLib.scene import volumes

    matrix = volumes.RAS_LPS @ volumes.ijk_to_ras(volume)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    values = slicer.util.arrayFromVolume(volume)
    common = {name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    files = {}
    for k in range(values.shape[0]):
        meta = pydicom.dataset.FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_ = pydicom.Dataset()
        slice_.file_meta = meta
        slice_.SOPClassUID = meta.MediaStorageSOPClassUID = MRImageStorage
        slice_.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
        for name, uid in common.items():
            setattr(slice_, name, uid)
        slice_.PatientID, slice_.PatientName, slice_.Modality = "1", "Test^", "MR"
        for name in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "StudyID"):
            setattr(slice_, name, "")
        slice_.ReferringPhysicianName = slice_.PositionReferenceIndicator = slice_.Manufacturer = ""
        slice_.SeriesNumber, slice_.InstanceNumber = 1, k + 1
        slice_.ImagePositionPatient = [f"{part:.5f}" for part in (matrix @ [0, 0, k, 1])[:3]]
        slice_.ImageOrientationPatient = [f"{part:.8f}" for part in (matrix[:3, :2] / spacing[:2]).T.ravel()]
        slice_.PixelSpacing, slice_.SliceThickness = [spacing[1], spacing[0]], spacing[2]
        slice_.Rows, slice_.Columns = values.shape[1:]
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 1
        slice_.PixelData = values[k].tobytes()
        files[slice_.SOPInstanceUID] = folder / f"{k:02d}.dcm"
        slice_.save_as(files[slice_.SOPInstanceUID], enforce_file_format=True)
    return files


@pytest.fixture
def from_dicom(request, table, tmp_path, monkeypatch):
    """A case whose volume is known to a DICOM database; from_dicom(geometry) -> case, mask."""
    import slicer

    def make(geometry):
        volume = request.getfixturevalue(geometry)
        (tmp_path / "dicom").mkdir()
        files = write_series(volume, tmp_path / "dicom")
        volume.SetAttribute("DICOM.instanceUIDs", " ".join(reversed(list(files))))
        database = types.SimpleNamespace(fileForInstance=lambda uid: str(files.get(uid, "")))
        monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
        case = table.add_volume(volume)
        draw(table, case, 3, np.s_[6:8, 1:4, 1:3])
        mask = draw(table, case, 1)
        case.mark_done()
        return case, mask

    return make


@needs_highdicom
@pytest.mark.parametrize("geometry", ["a_volume", "an_oblique_volume", "a_left_handed_volume"])
def test_segments_are_in_place_with_names_and_codes(table, from_dicom, tmp_path, geometry):
    import pydicom
    from SemiSegModuleLib.exports.dicom_seg import export_dicom_seg

    case, mask = from_dicom(geometry)
    (path,) = export_dicom_seg(table, [case], tmp_path / "out")
    written = pydicom.dcmread(path)
    names = [segment.SegmentLabel for segment in written.SegmentSequence]
    assert names == ["left atrium", "aorta"]
    atrium = written.SegmentSequence[0]
    assert atrium.SegmentedPropertyTypeCodeSequence[0].CodeValue == "82471001"
    assert atrium.SegmentAlgorithmType == "MANUAL"
    for number, value in ((1, 1), (2, 3)):
        expected = corner_points(case.volume, np.argwhere(mask == value))
        assert same_points(points_of_segment(written, number), expected, tolerance=0.02)


@needs_highdicom
def test_left_and_right_kidney_differ_by_their_side(table, from_dicom, tmp_path):
    import pydicom
    from SemiSegModuleLib.exports.dicom_seg import export_dicom_seg

    from SemiSegLib.config import Label

    table.labels = [Label(1, "right kidney", (185, 102, 83)), Label(3, "left kidney", (185, 102, 83))]
    case, _ = from_dicom("a_volume")
    (path,) = export_dicom_seg(table, [case], tmp_path / "out")
    for segment, side in zip(pydicom.dcmread(path).SegmentSequence, ("24028007", "7771000"), strict=True):
        (kind,) = segment.SegmentedPropertyTypeCodeSequence
        assert kind.CodeValue == "64033007"
        assert [entry.CodeValue for entry in kind.SegmentedPropertyTypeModifierCodeSequence] == [side]


def points_of_segment(written, number):
    """World points (LPS) of a segment's pixels, by the attributes of each frame."""
    points = []
    shared = written.SharedFunctionalGroupsSequence[0]
    for frame, pixels in zip(written.PerFrameFunctionalGroupsSequence, written.pixel_array, strict=True):
        if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber != number:
            continue
        position = np.asarray(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        orientation = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
        row_step, column_step = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
        for row, column in np.argwhere(pixels):
            points.append(position + column * column_step * orientation[0] + row * row_step * orientation[1])
    return np.array(points)


@needs_highdicom
def test_a_prediction_is_declared_as_made_by_a_machine(table, from_dicom, tmp_path):
    import pydicom
    from SemiSegModuleLib.exports.dicom_seg import export_dicom_seg
    from SemiSegModuleLib.exports.masks import export_masks
    from SemiSegModuleLib.scene.predictions import load_prediction

    case, _ = from_dicom("a_volume")
    (mask,) = export_masks(table, [case], tmp_path / "mask")
    load_prediction(table, case, mask)
    (path,) = export_dicom_seg(table, [case], tmp_path / "out", source="prediction")
    segment = pydicom.dcmread(path).SegmentSequence[0]
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert segment.SegmentAlgorithmName == "SemiSeg"


# What Slicer's own plugin (5.12; before, of the extension QuantitativeReporting) makes of a segmentation: it writes
# every segment, refuses masks whose voxels have no name, asks a person about empty ones, and takes what says nothing of
# its maker for drawn by hand. Its files have the time in their names, and Slicer's database remembers where they are.
PLUGIN = """
import itertools, json, pathlib, types
import slicer, vtk

_numbers = itertools.count()

class DICOMSegmentationPluginClass:
    def examineForExport(self, item):
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        is_mask = hierarchy.GetItemDataNode(item).IsA("vtkMRMLSegmentationNode")
        return [types.SimpleNamespace(subjectHierarchyItemID=item)] if is_mask else []

    def export(self, exportables):
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        for exportable in exportables:
            node = hierarchy.GetItemDataNode(exportable.subjectHierarchyItemID)
            volume = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
            segmentation = node.GetSegmentation()
            written = [self.describe(segmentation.GetSegment(key)) for key in segmentation.GetSegmentIDs()]
            if None in written:
                return "No non empty segments found." if not any(written) else "asks whether to skip empty segments"
            content = {"scan": volume.GetID(), "moved": node.GetTransformNodeID(), "segments": written}
            path = pathlib.Path(exportable.directory) / f"subject_hierarchy_export.SEG{next(_numbers)}.dcm"
            path.write_text(json.dumps(content), encoding="utf-8")
            slicer.dicomDatabase.insert(str(path))
        return ""

    def describe(self, segment):
        scalars = segment.GetRepresentation("Binary labelmap").GetPointData().GetArray("ImageScalars")
        if scalars is None or scalars.GetValueRange() == (0, 0):
            return None
        maker, name = vtk.reference(""), vtk.reference("")
        if not segment.GetTag("DICOM.SegmentAlgorithmType", maker):
            maker = "MANUAL"
        if str(maker) != "MANUAL" and not segment.GetTag("DICOM.SegmentAlgorithmName", name):
            raise ValueError("missing SegmentAlgorithmName")
        return [segment.GetName(), str(maker)]
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Slicer finds the plugin by its name."""
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "DICOMSegmentationPlugin.py").write_text(PLUGIN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "plugin"))
    yield
    sys.modules.pop("DICOMSegmentationPlugin", None)


@needs_highdicom
def test_slicers_own_plugin_gets_the_labels_and_who_made_them(scene, table, from_dicom, plugin, tmp_path):
    import json

    import slicer
    from SemiSegModuleLib.exports.choice import FilesExist
    from SemiSegModuleLib.exports.dicom_seg import export_dicom_seg
    from SemiSegModuleLib.exports.names import stems
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.annotations import accept_prediction
    from SemiSegModuleLib.scene.nodes import new_segmentation

    case, mask = from_dicom("a_volume")
    known = slicer.dicomDatabase.known = []
    slicer.dicomDatabase.insert = known.append
    segments.set_not_sure(case.annotation, mask > 0, volumes.ijk_to_ras(case.volume))
    nodes = scene.GetNumberOfNodes()

    def exported(**options):
        (folder,) = export_dicom_seg(table, [case], tmp_path / "out", **options)
        assert [folder.name] == stems(table, [case]) != [case.file_name]  # scan_001 is in every study
        (file,) = folder.iterdir()
        assert known[-1] == str(file)
        assert scene.GetNumberOfNodes() == nodes
        return json.loads(file.read_text(encoding="utf-8"))

    drawn = [[label.name, "MANUAL"] for label in table.labels]
    assert exported() == {"scan": case.volume.GetID(), "moved": None, "segments": drawn}
    with pytest.raises(FilesExist):
        exported()
    assert exported(overwrite=True)["segments"] == drawn

    prediction = case.prediction = new_segmentation(scene, "prediction", case.volume)
    only = table.labels[:1]
    segments.set_voxels(prediction, (mask > 0).astype(np.uint8) * only[0].value, volumes.ijk_to_ras(case.volume), only)
    nodes = scene.GetNumberOfNodes()
    assert exported(overwrite=True, source="prediction")["segments"] == [[only[0].name, "AUTOMATIC"]]
    accept_prediction(table, case, overwrite=True)
    nodes = scene.GetNumberOfNodes()
    assert exported(overwrite=True)["segments"] == [[only[0].name, "SEMIAUTOMATIC"]]


@needs_highdicom
def test_a_file_that_the_plugin_writes_anew_under_its_name_stays(table, from_dicom, plugin, tmp_path, monkeypatch):
    """It names files by the time, in seconds."""
    import DICOMSegmentationPlugin
    import slicer
    from SemiSegModuleLib.exports.dicom_seg import export_dicom_seg

    case, _mask = from_dicom("a_volume")
    slicer.dicomDatabase.insert = lambda file: None
    monkeypatch.setattr(DICOMSegmentationPlugin, "_numbers", itertools.repeat(7))
    for overwrite in (False, True):
        (folder,) = export_dicom_seg(table, [case], tmp_path / "out", overwrite=overwrite)
        assert len(list(folder.iterdir())) == 1


@needs_highdicom
def test_scans_in_which_nothing_is_are_left_out_and_do_not_keep_the_others_from_it(
    scene, table, from_dicom, tmp_path, caplog
):
    """A DICOM SEG needs a segment, and that frames."""
    import slicer
    from SemiSegModuleLib.exports.choice import ExportError
    from SemiSegModuleLib.exports.dicom_seg import export_dicom_seg
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.nodes import new_segmentation

    case, mask = from_dicom("a_volume")
    empty = table.add_volume(slicer.modules.volumes.logic().CloneVolume(scene, case.volume, "healthy"))
    empty.prediction = new_segmentation(scene, "prediction", empty.volume)
    segments.set_voxels(empty.prediction, mask * 0, volumes.ijk_to_ras(empty.volume), table.labels)
    (path,) = export_dicom_seg(table, [empty, case], tmp_path / "out")
    assert list((tmp_path / "out").glob("**/*.dcm")) == [path]
    assert empty.file_name in caplog.text
    assert case.file_name not in caplog.text
    with pytest.raises(ExportError, match="nothing but empty masks"):
        export_dicom_seg(table, [empty], tmp_path / "other")
    assert not (tmp_path / "other").exists()


@needs_highdicom
def test_the_file_of_a_mask_that_is_empty_now_is_not_left_as_if_it_were_of_today(scene, table, from_dicom, tmp_path):
    import slicer
    from SemiSegModuleLib.exports.choice import ExportError
    from SemiSegModuleLib.exports.dicom_seg import export_dicom_seg
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.nodes import new_segmentation

    case, mask = from_dicom("a_volume")
    other = table.add_volume(slicer.modules.volumes.logic().CloneVolume(scene, case.volume, "other"))
    other.prediction = new_segmentation(scene, "prediction", other.volume)
    segments.set_voxels(other.prediction, mask, volumes.ijk_to_ras(other.volume), table.labels)
    former = export_dicom_seg(table, [case, other], tmp_path / "out")[1]
    segments.set_voxels(other.prediction, mask * 0, volumes.ijk_to_ras(other.volume), table.labels)
    before = [path.read_bytes() for path in (tmp_path / "out").glob("*.dcm")]
    with pytest.raises(ExportError, match=f"{former.name}: an earlier mask"):
        export_dicom_seg(table, [case, other], tmp_path / "out", overwrite=True)
    assert [path.read_bytes() for path in (tmp_path / "out").glob("*.dcm")] == before


@needs_highdicom
def test_an_existing_file_is_kept(table, from_dicom, tmp_path):
    from SemiSegModuleLib.exports.choice import FilesExist
    from SemiSegModuleLib.exports.dicom_seg import export_dicom_seg

    case, _ = from_dicom("a_volume")
    (path,) = export_dicom_seg(table, [case], tmp_path / "out")
    before = path.read_bytes()
    with pytest.raises(FilesExist):
        export_dicom_seg(table, [case], tmp_path / "out")
    assert path.read_bytes() == before
    export_dicom_seg(table, [case], tmp_path / "out", overwrite=True)
    assert path.read_bytes() != before


@needs_highdicom
def test_a_resampled_volume_is_refused(table, from_dicom, tmp_path):
    from SemiSegModuleLib.exports.choice import ExportError
    from SemiSegModuleLib.exports.dicom_seg import export_dicom_seg

    case, _ = from_dicom("a_volume")
    case.volume.SetOrigin(0.5, 0.7, 0)
    with pytest.raises(ExportError, match="resampled or cropped"):
        export_dicom_seg(table, [case], tmp_path / "out")


@needs_highdicom
def test_a_scan_that_is_not_from_dicom_is_refused_by_name(table, a_volume, tmp_path):
    from SemiSegModuleLib.exports.choice import ExportError
    from SemiSegModuleLib.exports.dicom_seg import export_dicom_seg

    case = table.add_volume(a_volume)
    draw(table, case)
    case.mark_done()
    with pytest.raises(ExportError, match="'scan' was not loaded from Slicer's DICOM database"):
        export_dicom_seg(table, [case], tmp_path)


def test_without_any_writer_the_user_is_told_what_to_install(table, a_volume, tmp_path, monkeypatch):
    from SemiSegModuleLib.exports import dicom_seg
    from SemiSegModuleLib.exports.choice import ExportError

    found = importlib.util.find_spec
    hidden = ("highdicom", "DICOMSegmentationPlugin")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in hidden else found(name, *rest))
    assert "QuantitativeReporting" in dicom_seg.why_not()
    with pytest.raises(ExportError, match="QuantitativeReporting"):
        dicom_seg.export_dicom_seg(table, [table.add_volume(a_volume)], tmp_path)
