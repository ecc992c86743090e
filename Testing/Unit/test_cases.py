"""Case lists of data folders in every layout, written as they come, and their division by split files."""

import gzip
import json
import logging
import subprocess
import sys
import unicodedata
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from SemiSegLib.config import Label
from SemiSegLib.data import cases as case_list
from SemiSegLib.data import geometry, images, writing
from SemiSegLib.data.cases import Case, CaseList, CasesError, fingerprint, read_case
from SemiSegLib.data.layouts import find_cases
from SemiSegLib.data.splits import apply_splits, parse
from SemiSegLib.evaluate import evaluate
from SemiSegLib.training.intent import cases_from_dict, cases_to_dict

SHAPE = (5, 4, 3)


def save(path: Path, value: int = 1) -> Path:
    """A small file in any writable format, with one voxel of `value`."""
    array = np.zeros(SHAPE, np.uint8)
    array[1, 2, 1] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array.T)
    writing.write_mask(image, path)
    return path


def names(cases: tuple[Case, ...]) -> list[str]:
    return [case.name for case in cases]


def by_name(cases: CaseList) -> dict[str, Case]:
    return {case.name: case for case in cases}


# ---- layouts ----------------------------------------------------------------------------------------------


def test_images_and_labels_are_paired_by_name_across_formats(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.1.nrrd", "c.mha", "d.nii"):
        save(tmp_path / "images" / name)
    save(tmp_path / "labels" / "a.nrrd")
    save(tmp_path / "labels" / "b.1.seg.nrrd")
    (tmp_path / "images" / "._a.nii.gz").write_bytes(b"mac")
    (tmp_path / "images" / ".DS_Store").write_bytes(b"mac")
    (tmp_path / "images" / "readme.txt").write_text("notes")
    found = find_cases(tmp_path)
    assert names(found.labelled) == ["a", "b.1"]
    assert names(found.unlabelled) == ["c", "d"]
    assert by_name(found)["b.1"].label == tmp_path / "labels" / "b.1.seg.nrrd"
    assert len(found) == 4
    assert found.root == tmp_path


def test_masks_without_a_scan_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "images" / "a.nii.gz")
    save(tmp_path / "labels" / "typo.nii.gz")
    with pytest.raises(CasesError, match=r"no mask has the name of a scan.*typo\.nii\.gz.*scans: a"):
        find_cases(tmp_path)
    save(tmp_path / "labels" / "a.nii.gz")
    with caplog.at_level(logging.WARNING):
        assert names(find_cases(tmp_path).labelled) == ["a"]
    assert "typo.nii.gz" in caplog.text


