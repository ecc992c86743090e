"""Scans with a time axis: each frame is a case, in its place, of the same patient as the others."""

import dataclasses
import gzip
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from SemiSegLib.api import Predictor
from SemiSegLib.data.cases import Case, CaseList, CasesError, read_case, read_scan
from SemiSegLib.data.formats import ImageError
from SemiSegLib.data.frames import frame_count, frame_name, series_name
from SemiSegLib.data.geometry import Geometry
from SemiSegLib.data.images import read_geometry, read_image, read_mask
from SemiSegLib.data.layouts import find_cases
from SemiSegLib.data.splits import apply_splits, hold_out
from SemiSegLib.errors import SemiSegError
from SemiSegLib.evaluate import EvaluationError, evaluate
from SemiSegLib.predict import main, predict
from SemiSegLib.runs import RunFolder
from SemiSegLib.training.intent import cases_from_dict, cases_to_dict
from SemiSegLib.training.session import prepare_cases

SIZE, SPACING, OBLIQUE = (26, 28, 22), (1.0, 0.9, 1.2), (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0)
FORMATS = ["nii.gz", "nii", "nrrd", "seq.nrrd", "mha"]


@pytest.fixture
def beating(ball):
    """A function that makes scans and masks of a ball that grows from frame to frame, on an oblique grid."""

    def make(count=3, size=SIZE):
        found = [ball(size, SPACING, OBLIQUE, radius=6.0 + 1.5 * frame) for frame in range(count)]
        return [scan for scan, _ in found], [mask for _, mask in found]

    return make


