"""Preprocessed cases: classes, ignored voxels, distance maps, and masks that must not be looked at."""

import os

import numpy as np
import pytest
import SimpleITK as sitk

from SemiSegLib.config import DataSettings, Label
from SemiSegLib.data.cases import Case
from SemiSegLib.data.distance import label_distances
from SemiSegLib.data.preprocess import prepare
from SemiSegLib.errors import SemiSegError

LABELS = [Label(3, "cavity", (255, 0, 0)), Label(7, "wall", (0, 255, 0))]


@pytest.fixture
def case(tmp_path, ball):
    """A ball of value 3 in a shell of value 7, its last slices not annotated, written as files."""
    scan, mask = ball((32, 30, 20), (1.0, 1.0, 1.5), radius=8)
    shell = sitk.BinaryDilate(mask, [3, 3, 2])
    values = mask * 3 + (shell - mask) * 7
    values[:, :, 17:] = 255
    sitk.WriteImage(scan, tmp_path / "scan.nii.gz")
    sitk.WriteImage(values, tmp_path / "mask.nii.gz")
    return Case("one", tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz")


def test_file_values_become_class_indices(case, tmp_path):
    prepared = prepare(case, DataSettings(labels=LABELS), tmp_path / "cache", sdm=False)
    stored = sitk.GetArrayFromImage(sitk.ReadImage(case.label)).T
    mask = prepared.mask()
    for value, index in ((0, 0), (3, 1), (7, 2), (255, 255)):
        assert np.array_equal(mask == index, stored == value)
    assert prepared.shape == (32, 30, 20)
    assert prepared.spacing == pytest.approx((1.0, 1.0, 1.5))


def test_foreground_positions_are_foreground(case, tmp_path):
    prepared = prepare(case, DataSettings(labels=LABELS), tmp_path / "cache", sdm=False)
    for index, voxels in enumerate(prepared.foreground(), start=1):
        assert len(voxels)
        assert (prepared.mask()[tuple(voxels.T)] == index).all()


def test_distance_maps_are_in_mm_and_unknown_where_annotation_could_change_them(case, tmp_path):
    settings = DataSettings(labels=LABELS, sdm_normalisation="case")
    prepared = prepare(case, settings, tmp_path / "cache", sdm=True)
    found, mask = np.asarray(prepared.sdm(), np.float32), prepared.mask()
    assert np.isnan(found[:, mask == 255]).all()
    exact = label_distances(np.asarray(mask == 1), [1], prepared.spacing)[0]
    known = ~np.isnan(found[0])
    assert 0.2 < known.mean() < 0.9
    np.testing.assert_allclose(found[0][known], exact[known], rtol=1e-3)
    # Far from the unannotated slices the maps are known: at the first slice, below the ball.
    assert known[:, :, :3].mean() > 0.5


def test_the_cache_is_used_and_follows_the_files(case, tmp_path):
    settings = DataSettings(labels=LABELS)
    first = prepare(case, settings, tmp_path / "cache", sdm=False)
    stamp = (first.folder / "image.npy").stat().st_mtime_ns
    assert prepare(case, settings, tmp_path / "cache", sdm=False) == first
    assert (first.folder / "image.npy").stat().st_mtime_ns == stamp
    sitk.WriteImage(sitk.ReadImage(case.image) + 1, case.image)
    assert prepare(case, settings, tmp_path / "cache", sdm=False).folder != first.folder
    other = prepare(case, DataSettings(labels=LABELS, spacing=(2, 2, 2)), tmp_path / "cache", sdm=False)
    assert other.shape == (16, 15, 15)


def test_a_case_is_kept_though_its_files_are_held_for_a_moment(held_for_a_moment, case, tmp_path):
    prepared = prepare(case, DataSettings(labels=LABELS), tmp_path / "cache", sdm=False)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [prepared.folder.name]


def test_a_cache_that_several_people_use_is_for_all_of_them(case, tmp_path):
    """Who may read what lies in a shared folder follows from that folder, also on Windows (Python 3.12.4 and later)."""
    (tmp_path / "plain").mkdir()
    prepared = prepare(case, DataSettings(labels=LABELS), tmp_path / "cache", sdm=False)
    assert prepared.folder.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_nobody_waits_for_a_case_that_another_run_made_meanwhile(case, tmp_path, monkeypatch):
    """On Windows a folder that is there is refused as one that is held."""
    moved, rename = [], os.replace

    def replace(source, target):
        if not moved:
            rename(source, target)
        moved.append(target)
        raise PermissionError("it is there already")

    monkeypatch.setattr(os, "replace", replace)
    assert prepare(case, DataSettings(labels=LABELS), tmp_path / "cache", sdm=False).mask().any()
    assert len(moved) == 1


def test_one_scan_under_two_names_is_preprocessed_once(case, tmp_path):
    """A study's trainings link to one copy of each scan; a run folder may be moved with its scans."""
    other = tmp_path / "another training"
    other.mkdir()
    for file in (case.image, case.label):
        (other / file.name).hardlink_to(file)
    linked = Case("one", other / "scan.nii.gz", other / "mask.nii.gz")
    settings = DataSettings(labels=LABELS)
    first = prepare(case, settings, tmp_path / "cache", sdm=False)
    assert prepare(linked, settings, tmp_path / "cache", sdm=False) == first
    other.rename(tmp_path / "moved")
    moved = Case("one", tmp_path / "moved" / "scan.nii.gz", tmp_path / "moved" / "mask.nii.gz")
    assert prepare(moved, settings, tmp_path / "cache", sdm=False) == first


def test_a_half_made_cache_entry_is_made_again(case, tmp_path):
    first = prepare(case, DataSettings(labels=LABELS), tmp_path / "cache", sdm=False)
    (first.folder / "meta.json").unlink()  # written last
    (first.folder / "image.npy").write_bytes(b"cut off")
    again = prepare(case, DataSettings(labels=LABELS), tmp_path / "cache", sdm=False)
    assert again.image().shape == (32, 30, 20)


def test_a_full_disk_is_said_of_the_cache(no_room, tmp_path):
    noise = np.random.default_rng(0).normal(size=(100, 100, 100)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(noise), tmp_path / "scan.nrrd")
    with no_room(), pytest.raises(OSError, match="written") as caught:
        prepare(Case("scan", tmp_path / "scan.nrrd"), DataSettings(), tmp_path / "cache", False)
    assert caught.value.filename.startswith(str(tmp_path / "cache"))
    assert not list((tmp_path / "cache").iterdir())


def test_unknown_values_name_the_file(case, tmp_path):
    with pytest.raises(SemiSegError, match=r"mask\.nii\.gz.*\[7\]"):
        prepare(case, DataSettings(labels=LABELS[:1]), tmp_path / "cache", sdm=False)


def test_an_empty_scan_is_named(case, tmp_path):
    scan = sitk.ReadImage(case.image)
    sitk.WriteImage(scan * 0, case.image)
    with pytest.raises(SemiSegError, match=r"scan\.nii\.gz.*same intensity"):
        prepare(case, DataSettings(labels=LABELS), tmp_path / "cache", sdm=False)


def test_an_unlabelled_case_has_no_mask(case, tmp_path):
    prepared = prepare(Case("one", case.image), DataSettings(labels=LABELS), tmp_path / "cache", sdm=True)
    assert not prepared.annotated
    assert sorted(path.name for path in prepared.folder.iterdir()) == ["image.npy", "meta.json"]


def detached(folder, layout, volume):
    """Files of a volume (z, y, x) whose header names its voxel files in one of the ways the formats know."""
    slices = [f"slice{i:03d}.dat" for i in range(1, len(volume) + 1)]
    meta = "NDims = 3\nDimSize = {} {} {}\nElementSpacing = 1 1 1\nElementType = MET_FLOAT\n".format(*volume.T.shape)
    nrrd = "NRRD0004\ntype: float\ndimension: 3\nsizes: {} {} {}\nspacings: 1 1 1\nencoding: raw\nendian: little\n"
    nrrd = nrrd.format(*volume.T.shape)
    name, header = {
        "mhd": ("scan.mhd", meta + "ElementDataFile = voxels.bin\n"),
        "mhd list": ("scan.mhd", meta + "ElementDataFile = LIST\n" + "\n".join(slices) + "\n"),
        "mhd pattern": ("scan.mhd", meta + f"ElementDataFile = slice%03d.dat 1 {len(volume)} 1\n"),
        "nhdr": ("scan.nhdr", nrrd + "data file: voxels.bin\n"),
        "nhdr list": ("scan.nhdr", nrrd + "data file: LIST\n" + "\n".join(slices) + "\n"),
        "nhdr pattern": ("scan.nhdr", nrrd + f"datafile: ./slice%03d.dat 1 {len(volume)} 1\n"),
    }[layout]
    (folder / name).write_text(header)
    if "voxels.bin" in header:
        (folder / "voxels.bin").write_bytes(volume.astype("<f4").tobytes())
        return folder / name, folder / "voxels.bin"
    for file, part in zip(slices, volume, strict=True):
        (folder / file).write_bytes(part.astype("<f4").tobytes())
    return folder / name, folder / slices[-1]


@pytest.mark.parametrize("layout", ["mhd", "mhd list", "mhd pattern", "nhdr", "nhdr list", "nhdr pattern"])
def test_the_cache_follows_voxel_files_that_a_header_names(layout, tmp_path):
    volume = np.random.default_rng(0).normal(size=(18, 20, 22)).astype(np.float32)
    header, voxels = detached(tmp_path, layout, volume)
    settings, case = DataSettings(labels=LABELS), Case("one", header)
    first = prepare(case, settings, tmp_path / "cache", sdm=False)
    assert prepare(case, settings, tmp_path / "cache", sdm=False) == first
    changed = np.frombuffer(voxels.read_bytes(), "<f4") ** 3
    voxels.write_bytes(changed.tobytes())
    again = prepare(case, settings, tmp_path / "cache", sdm=False)
    assert not np.array_equal(again.image(), first.image())


def test_single_annotated_slices_survive_coarser_voxels(case, tmp_path):
    """Every fifth slice of 0.6 mm is annotated: at 1.6 mm each of them lies in some slice, which is annotated then."""
    scan, mask = sitk.ReadImage(case.image), sitk.ReadImage(case.label)
    values = sitk.GetArrayFromImage(mask).T
    values[values == 255] = 0
    values[:, :, [z for z in range(20) if z % 5 != 2]] = 255
    drawn = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    for image, file in ((scan, case.image), (drawn, case.label)):
        image.SetSpacing((1.0, 1.0, 0.6))
        image.SetOrigin(scan.GetOrigin())
        image.SetDirection(scan.GetDirection())
        sitk.WriteImage(image, file)
    settings = DataSettings(labels=LABELS, spacing=(1.0, 1.0, 1.6))
    found = prepare(case, settings, tmp_path / "cache", sdm=False).mask()
    annotated = [z for z in range(found.shape[2]) if (found[:, :, z] != 255).all()]
    lowest = -(found.shape[2] - 1) / 2 * 1.6
    wanted = {round(((z - 19 / 2) * 0.6 - lowest) / 1.6) for z in (2, 7, 12, 17)}
    assert annotated == sorted(wanted)
    assert all((found[:, :, z] == 255).all() for z in range(found.shape[2]) if z not in wanted)
    shares = [(found[:, :, z] == index).mean() for z in annotated for index in (1, 2)]
    exact = [(values[:, :, z] == value).mean() for z in (2, 7, 12, 17) for value in (3, 7)]
    assert shares == pytest.approx(exact)