def test_masks_beside_scans_that_have_no_scan_are_named_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Slicer proposes names of its own for segmentations; training did not use these, and did not say so."""
    for name in ("a.nii.gz", "b.nii.gz", "a.seg.nrrd", "b-label.seg.nrrd"):
        save(tmp_path / "beside" / name)
    for name in ("frame01.nii.gz", "frame01_gt.nii.gz", "frame12_gt.nii.gz"):
        save(tmp_path / "acdc" / "patient001" / f"patient001_{name}")
    for folder, lost in (("beside", "b-label.seg.nrrd"), ("acdc", "patient001_frame12_gt.nii.gz")):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert len(find_cases(tmp_path / folder).labelled) == 1
        assert f"no scan in {tmp_path / folder} for the masks {lost}; they are not used" in caplog.text
    (tmp_path / "beside" / "a.seg.nrrd").unlink()
    assert len(find_cases(tmp_path / "beside")) == 2  # to be predicted


def test_doubled_names_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.nii.gz")
    save(tmp_path / "images" / "A.nrrd")
    with pytest.raises(CasesError, match=r"two scans.*A\.nrrd.*a\.nii\.gz"):
        find_cases(tmp_path)
    (tmp_path / "images" / "A.nrrd").unlink()
    save(tmp_path / "labels" / "a.nii.gz")
    save(tmp_path / "labels" / "a.seg.nrrd")
    with pytest.raises(CasesError, match="two masks have the name 'a'"):
        find_cases(tmp_path)


def test_names_in_another_spelling_of_unicode_are_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """macOS writes accents as characters of their own: the mask of such a scan was lost, with a warning in riddles."""
    composed, apart = (unicodedata.normalize(form, "Jörg_Müller") for form in ("NFC", "NFD"))
    assert composed != apart
    save(tmp_path / "images" / f"{apart}.nii.gz")
    save(tmp_path / "images" / "other.nii.gz")
    for name in (composed, "other"):
        save(tmp_path / "labels" / f"{name}.nii.gz")
    (tmp_path / "patients.json").write_text(json.dumps({apart: "A"}))
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"validation": [apart]}))
    with caplog.at_level(logging.WARNING):
        found = find_cases(tmp_path)
    assert not caplog.text
    assert [(case.name, case.patient) for case in found.labelled] == [(composed, "A"), ("other", "")]
    assert names(apply_splits(found, str(splits)).validation) == [composed]
    assert list(evaluate(tmp_path / "images", tmp_path / "labels", {"voxel": 1}).cases) == [composed, "other"]
    save(tmp_path / "images" / f"{composed}.nii.gz")
    if len(list((tmp_path / "images").iterdir())) == 3:
        with pytest.raises(CasesError, match="two scans have the name"):
            find_cases(tmp_path)


def decathlon(root: Path, **changes: object) -> dict[str, object]:
    """Task02_Heart in small, as the Decathlon packs it (with macOS doubles); returns its dataset.json."""
    for name in ("la_003", "la_007"):
        save(root / "imagesTr" / f"{name}.nii.gz")
        save(root / "labelsTr" / f"{name}.nii.gz")
        (root / "imagesTr" / f"._{name}.nii.gz").write_bytes(b"mac")
    save(root / "imagesTs" / "la_001.nii.gz")
    dataset: dict[str, object] = {
        "name": "LeftAtrium",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "left atrium"},
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
            for name in ("la_003", "la_007")
        ],
        "test": ["./imagesTs/la_001.nii.gz"],
    } | changes
    (root / "dataset.json").write_text(json.dumps(dataset))
    return dataset


def test_the_decathlon_layout(tmp_path: Path) -> None:
    decathlon(tmp_path)
    save(tmp_path / "imagesTr" / "la_010.nii.gz")
    save(tmp_path / "imagesTr" / "la_011.nii.gz")
    save(tmp_path / "labelsTr" / "la_011.nii.gz")
    found = find_cases(tmp_path)
    assert names(found.labelled) == ["la_003", "la_007", "la_011"]
    assert names(found.unlabelled) == ["la_001", "la_010"]
    assert [(label.value, label.name) for label in found.labels or []] == [(1, "left atrium")]


def test_files_that_dataset_json_lists_but_are_missing_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    decathlon(tmp_path)
    (tmp_path / "imagesTs" / "la_001.nii.gz").unlink()
    with caplog.at_level(logging.WARNING):
        assert names(find_cases(tmp_path).unlabelled) == []
    assert "la_001" in caplog.text
    (tmp_path / "labelsTr" / "la_007.nii.gz").unlink()
    with pytest.raises(CasesError, match=r"dataset\.json: lists files that are not there: .*labelsTr.la_007\.nii\.gz"):
        find_cases(tmp_path)


@pytest.mark.parametrize(
    "listing",
    [
        {"training": [{"image": "./imagesTr/x_1.nii.gz", "label": "./labelsTr/x_1.nii.gz"}], "modality": {"0": "CT"}},
        {"channel_names": {"0": "CT"}, "numTraining": 1, "file_ending": ".nii.gz"},
        {"channel_names": {"0": "CT"}, "dataset": {"x_1": {"images": ["imagesTr/x_1_0000.nii.gz"],
                                                           "label": "labelsTr/x_1.nii.gz"}}},
    ],
)  # fmt: skip
def test_nnunet_layouts_of_both_versions(tmp_path: Path, listing: dict[str, object]) -> None:
    save(tmp_path / "imagesTr" / "x_1_0000.nii.gz")
    save(tmp_path / "imagesTr" / "x_2_0000.nii.gz")
    save(tmp_path / "imagesTs" / "x_9_0000.nii.gz")
    save(tmp_path / "labelsTr" / "x_1.nii.gz")
    labels = {"background": 0, "liver": 2, "tumour": 1}
    (tmp_path / "dataset.json").write_text(json.dumps({**listing, "labels": labels}))
    found = find_cases(tmp_path)
    assert names(found.labelled) == ["x_1"]
    assert names(found.unlabelled) == ["x_2", "x_9"]
    assert [(label.value, label.name) for label in found.labels or []] == [(1, "tumour"), (2, "liver")]
    assert found.labelled[0].image == tmp_path / "imagesTr" / "x_1_0000.nii.gz"


def test_the_scans_of_nnunet_have_their_names_in_a_folder_alone_too(tmp_path):
    """What is predicted of imagesTs is compared with labelsTs, whose masks have no number of a channel."""
    for folder in ("imagesTs", "mine"):
        for scan in ("x_8_0000", "x_9_0000"):
            save(tmp_path / folder / f"{scan}.nii.gz")
    assert names(find_cases(tmp_path / "imagesTs").cases) == ["x_8", "x_9"]
    assert names(find_cases(tmp_path / "mine").cases) == ["x_8_0000", "x_9_0000"]
    drawn = save(tmp_path / "imagesTs" / "x_8_0000.seg.nrrd")  # in Slicer, beside the scan
    assert [case.label for case in find_cases(tmp_path / "imagesTs").cases] == [drawn, None]
    save(tmp_path / "imagesTs" / "x_9_0001.nii.gz")
    with pytest.raises(CasesError, match="several channels"):
        find_cases(tmp_path / "imagesTs")


@pytest.mark.parametrize(("scans", "masks"), [("imagesTr/x_0000", "labelsTr/x"), ("images/x", "labels/x")])
def test_nnunets_ignore_label_is_what_nobody_annotated(tmp_path, scans, masks):
    """Its value is the data set's own; here it is 255, and no class."""
    save(tmp_path / f"{scans}.nii.gz")
    save(tmp_path / f"{masks}.nii.gz", 3)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "b": 2, "a": 1, "ignore": 3}}))
    found = find_cases(tmp_path)
    assert [(label.value, label.name) for label in found.labels or []] == [(1, "a"), (2, "b")]
    mask = read_case(found.labelled[0])[1]
    assert mask is not None
    assert np.unique(geometry.to_array(mask.image)).tolist() == [0, 255]