def write_4d(frames, path):
    """A 4D file as ITK writes it, or, .seq.nrrd, as Slicer does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.name.endswith(".seq.nrrd"):
        sitk.WriteImage(sitk.JoinSeries(frames, 0.0, 0.05), path)
        return path
    axes = np.reshape(frames[0].GetDirection(), (3, 3)) * frames[0].GetSpacing()
    vectors = [*axes.T, frames[0].GetOrigin()]
    placed = ["(" + ",".join(map(repr, map(float, vector))) + ")" for vector in vectors]
    array = np.stack([sitk.GetArrayFromImage(frame) for frame in frames])
    fields = {
        "type": {"float32": "float", "uint8": "uchar"}[array.dtype.name],
        "dimension": 4,
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, array.shape[::-1])),
        "space directions": " ".join([*placed[:3], "none"]),
        "kinds": "domain domain domain list",
        "endian": "little",
        "encoding": "gzip",
        "space origin": placed[3],
    }
    header = "NRRD0004\n" + "".join(f"{name}: {value}\n" for name, value in fields.items())
    path.write_bytes((header + "axis 3 index type:=numeric\n\n").encode() + gzip.compress(array.tobytes()))
    return path


def same_place(image, other):
    return Geometry.of(image).same_as(Geometry.of(other), 1e-4)


# ---- reading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_each_frame_is_read_in_its_place(kind, beating, tmp_path):
    scans, _ = beating()
    path = write_4d(scans, tmp_path / f"cine.{kind}")
    assert frame_count(path) == 3
    assert read_geometry(path).same_as(Geometry.of(scans[0]), 1e-4)
    for number, scan in enumerate(scans):
        frame = read_image(path, number)
        assert same_place(frame, scan)
        assert np.array_equal(sitk.GetArrayFromImage(frame), sitk.GetArrayFromImage(scan))
    with pytest.raises(ImageError, match=r"cine.*frame 4"):
        read_image(path, 3)
    with pytest.raises(ImageError, match=r"cine.*(4D files, frame by frame|single-channel)"):
        read_image(path)


def test_one_frame_of_a_nifti_file_is_scaled_as_its_header_says(tmp_path):
    stored = nibabel.Nifti1Image(np.arange(120, dtype=np.int16).reshape(5, 4, 3, 2), np.diag([1, 1, 2, 1]))
    stored.header.set_slope_inter(2, 10)
    nibabel.save(stored, tmp_path / "a.nii")
    expected = nibabel.load(tmp_path / "a.nii").get_fdata()[..., 1]
    assert np.array_equal(sitk.GetArrayFromImage(read_image(tmp_path / "a.nii", 1)).T, expected)


def test_frames_are_numbered_from_one_as_data_sets_do(tmp_path):
    names = [series_name(tmp_path / name) for name in ("patient001_4d.nii.gz", "cine.seq.nrrd", "a_4D.mha", "4d.nii")]
    assert names == ["patient001", "cine", "a", "4d"]
    assert [frame_name("a", 0, 3), frame_name("a", 29, 30), frame_name("a", 4, 120)] == [
        "a_frame01",
        "a_frame30",
        "a_frame005",
    ]


def nifti(path, shape, intent=0, dtype=np.uint8):
    stored = nibabel.Nifti1Image(np.zeros(shape, dtype), np.eye(4))
    stored.header["intent_code"] = intent
    nibabel.save(stored, path)


def test_a_fourth_axis_of_one_volume_is_no_time(tmp_path):
    nifti(tmp_path / "a.nii.gz", (5, 4, 3, 1))
    [case] = find_cases(tmp_path / "a.nii.gz")
    assert (case.name, case.frame) == ("a", None)
    assert read_scan(case).GetSize() == (5, 4, 3)


def test_vectors_colours_and_channels_are_no_frames_and_are_refused_by_name(tmp_path):
    nifti(tmp_path / "vectors.nii.gz", (5, 4, 3, 3), intent=1007)
    nifti(tmp_path / "channels.nii.gz", (5, 4, 3, 1, 2))
    nifti(tmp_path / "colours.nii.gz", (5, 4, 3), dtype=np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    sitk.WriteImage(sitk.Image([5, 4, 3], sitk.sitkVectorUInt8, 3), tmp_path / "rgb.mha")
    sitk.WriteImage(sitk.Image([5, 4, 3], sitk.sitkVectorUInt8, 3), tmp_path / "rgb.nrrd")
    (tmp_path / "damaged.nii.gz").write_bytes(b"no header")
    for path in sorted(tmp_path.iterdir()):
        assert frame_count(path) == 1, path
        [case] = find_cases(path)
        with pytest.raises(SemiSegError, match=path.name):
            read_scan(case)


# ---- case lists ---------------------------------------------------------------------------------------------


def described(cases):
    return {case.name: (case.frame, case.label and case.label.name, case.label_frame) for case in cases}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_4d_mask_annotates_the_frames_in_which_something_is_drawn(kind, beating, tmp_path):
    scans, masks = beating()
    write_4d(scans, tmp_path / "images" / f"a.{kind}")
    write_4d([masks[0], masks[1] * 0, masks[2]], tmp_path / "labels" / f"a.{kind}")
    cases = find_cases(tmp_path)
    assert [case.name for case in cases.labelled] == ["a_frame01", "a_frame03"]
    assert [case.name for case in cases.unlabelled] == ["a_frame02"]
    assert {case.patient for case in cases} == {"a"}
    scan, mask = read_case(cases.labelled[1])
    assert np.array_equal(sitk.GetArrayFromImage(scan), sitk.GetArrayFromImage(scans[2]))
    assert np.array_equal(sitk.GetArrayFromImage(mask.image), sitk.GetArrayFromImage(masks[2]))
    assert same_place(mask.image, masks[2])


@pytest.mark.parametrize("names", [("patient001_frame01", "patient001_frame03"), ("patient001_4d_frame1",) * 1])
def test_masks_of_single_frames_are_found_by_their_names(names, beating, tmp_path):
    scans, masks = beating()
    write_4d(scans, tmp_path / "images" / "patient001_4d.nii.gz")
    (tmp_path / "labels").mkdir()
    for name in names:
        sitk.WriteImage(masks[int(name[-1]) - 1], tmp_path / "labels" / f"{name}.nii.gz")
    cases = find_cases(tmp_path)
    assert [case.name for case in cases.labelled] == [f"patient001_frame0{name[-1]}" for name in names]
    for case in cases.labelled:
        mask = read_case(case)[1]
        assert np.array_equal(sitk.GetArrayFromImage(mask.image), sitk.GetArrayFromImage(masks[case.frame]))


def test_a_frame_with_a_file_of_its_own_is_that_file(beating, tmp_path):
    """ACDC has the 4D file and two of its frames side by side."""
    scans, _ = beating()
    write_4d(scans, tmp_path / "patient001_4d.nii.gz")
    sitk.WriteImage(scans[1], tmp_path / "patient001_frame02.nii.gz")
    assert described(find_cases(tmp_path)) == {
        "patient001_frame01": (0, None, None),
        "patient001_frame02": (None, None, None),
        "patient001_frame03": (2, None, None),
    }


def test_acdc_as_it_comes_is_two_annotated_frames_a_patient_and_many_others(beating, tmp_path):
    scans, masks = beating()
    for number in (1, 2):
        folder = tmp_path / "training" / f"patient00{number}"
        write_4d(scans, folder / f"patient00{number}_4d.nii.gz")
        (folder / "Info.cfg").write_text("ED: 1\nES: 3\n")
        for frame in (1, 3):
            sitk.WriteImage(scans[frame - 1], folder / f"patient00{number}_frame0{frame}.nii.gz")
            sitk.WriteImage(masks[frame - 1], folder / f"patient00{number}_frame0{frame}_gt.nii.gz")
    for root in (tmp_path, tmp_path / "training"):
        cases = find_cases(root)
        assert cases.layout == "ACDC"
        annotated = [f"patient00{number}_frame0{frame}" for number in (1, 2) for frame in (1, 3)]
        assert names(cases.labelled) == annotated
        assert names(cases.unlabelled) == ["patient001_frame02", "patient002_frame02"]
        assert [label.name for label in cases.labels] == ["right ventricle", "myocardium", "left ventricle"]
        divided = hold_out(cases, 1)
        assert names(divided.validation) == annotated[2:]
        assert names(divided.unlabelled) == ["patient001_frame02"]


def test_a_mask_of_one_volume_for_several_is_refused_with_both_names(beating, tmp_path):
    scans, masks = beating()
    write_4d(scans, tmp_path / "images" / "a.nii.gz")
    (tmp_path / "labels").mkdir()
    sitk.WriteImage(masks[0], tmp_path / "labels" / "a.nii.gz")
    with pytest.raises(CasesError, match=r"images.a\.nii\.gz holds 3 frames.*labels.a\.nii\.gz 1.*a_frame01.*channels"):
        find_cases(tmp_path)


def test_a_mask_of_a_frame_that_is_not_there_is_named(beating, tmp_path, caplog):
    scans, masks = beating()
    write_4d(scans, tmp_path / "images" / "a.nii.gz")
    (tmp_path / "labels").mkdir()
    for number in (1, 9):
        sitk.WriteImage(masks[0], tmp_path / "labels" / f"a_frame0{number}.nii.gz")
    assert len(find_cases(tmp_path).labelled) == 1
    assert "a_frame09.nii.gz" in caplog.text


def test_a_run_remembers_which_frame_a_case_is(beating, tmp_path):
    scans, masks = beating()
    write_4d(scans, tmp_path / "images" / "a.nii.gz")
    write_4d(masks, tmp_path / "labels" / "a.nii.gz")
    cases = find_cases(tmp_path)
    assert cases_from_dict(json.loads(json.dumps(cases_to_dict(cases)))).labelled == cases.labelled


# ---- patients -----------------------------------------------------------------------------------------------


def case_list(*labelled, unlabelled=()):
    root = Path()
    mask = root / "mask"
    return CaseList(
        tuple(Case(name, root / name, mask) for name in labelled),
        tuple(Case(name, root / name) for name in unlabelled),
    )


def names(cases):
    return [case.name for case in cases]


def test_frames_of_one_patient_are_held_out_together():
    cases = case_list("a_frame01", "a_frame02", "b_frame01", "b_frame02", "c", unlabelled=["a_frame03", "b_frame03"])
    one = hold_out(cases, 1)
    assert names(one.validation) == ["c"]
    two = hold_out(cases, 2)
    assert names(two.validation) == ["b_frame01", "b_frame02", "c"]  # two would divide b
    assert names(two.labelled) == ["a_frame01", "a_frame02"]
    assert names(two.unlabelled) == ["a_frame03"]
    with pytest.raises(CasesError, match="4 cases cannot be held out of 5 annotated ones of 3 patients"):
        hold_out(cases, 4)


def test_masks_that_a_person_made_are_kept_aside_before_accepted_predictions():
    """Against its own mask a model is always right; and what was kept aside stays so in the next round."""
    cases = case_list("a", "b_frame01", "b_frame02", "c", "d")
    of = {"b_frame02": "accepted", "c": "corrected", "d": "accepted"}
    labelled = tuple(dataclasses.replace(case, origin=of.get(case.name, "drawn")) for case in cases.labelled)
    cases = dataclasses.replace(cases, labelled=labelled)
    assert [names(hold_out(cases, count).validation) for count in (1, 2, 3)] == [["c"], ["a", "c"], ["a", "c", "d"]]


def test_splits_that_divide_a_patient_are_refused(tmp_path):
    cases = case_list("a_frame01", "a_frame02", "b_frame01", unlabelled=["a_frame03"])
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"train": ["a_frame01", "b"], "validation": ["a_frame02"]}))
    with pytest.raises(CasesError, match=r"splits\.json.*one patient.*: a;"):
        apply_splits(cases, str(splits))
    splits.write_text(json.dumps({"validation": ["a_frame02"]}))
    assert names(apply_splits(cases, str(splits))) == ["b_frame01", "a_frame02"]


def test_a_file_says_which_scans_are_of_one_patient(tmp_path):
    for name in "abc":
        for part in ("images", "labels"):
            (tmp_path / part).mkdir(exist_ok=True)
            nifti(tmp_path / part / f"{name}.nii.gz", (5, 4, 3))
    (tmp_path / "patients.json").write_text(json.dumps({"a": "Anna", "c": "Anna"}))
    assert names(hold_out(find_cases(tmp_path), 1).validation) == ["a", "c"]
    (tmp_path / "patients.json").write_text(json.dumps({"d": "Anna"}))
    with pytest.raises(CasesError, match=r"patients\.json.*not there: d"):
        find_cases(tmp_path)
    (tmp_path / "patients.json").write_text(json.dumps(["a"]))
    with pytest.raises(CasesError, match=r"patients\.json.*scan_001"):
        find_cases(tmp_path)


def test_a_training_on_frames_takes_each_from_its_place_and_divides_no_patient(beating, tiny_settings, tmp_path):
    for name in ("a", "b"):
        scans, masks = beating(2)
        write_4d(scans, tmp_path / "data" / "images" / f"{name}.nii.gz")
        write_4d(masks, tmp_path / "data" / "labels" / f"{name}.nii.gz")
    cases = hold_out(find_cases(tmp_path / "data"), 1)
    assert names(cases.labelled) == ["a_frame01", "a_frame02"]
    assert names(cases.validation) == ["b_frame01", "b_frame02"]
    settings = tiny_settings("supervised", **{"data.spacing": (1.0, 1.0, 1.0)})
    settings.data.cache = str(tmp_path / "cache")
    prepared = prepare_cases(RunFolder.create(tmp_path / "run"), settings, cases, lambda: False)
    first, second = (float((case.mask() == 1).sum()) for case in prepared.labelled)
    assert second > 1.5 * first  # not twice the same frame from the cache


@pytest.mark.parametrize("doubled", ["s1_frame1", "s1_4d_frame01"])
def test_two_files_for_the_mask_of_one_frame_are_refused(doubled, beating, tmp_path):
    scans, masks = beating(2)
    write_4d(scans, tmp_path / "images" / "s1_4d.nii.gz")
    (tmp_path / "labels").mkdir()
    for name in ("s1_frame01", doubled):
        sitk.WriteImage(masks[0], tmp_path / "labels" / f"{name}.nii.gz")
    with pytest.raises(CasesError, match=r"s1_.*frame0?1\.nii\.gz and .*s1_.*frame0?1\.nii\.gz are both the mask"):
        find_cases(tmp_path)


def test_a_4d_mask_and_a_file_of_one_of_its_frames_are_refused(beating, tmp_path):
    scans, masks = beating(2)
    write_4d(scans, tmp_path / "images" / "s1.nii.gz")
    write_4d(masks, tmp_path / "labels" / "s1.nii.gz")
    sitk.WriteImage(masks[1], tmp_path / "labels" / "s1_frame02.nii.gz")
    with pytest.raises(CasesError, match=r"s1\.nii\.gz and .*s1_frame02\.nii\.gz both hold the mask of s1_frame02"):
        find_cases(tmp_path)
    write_4d([masks[0], masks[1] * 0], tmp_path / "labels" / "s1.nii.gz")  # of which nothing is drawn in it
    assert described(find_cases(tmp_path).labelled) == {
        "s1_frame01": (0, "s1.nii.gz", 0),
        "s1_frame02": (1, "s1_frame02.nii.gz", None),
    }


# ---- predicting ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(make_brightness_model, tmp_path_factory):
    return make_brightness_model(tmp_path_factory.mktemp("model") / "brightness.safetensors")


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("nii.gz", "nii.gz"), ("mha", "mha"), ("seq.nrrd", "nrrd"), ("nrrd", "seg.nrrd"), ("mha", "nii.gz")],
)
def test_a_frame_is_predicted_as_it_is_alone(kind, wanted, model, beating, tmp_path):
    scans, _ = beating(2)
    source = write_4d(scans, tmp_path / f"cine_4d.{kind}")
    done = list(predict(model, source, tmp_path / "out", wanted, sdm=True, device="cpu"))
    assert [each.name for each in done] == ["cine_frame01", "cine_frame02"]
    (tmp_path / "alone").mkdir()
    for number, scan in enumerate(scans, start=1):
        sitk.WriteImage(scan, tmp_path / "alone" / f"cine_frame0{number}.nrrd")
    alone = list(predict(model, tmp_path / "alone", tmp_path / "out alone", wanted, sdm=True, device="cpu"))
    volumes = []
    for frame, single, scan in zip(done, alone, scans, strict=True):
        mask, expected = read_mask(frame.mask).image, read_mask(single.mask).image
        assert same_place(mask, scan)
        assert np.array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(expected))
        volumes.append(frame.volumes_ml["Ball of Light"])
    assert volumes[0] < volumes[1]
    assert len(list((tmp_path / "out" / "sdm").iterdir())) == 2
    [whole] = (tmp_path / "out" / "4d").iterdir()
    assert whole.name == "cine_4d." + {"nrrd": "seq.nrrd", "seg.nrrd": "seq.nrrd"}.get(wanted, wanted)
    assert frame_count(whole) == 2
    for number, frame in enumerate(done):
        joined = read_mask(whole, number).image
        assert same_place(joined, scans[number])
        assert np.array_equal(sitk.GetArrayFromImage(joined), sitk.GetArrayFromImage(read_mask(frame.mask).image))


def test_one_frame_is_predicted_from_python(model, beating, tmp_path):
    scans, _ = beating(2)
    source = write_4d(scans, tmp_path / "cine.nii.gz")
    result = Predictor(model, device="cpu").predict(source, frame=1)
    assert same_place(result.image, scans[1])
    result.save(tmp_path / "mask.nii.gz")
    assert nibabel.load(tmp_path / "mask.nii.gz").shape == nibabel.load(source).shape[:3]
    with pytest.raises(ImageError, match="frame by frame"):
        Predictor(model, device="cpu").predict(source)


def test_the_4d_mask_of_a_nifti_file_has_its_header_bit_by_bit(model, beating, tmp_path):
    source = write_4d(beating(2)[0], tmp_path / "cine.nii.gz")
    list(predict(model, source, tmp_path / "out", device="cpu"))
    scan, mask = nibabel.load(source), nibabel.load(tmp_path / "out" / "4d" / "cine.nii.gz")
    assert mask.shape == scan.shape
    assert np.array_equal(mask.affine, scan.affine)
    assert mask.header.get_zooms() == scan.header.get_zooms()
    frame = nibabel.load(tmp_path / "out" / "cine_frame02.nii.gz")
    assert frame.shape == scan.shape[:3]
    assert np.array_equal(frame.affine, scan.affine)


def test_an_interrupted_sequence_is_finished_and_joined(model, beating, tmp_path, capsys):
    scans, _ = beating(2)
    write_4d(scans, tmp_path / "in" / "cine.nii.gz")
    command = ["--model", str(model), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main([*command, "--device", "cpu"]) == 0
    assert "cine.nii.gz is 4D: each of its 2 frames" in capsys.readouterr().out
    before = (tmp_path / "out" / "4d" / "cine.nii.gz").read_bytes()
    (tmp_path / "out" / "4d" / "cine.nii.gz").unlink()
    (tmp_path / "out" / "cine_frame02.nii.gz").unlink()
    assert main([*command, "--device", "cpu", "--skip-existing"]) == 0
    assert (tmp_path / "out" / "4d" / "cine.nii.gz").read_bytes() == before
    (tmp_path / "out" / "4d" / "cine.nii.gz").unlink()
    assert main([*command, "--device", "cpu", "--skip-existing"]) == 0
    assert (tmp_path / "out" / "4d" / "cine.nii.gz").exists()


def test_a_4d_scan_is_never_replaced_by_the_masks_of_its_frames(model, beating, tmp_path, capsys):
    scan = write_4d(beating(2)[0], tmp_path / "4d" / "cine.nii.gz")
    before = scan.read_bytes()
    command = ["--model", str(model), "--input", str(scan.parent), "--output", str(tmp_path), "--device", "cpu"]
    for existing in ([], ["--overwrite"], ["--skip-existing"]):
        assert main([*command, *existing]) == 2
        assert "would replace the scans" in capsys.readouterr().err
    assert scan.read_bytes() == before
    assert list(tmp_path.iterdir()) == [scan.parent]


def test_processes_that_share_a_sequence_join_it_at_the_end(model, beating, tmp_path):
    source = write_4d(beating(2)[0], tmp_path / "cine.nii.gz")
    list(predict(model, source, tmp_path / "out", device="cpu", shard=(0, 2)))
    assert not (tmp_path / "out" / "4d").exists()
    list(predict(model, source, tmp_path / "out", device="cpu", shard=(1, 2)))
    assert frame_count(tmp_path / "out" / "4d" / "cine.nii.gz") == 2


def test_frames_of_a_patient_with_a_name_are_joined_as_well(model, beating, tmp_path):
    """patients.json says whose scan it is; frames are called after their file all the same."""
    write_4d(beating(2)[0], tmp_path / "in" / "cine.nii.gz")
    (tmp_path / "in" / "patients.json").write_text(json.dumps({"cine_frame01": "Anna", "cine_frame02": "Anna"}))
    list(predict(model, tmp_path / "in", tmp_path / "out", device="cpu"))
    assert frame_count(tmp_path / "out" / "4d" / "cine.nii.gz") == 2


def test_4d_masks_of_files_of_one_name_are_kept_apart(model, beating, tmp_path):
    """dataset.json gives names to scans whose files may be called the same, each in its folder."""
    entries = {}
    for name, count in (("a", 2), ("b", 3)):
        write_4d(beating(count)[0], tmp_path / "in" / name / "cine.nii.gz")
        entries[name] = {"images": [f"{name}/cine.nii.gz"]}
    (tmp_path / "in" / "dataset.json").write_text(json.dumps({"labels": {"ball": 1}, "dataset": entries}))
    list(predict(model, tmp_path / "in", tmp_path / "out", device="cpu"))
    found = {path.name: frame_count(path) for path in (tmp_path / "out" / "4d").iterdir()}
    assert found == {"a.nii.gz": 2, "b.nii.gz": 3}


# ---- scoring ------------------------------------------------------------------------------------------------


def test_frames_are_scored_one_by_one_against_4d_masks(beating, tmp_path):
    """Of either kind: single frames as `predict` writes them, or all in one file; against a folder or a data set."""
    scans, masks = beating()
    truth = [masks[0], masks[1] * 0, masks[2]]
    write_4d(scans, tmp_path / "data" / "images" / "cine.nii.gz")
    write_4d(truth, tmp_path / "data" / "labels" / "cine.nii.gz")
    write_4d([masks[0], masks[1], masks[1]], tmp_path / "joined" / "cine.nii.gz")
    (tmp_path / "single").mkdir()
    for number, mask in enumerate([masks[0], masks[1], masks[1]], start=1):
        sitk.WriteImage(mask, tmp_path / "single" / f"cine_frame0{number}.nii.gz")
    for predictions in ("joined", "single"):
        for references in ("data/labels", "data"):
            report = evaluate(tmp_path / predictions, tmp_path / references, labels={"ball": 1})
            assert list(report.cases) == ["cine_frame01", "cine_frame03"]
            assert report.cases["cine_frame01"]["ball"]["dsc"] == 1
            assert 0.3 < report.cases["cine_frame03"]["ball"]["dsc"] < 0.95
            assert report.missing_references == ["cine_frame02"]


def test_a_frame_that_has_two_masks_is_refused(beating, tmp_path):
    _, masks = beating(3)
    write_4d(masks, tmp_path / "heart_4d.nii.gz")
    sitk.WriteImage(masks[1], tmp_path / "heart_frame02.nii.gz")
    with pytest.raises(EvaluationError, match=r"heart_4d.nii.gz and .*heart_frame02.nii.gz both hold"):
        evaluate(tmp_path, tmp_path)