def test_several_channels_regions_and_broken_dataset_files_are_refused(tmp_path: Path) -> None:
    decathlon(tmp_path, modality={"0": "T1", "1": "T2"})
    with pytest.raises(CasesError, match=r"several channels \(T1, T2\)"):
        find_cases(tmp_path)
    decathlon(tmp_path, labels={"background": 0, "whole": [1, 2]})
    with pytest.raises(CasesError, match="regions"):
        find_cases(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(CasesError, match=r"dataset\.json: not readable as JSON"):
        find_cases(tmp_path)
    channels = tmp_path / "nnunet"
    save(channels / "imagesTr" / "x_0000.nii.gz")
    save(channels / "imagesTr" / "x_0001.nii.gz")
    with pytest.raises(CasesError, match="several channels"):
        find_cases(channels)


def test_the_atrial_challenge_as_downloaded(tmp_path: Path) -> None:
    for name in ("06SR5", "0RZDK"):
        save(tmp_path / "Training Set" / name / "lgemri.nrrd", 200)
    save(tmp_path / "Training Set" / "06SR5" / "laendo.nrrd", 255)
    for root in (tmp_path, tmp_path / "Training Set"):
        found = find_cases(root)
        assert names(found.labelled) == ["06SR5"]
        assert names(found.unlabelled) == ["0RZDK"]
        image, mask = read_case(found.labelled[0])
        assert image[1, 2, 1] == 200
        assert mask is not None
        assert mask.image[1, 2, 1] == 1
        assert geometry.to_array(mask.image).sum() == 1
        assert [label.name for label in found.labels or []] == ["left atrium"]


def test_the_h5_files_of_the_literature(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    for name, keys in (("A", ("image", "label")), ("B", ("image",))):
        (tmp_path / name).mkdir()
        with h5py.File(tmp_path / name / "mri_norm2.h5", "w") as file:
            for key in keys:
                file[key] = np.ones(SHAPE, np.uint8)
    found = find_cases(tmp_path)
    assert (names(found.labelled), names(found.unlabelled)) == (["A"], ["B"])
    _, mask = read_case(found.labelled[0])
    assert mask is not None
    assert mask.image.GetSize() == SHAPE
    single = find_cases(tmp_path / "A" / "mri_norm2.h5")
    assert names(single.labelled) == ["mri_norm2"]


def write_slices(folder: Path, count: int = 6) -> None:
    """A CT series of `count` slices of 5 × 4, 2 mm apart, whose voxel values count up."""
    folder.mkdir(parents=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for z in range(count):
        piece = sitk.GetImageFromArray(np.arange(20, dtype=np.int16).reshape(4, 5) + 20 * z)
        for key, value in {
            "0008|0060": "CT",
            "0020|000d": "1.2",
            "0020|000e": f"1.2.{sum(folder.as_posix().encode())}",
            "0020|0032": f"-10\\-20\\{2 * z}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(z + 1),
        }.items():
            piece.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{z:06}.dcm"))
        writer.Execute(piece)


@pytest.mark.parametrize("origin", [(10.0, 20.0, 0.0), (0.0, 0.0, 0.0)])
def test_nih_pancreas_masks_lie_right_by_world_or_by_orientation(tmp_path: Path, origin: tuple[float, ...]) -> None:
    write_slices(tmp_path / "Pancreas-CT" / "PANCREAS_0001" / "11-24-2015" / "series")
    write_slices(tmp_path / "Pancreas-CT" / "PANCREAS_0002" / "11-24-2015" / "series")
    # rows run to the front in this mask and to the back in DICOM; with the right origin or one that was lost
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    affine[:3, 3] = np.add(origin, (0, -3, 0))
    array = np.zeros((5, 4, 6), np.uint8)
    array[4, 0, 1] = 1
    labels = tmp_path / "TCIA_pancreas_labels-02-05-2017"
    labels.mkdir()
    nibabel.save(nibabel.Nifti1Image(array, affine), labels / "label0001.nii.gz")
    found = find_cases(tmp_path)
    assert names(found.labelled) == ["PANCREAS_0001"]
    assert names(found.unlabelled) == ["PANCREAS_0002"]
    image, mask = read_case(found.labelled[0])
    assert image.GetSize() == (5, 4, 6)
    assert mask is not None
    np.testing.assert_array_equal(np.argwhere(geometry.to_array(mask.image)), [[4, 3, 1]])


def test_plain_folders_single_files_and_dicom(tmp_path: Path) -> None:
    save(tmp_path / "plain" / "a.nii.gz")
    save(tmp_path / "plain" / "b.mha")
    save(tmp_path / "plain" / "b.seg.nrrd")
    write_slices(tmp_path / "plain" / "c")
    found = find_cases(tmp_path / "plain")
    assert names(found.labelled) == ["b"]
    assert names(found.unlabelled) == ["a", "c"]
    assert names(find_cases(tmp_path / "plain" / "a.nii.gz").unlabelled) == ["a"]
    series = find_cases(tmp_path / "plain" / "c")
    assert names(series.unlabelled) == ["c"]
    assert read_case(series.unlabelled[0])[0].GetSize() == (5, 4, 6)


def test_what_is_no_data_is_refused_with_the_layouts_that_are(tmp_path: Path) -> None:
    with pytest.raises(CasesError, match=r"holds: nothing.*\n  images/ and labels/"):
        find_cases(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(CasesError, match=r"holds: notes\.txt"):
        find_cases(tmp_path)
    with pytest.raises(CasesError, match=r"notes\.txt: not a scan"):
        find_cases(tmp_path / "notes.txt")
    with pytest.raises(CasesError, match="no such file"):
        find_cases(tmp_path / "absent")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "scan.png").touch()
    with pytest.raises(CasesError, match=r"(?s)holds: scan\.png.*Scans are 3D: \.nii\.gz, .*DICOM; pictures \(\.png"):
        find_cases(tmp_path / "images")


def test_slicer_segments_of_one_name_get_one_value_in_all_cases(tmp_path: Path) -> None:
    atrium, wall = Label(1, "atrium", (9, 8, 7)), Label(2, "wall", (6, 5, 4))
    for name, values in (("a", {1: atrium, 2: wall}), ("b", {1: wall, 2: atrium})):
        scan = images.read_image(save(tmp_path / "images" / f"{name}.nii.gz"))
        array = np.zeros(SHAPE, np.uint8)
        array[0], array[1] = 1, 2
        own = [Label(value, label.name, label.color) for value, label in values.items()]
        (tmp_path / "labels").mkdir(exist_ok=True)
        writing.write_mask(geometry.from_array(array, scan), tmp_path / "labels" / f"{name}.seg.nrrd", own)
    found = find_cases(tmp_path)
    assert found.labels == [atrium, wall]
    first, second = (geometry.to_array(read_case(case)[1].image) for case in found.labelled)  # type: ignore[union-attr]
    assert (first[0].max(), first[1].max()) == (1, 2)
    assert (second[0].max(), second[1].max()) == (2, 1)


@pytest.mark.parametrize("channels", [5, True])
def test_channels_that_are_none_are_named(channels: object, tmp_path: Path) -> None:
    decathlon(tmp_path, channel_names=channels)
    with pytest.raises(CasesError, match=rf"dataset\.json: 'channel_names' must .*not {channels}"):
        find_cases(tmp_path)


def test_one_channel_may_be_a_name_alone(tmp_path: Path) -> None:
    decathlon(tmp_path, channel_names="MR")
    assert len(find_cases(tmp_path)) > 0


def test_masks_beside_their_scans_that_are_not_found_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("A", "A_seg", "A-label", "A_Mask", "B", "C_seg"):
        save(tmp_path / f"{name}.nii.gz")
    found = find_cases(tmp_path)
    assert len(found.unlabelled) == 6
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "A-label.nii.gz, A_Mask.nii.gz, A_seg.nii.gz count as scans without a mask" in warning
    assert "images/" in warning
    assert "labels/" in warning


# ---- splits -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six patients with two frames; the last patient has no mask."""
    for patient in range(1, 7):
        for frame in (1, 2):
            save(tmp_path / "images" / f"p{patient}_f{frame}.nii.gz")
            if patient < 6:
                save(tmp_path / "labels" / f"p{patient}_f{frame}.nii.gz")
    sections = {
        "labels": {"1": "ventricle"},
        "dev": {
            "labeled_1_patients": ["p3"],
            "labeled_2_patients": ["p3", "p2"],
            "train_patients": ["p2", "p3", "p4", "p6"],
            "validation_patients": ["p5"],
            "note": "p1 is in no list",
        },
        "plain": {"train": ["p1_f1", "p1_f2"], "validation": ["p2_f1"]},
        "both": {"train": ["p1", "p2"], "validation": ["p2_f1"]},
        "unknown": {"train": ["p1", "p77", "q"]},
        "bare": {"train": ["p1"], "validation": ["p6"]},
        "single": {"train": ["p1", "p2"], "labelled": ["p2_f2"]},
    }
    (tmp_path / "splits.json").write_text(json.dumps(sections))
    return tmp_path


def test_patients_of_a_split_give_all_their_frames(folder: Path) -> None:
    found = apply_splits(find_cases(folder), f"{folder / 'splits.json'}:dev", 2)
    assert names(found.labelled) == ["p2_f1", "p2_f2", "p3_f1", "p3_f2"]
    assert names(found.unlabelled) == ["p4_f1", "p4_f2", "p6_f1", "p6_f2"]
    assert names(found.validation) == ["p5_f1", "p5_f2"]
    assert [label.name for label in found.labels or []] == ["ventricle"]


def test_masks_of_cases_not_chosen_cannot_be_read_downstream(folder: Path) -> None:
    found = apply_splits(find_cases(folder), f"{folder / 'splits.json'}:dev", 1)
    assert {case.label for case in found.unlabelled} == {None}
    assert all(case.label for case in found.labelled + found.validation)
    assert read_case(found.unlabelled[0])[1] is None


def test_the_number_of_labelled_cases_without_a_list_takes_the_first_annotated(folder: Path) -> None:
    splits = f"{folder / 'splits.json'}:dev"
    assert names(apply_splits(find_cases(folder), splits, 3).labelled) == ["p2_f1", "p2_f2", "p3_f1"]
    assert names(apply_splits(find_cases(folder), None, 3).labelled) == ["p1_f1", "p1_f2", "p2_f1"]
    assert len(apply_splits(find_cases(folder), None, 3).unlabelled) == 9
    with pytest.raises(CasesError, match="7 labelled cases wanted, but 6 training cases have a mask"):
        apply_splits(find_cases(folder), splits, 7)


def test_a_file_may_name_the_labelled_cases(folder: Path) -> None:
    (folder / "mine.txt").write_text("# chosen by hand\np4\n\n p2_f2 \n")
    found = apply_splits(find_cases(folder), f"{folder / 'splits.json'}:dev", folder / "mine.txt")
    assert names(found.labelled) == ["p2_f2", "p4_f1", "p4_f2"]
    (folder / "mine.txt").write_text("p5\n")
    with pytest.raises(CasesError, match=r"mine\.txt: names cases that are not there: p5"):
        apply_splits(find_cases(folder), f"{folder / 'splits.json'}:dev", folder / "mine.txt")
    (folder / "mine.txt").write_text("p6\n")
    with pytest.raises(CasesError, match="chosen as labelled have no mask: p6_f1, p6_f2"):
        apply_splits(find_cases(folder), f"{folder / 'splits.json'}:dev", folder / "mine.txt")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (":dev", "several lists of labelled cases.*labeled_1_patients, labeled_2_patients"),
        (":both", "both in training and in validation: p2_f1"),
        (":unknown", "not there: p77, q;"),
        (":bare", "chosen for validation have no mask: p6_f1, p6_f2"),
        (":typo", "no section 'typo'.*one of dev, plain, both"),
        ("", "name a section"),
    ],
)
def test_splits_that_do_not_fit_are_explained(folder: Path, section: str, message: str) -> None:
    with pytest.raises(CasesError, match=message):
        apply_splits(find_cases(folder), f"{folder / 'splits.json'}{section}")


def test_sections_without_a_choice_and_with_a_single_list(folder: Path) -> None:
    plain = apply_splits(find_cases(folder), f"{folder / 'splits.json'}:plain")
    assert names(plain.labelled) == ["p1_f1", "p1_f2"]
    assert plain.unlabelled == ()
    single = apply_splits(find_cases(folder), f"{folder / 'splits.json'}:single")
    assert names(single.labelled) == ["p2_f2"]
    assert names(single.unlabelled) == ["p1_f1", "p1_f2", "p2_f1"]
    untouched = find_cases(folder)
    assert apply_splits(untouched) == untouched


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"labeld_2": ["p1"], "train": ["p1", "p2"]}, "dev: 'labeld_2' is no list.*ignored; did you mean 'labelled_2'"),
        ({"trian": ["p1"], "validation": ["p2"]}, "did you mean 'train'"),
        ({"trian": ["p1"]}, "did you mean 'train'"),
        ({"train": ["p1"], "validaton": ["p2"]}, "did you mean 'validation'"),
        ({"train": ["p1"], "cohort": ["p2"]}, "known are train, train_patients"),
        ({"train": 5}, "'train' must be a list of names of cases, not 5"),
        ({"train": ["p1"], "validation": "p2"}, "'validation' must be a list of names of cases, not 'p2'"),
        ({"train": ["p1"], "labelled": True}, "'labelled' must be a list of names of cases, not True"),
        ({"train": [["p1"]]}, "must be a list of names"),
        ({"train": ["p1", "p2"], "test": ["p2_f1"]}, "both in training and in test: p2_f1"),
    ],
)
def test_lists_that_would_be_ignored_or_are_none_are_refused(folder: Path, section: dict, message: str) -> None:
    (folder / "mine.json").write_text(json.dumps({"dev": section}))
    with pytest.raises(CasesError, match=message):
        apply_splits(find_cases(folder), f"{folder / 'mine.json'}:dev")


def test_test_cases_are_not_trained_on(folder: Path) -> None:
    """A test case need not be in this folder."""
    section = {"test": ["p1_f1", "p1_f2", "p2", "p99"], "validation": ["p3"], "note": "from 2020", "years": [2020]}
    (folder / "mine.json").write_text(json.dumps(section))
    found = apply_splits(find_cases(folder), str(folder / "mine.json"))
    assert names(found.cases) == [f"p{patient}_f{frame}" for patient in (4, 5, 6, 3) for frame in (1, 2)]


def test_a_number_of_labelled_cases_may_have_zeros_before_it(folder: Path) -> None:
    (folder / "mine.json").write_text(
        json.dumps({"labelled_02": ["p4_f1"], "labelled_12": ["p2"], "train": ["p2", "p4"]})
    )
    assert names(apply_splits(find_cases(folder), str(folder / "mine.json"), 2).labelled) == ["p4_f1"]


def test_nnunet_split_files_have_numbered_sections(folder: Path) -> None:
    (folder / "splits_final.json").write_text(json.dumps([{"train": ["p1"], "val": ["p2"]}, {"train": ["p2"]}]))
    found = apply_splits(find_cases(folder), f"{folder / 'splits_final.json'}:0")
    assert names(found.labelled) == ["p1_f1", "p1_f2"]
    assert names(found.validation) == ["p2_f1", "p2_f2"]


@pytest.mark.parametrize(
    ("text", "file", "section"),
    [
        (r"C:\x\splits.json:dev", r"C:\x\splits.json", "dev"),
        (r"C:\x\splits.json", r"C:\x\splits.json", None),
        ("C:/x/splits.json:dev", "C:/x/splits.json", "dev"),
        ("C:/x/splits.json", "C:/x/splits.json", None),
        ("splits.json:dev", "splits.json", "dev"),
        ("a/splits.json", "a/splits.json", None),
    ],
)
def test_windows_drives_are_not_taken_for_sections(text: str, file: str, section: str | None) -> None:
    assert parse(text) == (Path(file), section)


def test_split_files_that_cannot_be_read_are_named(folder: Path) -> None:
    with pytest.raises(CasesError, match=r"absent\.json: the split file cannot be read"):
        apply_splits(find_cases(folder), "absent.json:dev")
    (folder / "bad.json").write_text("{")
    with pytest.raises(CasesError, match=r"bad\.json: not a JSON file"):
        apply_splits(find_cases(folder), f"{folder / 'bad.json'}:dev")


def test_the_real_splits(shared_data: Path) -> None:
    atrium = shared_data / "la"
    official = apply_splits(find_cases(atrium), f"{atrium / 'splits.json'}:official", 16)
    assert (len(official.labelled), len(official.unlabelled), len(official.validation)) == (16, 64, 0)
    develop = apply_splits(find_cases(atrium), f"{atrium / 'splits.json'}:development", 8)
    assert (len(develop.labelled), len(develop.unlabelled), len(develop.validation)) == (8, 56, 16)
    heart = shared_data / "acdc"
    cine = apply_splits(find_cases(heart), f"{heart / 'splits.json'}:development", 3)
    assert (len(cine.labelled), len(cine.unlabelled), len(cine.validation)) == (6, 106, 28)
    assert [label.name for label in cine.labels or []] == ["right ventricle", "myocardium", "left ventricle"]


# ---- fingerprint and import -------------------------------------------------------------------------------


def test_the_fingerprint_changes_with_any_file_and_with_the_parts(folder: Path) -> None:
    cases = find_cases(folder)
    before = fingerprint(cases)
    assert json.loads(json.dumps(before)) == before
    assert fingerprint(find_cases(folder)) == before
    assert before["cases"]["labelled"]["p1_f1"]["image"]["bytes"] == (folder / "images" / "p1_f1.nii.gz").stat().st_size
    assert fingerprint(apply_splits(cases, None, 3))["digest"] != before["digest"]
    path = folder / "labels" / "p4_f2.nii.gz"
    whole = bytearray(gzip.decompress(path.read_bytes()))
    whole[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(whole), mtime=0))
    after = fingerprint(find_cases(folder))
    changed = [name for name, files in after["cases"]["labelled"].items() if files != before["cases"]["labelled"][name]]
    assert changed == ["p4_f2"]


def test_big_files_are_told_apart_by_their_ends(tmp_path: Path) -> None:
    for place in (0, -1):
        content = bytearray(3 * case_list.HASHED_BYTES)
        digests = set()
        for value in (0, 1):
            content[place] = value
            (tmp_path / "a.nii").write_bytes(content)
            digests.add(fingerprint(find_cases(tmp_path))["digest"])
        assert len(digests) == 2


def test_a_scan_is_known_again_under_another_name_and_told_from_one_that_is_alike_at_its_ends(tmp_path: Path) -> None:
    """Scans in one space that are not compressed have the same header and the same black margins."""
    content = bytes(3 << 18)
    for name, middle in (("a.nii", 1), ("copy.nii", 1), ("b.nii", 2)):
        (tmp_path / name).write_bytes(content + bytes([middle]) * 1000 + content)
    link = tmp_path / "link.nii"
    try:
        link.symlink_to(tmp_path / "a.nii")
    except OSError:
        link.write_bytes((tmp_path / "a.nii").read_bytes())
    a, *others = (Case(name, tmp_path / f"{name}.nii") for name in ("a", "b", "copy", "link"))
    assert case_list.same_scans(others, [a]) == ["copy (as a)", "link (as a)"]
    assert case_list.annotated_in(others, {"annotated": case_list.scan_prints([a])}) == ["copy", "link"]
    frames = [Case(f"a_frame0{n}", a.image, frame=n) for n in (1, 2)]
    assert not case_list.same_scans(frames[:1], frames[1:])


def test_the_fingerprint_covers_the_voxel_file_of_a_detached_header(tmp_path: Path) -> None:
    digests = set()
    for value in (1, 2):
        sitk.WriteImage(sitk.Image(SHAPE, sitk.sitkUInt8) + value, str(tmp_path / "a.mhd"))
        digests.add(fingerprint(find_cases(tmp_path))["digest"])
    assert len(digests) == 2


def test_listing_cases_imports_neither_torch_nor_itk(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from SemiSegLib.data.layouts import find_cases;"
        "import SemiSegLib.data.images;"
        f"assert len(find_cases(Path({str(folder)!r}))) == 12;"
        "print({'torch', 'SimpleITK', 'nibabel', 'scipy', 'h5py'} & set(sys.modules))"
    )
    root = Path(case_list.__file__).resolve().parents[2]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=root, check=True)
    assert result.stdout.strip() == "set()"


def segmentation(path: Path, values: dict[str, int]) -> None:
    """A segmentation in which voxel (0, 0, i) is of the i-th segment."""
    array = np.zeros(SHAPE, np.uint8)
    array[0, 0, : len(values)] = list(values.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = [Label(value, name, (9, 9, 9)) for name, value in values.items()]
    writing.write_mask(sitk.GetImageFromArray(array.T), path, labels)


def test_segments_named_like_the_data_set_s_classes_get_their_numbers(tmp_path: Path) -> None:
    """The names decide where a segmentation knows any; one that knows none goes by its numbers."""
    for name in "abc":
        save(tmp_path / "images" / f"{name}.nii.gz")
    segmentation(tmp_path / "labels" / "a.seg.nrrd", {"right": 1, "left": 2})
    segmentation(tmp_path / "labels" / "b.seg.nrrd", {"other": 1, "right": 3})
    segmentation(tmp_path / "labels" / "c.seg.nrrd", {"Segment_1": 1, "Segment_2": 2})
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"left": 1, "right": 2}}), encoding="utf-8")
    found = find_cases(tmp_path)
    assert [label.name for label in found.labels or []] == ["left", "right"]
    drawn = {}
    for case in found:
        mask = read_case(case)[1]
        assert mask is not None
        drawn[case.name] = sitk.GetArrayFromImage(mask.image).T[0, 0].tolist()
    assert drawn == {"a": [2, 1, 0], "b": [3, 2, 0], "c": [1, 2, 0]}


def test_a_list_of_cases_in_another_encoding_is_named(tmp_path: Path) -> None:
    save(tmp_path / "images" / "Größe.nii.gz")
    (tmp_path / "list.txt").write_bytes("Größe\n".encode("latin-1"))
    with pytest.raises(CasesError, match=r"list\.txt: .* UTF-8"):
        apply_splits(find_cases(tmp_path), labelled=tmp_path / "list.txt")


@pytest.mark.parametrize("name", ["site/x_1", "../x_1", "a\\b", "C:x"])
def test_names_that_would_be_paths_are_refused(tmp_path: Path, name: str) -> None:
    """Everything that is made of a case is a file of its name in some folder."""
    save(tmp_path / "imagesTr" / "x_1_0000.nii.gz")
    save(tmp_path / "labelsTr" / "x_1.nii.gz")
    entry = {"images": ["imagesTr/x_1_0000.nii.gz"], "label": "labelsTr/x_1.nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"liver": 1}, "dataset": {name: entry}}))
    with pytest.raises(CasesError, match=r"dataset\.json: .*name"):
        find_cases(tmp_path)


def test_segmentations_that_end_in_nrrd_are_read_by_their_names_too(tmp_path: Path) -> None:
    """Two files that number the same names differently, renamed from .seg.nrrd."""
    for name, values in (("a", {"left": 1, "right": 2}), ("b", {"right": 1, "left": 2})):
        save(tmp_path / "images" / f"{name}.nii.gz")
        segmentation(tmp_path / "labels" / f"{name}.seg.nrrd", values)
        (tmp_path / "labels" / f"{name}.seg.nrrd").rename(tmp_path / "labels" / f"{name}.nrrd")
    found = find_cases(tmp_path)
    assert [(label.value, label.name) for label in found.labels or []] == [(1, "left"), (2, "right")]
    mask = read_case(by_name(found)["b"])[1]
    assert mask is not None
    assert sitk.GetArrayFromImage(mask.image).T[0, 0].tolist() == [2, 1, 0]


def test_scans_below_their_folder_are_found_where_it_was_moved_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the folder was named from where one stood, and a scan by its whole path."""
    save(tmp_path / "data" / "images" / "a.nii.gz")
    monkeypatch.chdir(tmp_path)
    case = Case("a", tmp_path / "data" / "images" / "a.nii.gz")
    content = cases_to_dict(CaseList((), (case,), root=Path("data")))
    (tmp_path / "data").rename(tmp_path / "moved")
    (found,) = cases_from_dict(content, tmp_path / "moved").unlabelled
    assert found.image.is_file()
