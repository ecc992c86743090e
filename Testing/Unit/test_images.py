"""Scans and masks through real files of every format; nibabel, SimpleITK and hand-written headers are the judges."""

import gzip
import itertools
import locale
import logging
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from SemiSegLib.config import Label
from SemiSegLib.data import formats, geometry, images, writing
from SemiSegLib.data.cases import Case, read_case
from SemiSegLib.data.formats import ImageError
from SemiSegLib.data.geometry import Geometry, GeometryError
from SemiSegLib.data.images import Mask

SHAPE = (7, 6, 5)
TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]) @ np.array(
    [[1.0, 0.0, 0.0], [0.0, 0.96, -0.28], [0.0, 0.28, 0.96]]
)
DIRECTIONS = {
    "straight": np.eye(3),
    "oblique": TURN,
    "left-handed": TURN @ np.diag([1.0, -1.0, 1.0]),
    "swapped": np.eye(3)[:, [2, 0, 1]] @ np.diag([-1.0, 1.0, 1.0]),
}
LABELS = [Label(1, "left atrium", (178, 34, 34)), Label(3, "Vorhof, äußere Wand", (10, 200, 7))]


def some_scan(direction: str = "oblique", shape: tuple[int, ...] = SHAPE) -> sitk.Image:
    """An anisotropic scan of float32 whose every voxel has its own value."""
    image = sitk.GetImageFromArray(np.arange(np.prod(shape), dtype=np.float32).reshape(shape[::-1]) - 50)
    image.SetSpacing((0.7, 1 / 3, 2.1))
    image.SetOrigin((1 / 7, -200.3, 31.0))
    image.SetDirection(DIRECTIONS[direction].ravel())
    return image


def some_mask(like: sitk.Image) -> sitk.Image:
    array = np.zeros(like.GetSize(), np.uint8)
    array[1:4, 2:5, 1:3] = 1
    array[4:6, 0:2, 3:5] = 3
    return geometry.from_array(array, like)


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T


def affine_of(image: sitk.Image) -> np.ndarray:
    """Voxel to RAS, from ITK's own point transformation."""
    affine = np.eye(4)
    origin = np.array(image.TransformIndexToPhysicalPoint((0, 0, 0)))
    affine[:3, 3] = origin
    for axis, step in enumerate(np.eye(3, dtype=int).tolist()):
        affine[:3, axis] = np.array(image.TransformIndexToPhysicalPoint(step)) - origin
    return np.diag([-1, -1, 1, 1]) @ affine


# ---- reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", [".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd"])
def test_every_format_gives_the_voxels_and_the_grid_that_itk_wrote(tmp_path: Path, kind: str, direction: str) -> None:
    scan = some_scan(direction)
    path = tmp_path / f"scan{kind}"
    sitk.WriteImage(scan, str(path))
    found = images.read_image(path)
    assert found.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_array_equal(geometry.to_array(found), geometry.to_array(scan))
    np.testing.assert_allclose(affine_of(found), affine_of(scan), atol=1e-4)
    assert images.read_geometry(path) == Geometry.of(found)


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (2, 1)])
def test_nifti_geometry_agrees_with_nibabel_and_itk(tmp_path: Path, codes: tuple[int, int]) -> None:
    affine = affine_of(some_scan("left-handed"))
    made = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), affine)
    made.set_sform(affine, codes[0])
    made.set_qform(affine, codes[1])
    nibabel.save(made, tmp_path / "a.nii")
    found = images.read_image(tmp_path / "a.nii")
    np.testing.assert_allclose(affine_of(found), nibabel.load(tmp_path / "a.nii").affine, atol=1e-6)
    theirs = sitk.ReadImage(str(tmp_path / "a.nii"))
    np.testing.assert_allclose(found.GetDirection(), theirs.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(found.GetSpacing(), theirs.GetSpacing(), atol=1e-6)


def test_nifti_without_orientation_codes_is_read_as_itk_and_slicer_read_it(tmp_path: Path) -> None:
    made = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), None)
    made.header.set_zooms((1.0, 2.0, 3.0))
    nibabel.save(made, tmp_path / "a.nii")
    assert Geometry.of(images.read_image(tmp_path / "a.nii")) == Geometry.of(sitk.ReadImage(str(tmp_path / "a.nii")))


def test_nifti_scaling_units_and_byte_order_are_honoured(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    header.set_xyzt_units("micron")
    stored = np.arange(np.prod(SHAPE), dtype=">i2").reshape(SHAPE)
    made = nibabel.Nifti1Image(stored, np.diag([700.0, 700.0, 2000.0, 1.0]), header)
    made.header.set_slope_inter(2, -3)
    nibabel.save(made, tmp_path / "a.nii")
    found = images.read_image(tmp_path / "a.nii")
    np.testing.assert_allclose(geometry.to_array(found), nibabel.load(tmp_path / "a.nii").get_fdata(), rtol=1e-6)
    np.testing.assert_allclose(found.GetSpacing(), (0.7, 0.7, 2.0), rtol=1e-6)


def test_a_nifti_unit_that_is_none_is_taken_for_mm(tmp_path: Path) -> None:
    made = nibabel.Nifti1Image(np.ones(SHAPE, np.int16), np.diag([2.0, 2.0, 3.0, 1.0]))
    made.header["xyzt_units"] = 5
    nibabel.save(made, tmp_path / "a.nii")
    assert images.read_image(tmp_path / "a.nii").GetSpacing() == (2, 2, 3)


def test_a_2d_image_becomes_one_slice(tmp_path: Path) -> None:
    flat = np.arange(12, dtype=np.uint8).reshape(4, 3)
    sitk.WriteImage(sitk.GetImageFromArray(flat), str(tmp_path / "flat.mha"))
    nibabel.save(nibabel.Nifti1Image(flat, np.eye(4)[[1, 2, 0, 3]]), tmp_path / "flat.nii")
    assert images.read_image(tmp_path / "flat.mha").GetSize() == (3, 4, 1)
    assert images.read_geometry(tmp_path / "flat.mha").size == (3, 4, 1)
    assert images.read_image(tmp_path / "flat.nii").GetSize() == (4, 3, 1)


def flip_in_sum(content):
    """A changed bit in the sum by which zlib (last) or gzip (before the voxels' number) checks all voxels."""
    place = -8 if b"\x1f\x8b" in content else -2
    return content[:place] + bytes([content[place] ^ 1]) + content[place:][1:]


def flip_in_voxels(content):
    place = 2 * len(content) // 3
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


def cut_off(content):
    return content[:-5]


@pytest.mark.parametrize("damage", [flip_in_sum, flip_in_voxels, cut_off])
@pytest.mark.parametrize("frame", [None, 0, 2])
@pytest.mark.parametrize("kind", ["nii.gz", "nrrd", "mha", "mhd"])
def test_a_damaged_compressed_scan_is_named(kind, frame, damage, tmp_path):
    """A bit that flipped on a disk gives as many voxels as there should be, not those that were written."""
    path = tmp_path / f"broken.{kind}"
    voxels = np.random.default_rng(0).integers(0, 9999, (3, 12, 14, 16), np.int16)
    frames = [sitk.GetImageFromArray(volume) for volume in voxels]
    image = frames[0] if frame is None else sitk.JoinSeries(frames)
    sitk.WriteImage(image, str(path), useCompression=True)
    assert np.array_equal(sitk.GetArrayFromImage(images.read_image(path, frame)), voxels[frame or 0])
    stored = next(tmp_path.glob("*.zraw"), path)
    stored.write_bytes(damage(stored.read_bytes()))
    with pytest.raises(ImageError, match=rf"broken\.{kind}.*the voxels cannot be read"):
        images.read_image(path, frame)


def test_a_mask_is_written_though_its_file_is_held_for_a_moment(held_for_a_moment, tmp_path):
    writing.write_mask(sitk.Image((4, 4, 4), sitk.sitkUInt8), tmp_path / "mask.nii.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["mask.nii.gz"]


@pytest.mark.parametrize("kind", ["nii.gz", "nrrd", "mha"])
def test_one_volume_in_4d_is_accepted_and_several_are_refused(tmp_path: Path, kind: str) -> None:
    scan = some_scan()
    for count, name in ((1, "one"), (2, "two")):
        sitk.WriteImage(sitk.JoinSeries([scan] * count), str(tmp_path / f"{name}.{kind}"))
    found = images.read_image(tmp_path / f"one.{kind}")
    np.testing.assert_array_equal(geometry.to_array(found), geometry.to_array(scan))
    np.testing.assert_allclose(affine_of(found), affine_of(scan), atol=1e-4)
    with pytest.raises(ImageError, match=r"two.*7 x 6 x 5 x 2"):
        images.read_image(tmp_path / f"two.{kind}")


@pytest.mark.parametrize("kind", ["nii.gz", "nrrd", "mha"])
def test_colours_are_refused(tmp_path: Path, kind: str) -> None:
    colours = sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True)
    sitk.WriteImage(colours, str(tmp_path / f"rgb.{kind}"))
    with pytest.raises(ImageError, match="rgb"):
        images.read_image(tmp_path / f"rgb.{kind}")


def test_nan_and_infinity_become_the_minimum_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    array = np.full(SHAPE, 5.0, np.float32)
    array[0, 0, 0], array[1, 1, 1], array[2, 2, 2], array[3, 3, 3] = np.nan, np.inf, -np.inf, -7.0
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "holes.nii.gz")
    with caplog.at_level(logging.WARNING):
        found = geometry.to_array(images.read_image(tmp_path / "holes.nii.gz"))
    assert "holes.nii.gz" in caplog.text
    assert "3 voxels" in caplog.text
    assert [found[n, n, n] for n in range(5)] == [-7, -7, -7, -7, 5]


def test_unreadable_files_are_named_with_what_is_wrong(tmp_path: Path) -> None:
    whole = tmp_path / "whole.nii.gz"
    sitk.WriteImage(some_scan(), str(whole))
    (tmp_path / "cut.nii.gz").write_bytes(whole.read_bytes()[:-60])
    (tmp_path / "text.nrrd").write_text("hello")
    (tmp_path / "text.nii.gz").write_text("hello")
    (tmp_path / "text.mha").write_text("hello")
    for name in ("cut.nii.gz", "text.nrrd", "text.nii.gz", "text.mha", "absent.nii.gz", "scan.bmp"):
        (tmp_path / "scan.bmp").touch()
        with pytest.raises(ImageError, match=name):
            images.read_image(tmp_path / name)
    with pytest.raises(ImageError, match=r"\.nii\.gz, \.nii"):
        images.read_image(tmp_path / "scan.bmp")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("kept", "fault"), [(0.9, "voxels.* cut off"), (60, "header is cut off")])
def test_of_a_metaimage_that_is_cut_off_it_is_not_said_that_it_were_not_there(tmp_path, compressed, kept, fault):
    """ITK does: 'No such file or directory'."""
    whole, cut = tmp_path / "whole.mha", tmp_path / "cut.mha"
    sitk.WriteImage(some_scan(), str(whole), compressed)
    stored = whole.read_bytes()
    cut.write_bytes(stored[: kept if kept > 1 else int(kept * len(stored))])
    with pytest.raises(ImageError, match=fault) as caught:
        images.read_image(cut)
    assert "No such file" not in str(caught.value)


def test_voxels_of_a_metaimage_in_a_file_of_their_own_that_is_gone_or_cut_off_are_named(tmp_path):
    sitk.WriteImage(some_scan(), str(tmp_path / "a.mhd"), False)
    voxels = tmp_path / "a.raw"
    voxels.write_bytes(voxels.read_bytes()[:-1])
    with pytest.raises(ImageError, match=r"a\.mhd: .*a\.raw.* cut off"):
        images.read_image(tmp_path / "a.mhd")
    voxels.unlink()
    with pytest.raises(ImageError, match=r"a\.mhd: .*file a\.raw, which is not beside it"):
        images.read_image(tmp_path / "a.mhd")


def test_a_metaimage_that_nobody_may_read_is_named(tmp_path, monkeypatch):
    from SemiSegLib.data import metaimage

    (tmp_path / "a.mha").write_text("no header")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(metaimage, "read_header", refuse)  # an administrator, as tests may be, reads everything
    with pytest.raises(ImageError, match=r"a\.mha: .*Permission denied; see who may read it"):
        images.read_image(tmp_path / "a.mha")


def sheared_nifti(path: Path, shear: float, qform_code: int) -> np.ndarray:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[0, 1] = shear
    made = nibabel.Nifti1Image(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), affine)
    made.set_sform(affine, 1)
    made.set_qform(affine, qform_code)
    nibabel.save(made, path)
    return affine


@pytest.mark.parametrize("qform_code", [0, 1])
def test_negligible_shear_is_straightened_about_the_centre_and_written_back_exactly(
    tmp_path: Path, qform_code: int
) -> None:
    affine = sheared_nifti(tmp_path / "a.nii", 0.02, qform_code)
    found = images.read_image(tmp_path / "a.nii")
    direction = np.reshape(found.GetDirection(), (3, 3))
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-12)
    corners = np.array(list(itertools.product(*[(0, n - 1) for n in SHAPE])))
    ras = np.c_[corners, np.ones(8)] @ affine.T
    moved = np.array([found.TransformIndexToPhysicalPoint(c.tolist()) for c in corners]) * (-1, -1, 1) - ras[:, :3]
    assert np.linalg.norm(moved, axis=1).max() < 0.06
    np.testing.assert_allclose(moved.mean(0), 0, atol=1e-6)
    writing.write_mask(
        geometry.from_array(np.ones(SHAPE, np.uint8), found), tmp_path / "m.nii", None, tmp_path / "a.nii"
    )
    assert (nibabel.load(tmp_path / "m.nii").affine == nibabel.load(tmp_path / "a.nii").affine).all()


@pytest.mark.parametrize("qform_code", [0, 1])
def test_real_shear_is_refused_and_named(tmp_path: Path, qform_code: int) -> None:
    sheared_nifti(tmp_path / "a.nii", 0.3, qform_code)
    with pytest.raises(GeometryError, match=r"a\.nii.*sheared by 16\.70 degrees"):
        images.read_image(tmp_path / "a.nii")


def test_sheared_nrrd_is_refused_too(tmp_path: Path) -> None:
    scan = some_scan("straight")
    scan.SetDirection((1, 0.3, 0, 0, 1, 0, 0, 0, 1))
    sitk.WriteImage(scan, str(tmp_path / "a.nrrd"))
    with pytest.raises(GeometryError, match="sheared"):
        images.read_image(tmp_path / "a.nrrd")


@pytest.mark.parametrize("kind", ["nrrd", "mha"])
def test_negligible_shear_of_other_formats_is_written_back_exactly(tmp_path: Path, kind: str) -> None:
    scan = some_scan("straight")
    scan.SetDirection((1, 0.02, 0, 0, 1, 0, 0, 0, 1))
    sitk.WriteImage(scan, str(tmp_path / f"a.{kind}"))
    found = images.read_image(tmp_path / f"a.{kind}")
    direction = np.reshape(found.GetDirection(), (3, 3))
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-12)
    writing.write_mask(some_mask(found), tmp_path / f"m.{kind}", template=tmp_path / f"a.{kind}")
    source, written = sitk.ReadImage(str(tmp_path / f"a.{kind}")), sitk.ReadImage(str(tmp_path / f"m.{kind}"))
    assert Geometry.of(written) == Geometry.of(source)


def test_an_affine_that_spans_no_volume_is_refused(tmp_path: Path) -> None:
    made = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), np.eye(4))
    made.header["srow_x"] = made.header["srow_y"] = made.header["srow_z"] = 0
    made.header["sform_code"] = 1
    with (tmp_path / "a.nii").open("wb") as file:
        file.write(made.header.binaryblock + bytes(4) + bytes(2 * 7 * 6 * 5))
    with pytest.raises(GeometryError, match="span no volume"):
        images.read_image(tmp_path / "a.nii")


def test_damaged_h5_files_are_refused_by_name(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "mri_norm2.h5"
    noise = np.random.default_rng(0).random((40, 40, 20), np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset("image", data=noise, compression="gzip")
        chunk = file["image"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + 100 : chunk.byte_offset + 300] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"mri_norm2\.h5.*damaged"):
        images.read_image(path)


def test_the_literatures_h5_files_are_read_as_stored(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    array = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    with h5py.File(tmp_path / "mri_norm2.h5", "w") as file:
        file["image"] = array
        file["label"] = (array > 1).astype(np.uint8)
    found = images.read_image(tmp_path / "mri_norm2.h5")
    np.testing.assert_array_equal(geometry.to_array(found), array)
    assert found.GetSpacing() == (0.625, 0.625, 0.625)
    mask = images.read_mask(tmp_path / "mri_norm2.h5")
    np.testing.assert_array_equal(geometry.to_array(mask.image), array > 1)
    assert Geometry.of(mask.image) == Geometry.of(found) == images.read_geometry(tmp_path / "mri_norm2.h5")


# ---- DICOM ------------------------------------------------------------------------------------------------


def write_series(folder: Path, volume: sitk.Image, uid: str = "1.2.3.1", skip: tuple[int, ...] = ()) -> None:
    """A CT series as a scanner stores it: one file a slice, named against their order in space."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = volume.GetDirection()
    rows = "\\".join(str(direction[n]) for n in (0, 3, 6, 1, 4, 7))
    count = volume.GetSize()[2]
    for z in set(range(count)) - set(skip):
        piece = volume[:, :, z]
        position = volume.TransformIndexToPhysicalPoint((0, 0, z))
        for key, value in {
            "0008|0060": "CT",
            "0008|103e": f"series {uid}",
            "0020|000d": "1.2.3",
            "0020|000e": uid,
            "0008|0018": f"{uid}.{z + 1}",
            "0020|0032": "\\".join(f"{p:.6f}" for p in position),
            "0020|0037": rows,
            "0020|0013": str(z),
            "0018|0050": str(volume.GetSpacing()[2]),
        }.items():
            piece.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{uid}_{count - z:03}.dcm"))
        writer.Execute(piece)


@pytest.fixture
def ct() -> sitk.Image:
    """A 16-bit volume of 24 oblique slices."""
    scan = some_scan("oblique", (5, 4, 24))
    scan.SetSpacing((0.75, 0.5, 2.5))
    return sitk.Cast(scan, sitk.sitkInt16)


def test_a_dicom_folder_is_read_in_spatial_order_at_its_place(tmp_path: Path, ct: sitk.Image) -> None:
    write_series(tmp_path / "dcm", ct)
    found = images.read_image(tmp_path / "dcm")
    np.testing.assert_array_equal(geometry.to_array(found), geometry.to_array(ct))
    np.testing.assert_allclose(affine_of(found), affine_of(ct), atol=1e-4)


def test_a_dicom_folder_that_gdcm_does_not_find_is_read_as_others(tmp_path: Path, ct: sitk.Image, monkeypatch) -> None:
    """On Windows GDCM finds no folder in that of a user called Müller, whose files ITK reads."""
    folder = tmp_path / "Müller" / "dcm"
    write_series(folder, ct)
    write_series(folder, ct[:, :, :3], "1.2.3.2")
    (folder / "DICOMDIR").write_bytes(b"no slice")
    expected = images.read_image(folder)
    monkeypatch.setattr(sitk.ImageSeriesReader, "GetGDCMSeriesIDs", lambda name: ())
    found = images.read_image(folder)
    np.testing.assert_array_equal(geometry.to_array(found), geometry.to_array(expected))
    assert Geometry.of(found) == Geometry.of(expected)


def test_on_windows_the_c_library_learns_that_names_are_utf_8_before_itk_reads(tmp_path: Path, monkeypatch) -> None:
    """Else it would take UTF-8 for letters of its code page, and find nothing whose name is not plain English."""
    path = tmp_path / "Müller.nrrd"
    writing.write_mask(some_mask(some_scan()), path)
    told = []
    with monkeypatch.context() as windows:
        windows.setattr(sys, "platform", "win32")
        windows.setattr(locale, "setlocale", lambda category, name: told.append((category, name)))
        images.read_mask(path)
    assert told
    assert set(told) == {(locale.LC_CTYPE, ".UTF-8")}


def test_slices_of_a_series_may_be_scaled_each_in_its_way(tmp_path: Path, ct: sitk.Image) -> None:
    """As PET stores them: the lowest slice in whole numbers, the others in fractions or beyond 16 bits."""
    pydicom = pytest.importorskip("pydicom")
    write_series(tmp_path / "dcm", ct)
    slopes = [(1.0, 0.25, 4000.0)[z % 3] for z in range(24)]
    for z, slope in enumerate(slopes):
        file = next((tmp_path / "dcm").glob(f"*_{24 - z:03}.dcm"))
        stored = pydicom.dcmread(file)
        stored.RescaleSlope, stored.RescaleIntercept = slope, 0
        stored.save_as(file)
    found = geometry.to_array(images.read_image(tmp_path / "dcm"))
    np.testing.assert_allclose(found, geometry.to_array(ct) * np.array(slopes), rtol=1e-6)


def test_a_localiser_beside_the_series_is_passed_over_but_a_second_series_is_not(
    tmp_path: Path, ct: sitk.Image, caplog: pytest.LogCaptureFixture
) -> None:
    write_series(tmp_path / "dcm", ct)
    write_series(tmp_path / "dcm", ct[:, :, :3], "1.2.3.2")
    with caplog.at_level(logging.WARNING):
        assert images.read_image(tmp_path / "dcm").GetSize() == (5, 4, 24)
    assert "took the longest" in caplog.text
    write_series(tmp_path / "dcm", ct[:, :, :12], "1.2.3.3")
    with pytest.raises(ImageError, match=r"3 series.*CT series 1\.2\.3\.1, 24 slices.*1\.2\.3\.3, 12 slices"):
        images.read_image(tmp_path / "dcm")


def test_missing_doubled_and_shifted_slices_are_refused(tmp_path: Path, ct: sitk.Image) -> None:
    write_series(tmp_path / "gap", ct, skip=(7,))
    with pytest.raises(ImageError, match=r"slices are missing between.*5\.00 mm apart where 2\.50"):
        images.read_image(tmp_path / "gap")
    write_series(tmp_path / "double", ct)
    twin = tmp_path / "twin"
    write_series(twin, ct)
    for file in twin.iterdir():
        file.rename(tmp_path / "double" / f"again{file.name}")
    with pytest.raises(ImageError, match="same place"):
        images.read_image(tmp_path / "double")
    tilted = sitk.Image(ct)
    direction = np.reshape(ct.GetDirection(), (3, 3)).copy()
    direction[:, 2] += 0.3 * direction[:, 1]
    tilted.SetDirection(direction.ravel())
    write_series(tmp_path / "tilt", tilted)
    with pytest.raises(ImageError, match="tilted gantry"):
        images.read_image(tmp_path / "tilt")


def test_a_folder_without_dicom_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=f"{tmp_path.name}.*no DICOM series"):
        images.read_image(tmp_path)


# ---- masks ------------------------------------------------------------------------------------------------


def test_masks_of_whole_floats_are_accepted_in_the_smallest_type_and_others_refused(tmp_path: Path) -> None:
    array = np.zeros(SHAPE, np.float64)
    for highest, kind in ((3, sitk.sitkUInt8), (300, sitk.sitkUInt16), (70_000, sitk.sitkUInt32)):
        array[1, 2, 3] = highest
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "m.nii.gz")
        mask = images.read_mask(tmp_path / "m.nii.gz").image
        assert mask.GetPixelID() == kind
        assert mask[1, 2, 3] == highest
    for wrong in (0.5, 0.999, -1.0, np.nan):
        array[1, 2, 3] = wrong
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "m.nii.gz")
        with pytest.raises(ImageError, match="not a mask"):
            images.read_mask(tmp_path / "m.nii.gz")


def test_a_mask_stored_with_a_factor_is_whole_but_for_rounding(tmp_path: Path) -> None:
    """0 and 255 times 1/255, which a NIfTI header holds in 32 bits: 1.00000006."""
    array = np.zeros(SHAPE, np.uint8)
    array[1, 2, 3] = 255
    stored = bytearray(nibabel.Nifti1Image(array, np.eye(4)).to_bytes())
    stored[112:116] = np.float32(1 / 255).tobytes()  # scl_slope
    (tmp_path / "m.nii").write_bytes(stored)
    assert np.unique(nibabel.load(tmp_path / "m.nii").get_fdata())[-1] != 1
    mask = images.read_mask(tmp_path / "m.nii").image
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert set(np.unique(sitk.GetArrayFromImage(mask))) == {0, 1}
    assert mask[1, 2, 3] == 1


def test_a_folder_that_is_a_file_is_named_when_nothing_can_be_written_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ImageError, match=r"m\.nii\.gz: cannot be written"):
        writing.write_mask(sitk.Image(SHAPE, sitk.sitkUInt8), tmp_path / "file" / "m.nii.gz")


SLICER_HEADER = """NRRD0004
# Complete NRRD file format specification at:
# http://teem.sourceforge.net/nrrd/format.html
type: unsigned char
dimension: {dimension}
space: left-posterior-superior
sizes: {sizes}
space directions: {none}(2,0,0) (0,2,0) (0,0,3)
kinds: {kind}domain domain domain
encoding: gzip
space origin: (12,24,39)
Segment0_Color:=1 0 0
Segment0_ColorAutoGenerated:=1
Segment0_Extent:=0 2 0 2 0 1
Segment0_ID:=Segment_1
Segment0_LabelValue:={values[0]}
Segment0_Layer:=0
Segment0_Name:=atrium
Segment0_NameAutoGenerated:=0
Segment0_Tags:=TerminologyEntry:Segmentation category and type~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~~^^~^^|
Segment1_Color:=0.501961 0.682353 0.501961
Segment1_ColorAutoGenerated:=1
Segment1_Extent:=0 2 0 2 0 1
Segment1_ID:=Segment_2
Segment1_LabelValue:={values[1]}
Segment1_Layer:={layer}
Segment1_Name:=wall := thin
Segment1_NameAutoGenerated:=0
Segment1_Tags:=
Segmentation_ContainedRepresentationNames:=Binary labelmap|
Segmentation_ConversionParameters:=
Segmentation_MasterRepresentation:=Binary labelmap
Segmentation_ReferenceImageExtentOffset:=1 2 3

"""
"""As Slicer 5 writes a segmentation cropped to its segments: voxel (0, 0, 0) of it is (1, 2, 3) of the scan."""


def slicer_file(path: Path, layers: np.ndarray, values: tuple[int, int]) -> None:
    """layers: (layers, x, y, z), interleaved in the file as Slicer does."""
    one = len(layers) == 1
    header = SLICER_HEADER.format(
        dimension=3 if one else 4,
        sizes=" ".join(map(str, layers.shape[1:] if one else layers.shape)),
        none="" if one else "none ",
        kind="" if one else "list ",
        layer=0 if one else 1,
        values=values,
    )
    path.write_bytes(header.encode() + gzip.compress(layers.astype(np.uint8).tobytes(order="F")))


@pytest.fixture
def slicer_scan() -> sitk.Image:
    """The scan that `SLICER_HEADER` was drawn on."""
    scan = sitk.Image((8, 9, 10), sitk.sitkFloat32)
    scan.SetSpacing((2, 2, 3))
    scan.SetOrigin((10, 20, 30))
    return scan


def test_a_cropped_slicer_segmentation_lands_on_its_scan_with_names_and_colours(
    tmp_path: Path, slicer_scan: sitk.Image
) -> None:
    layers = np.zeros((1, 3, 3, 2))
    layers[0, 0, 0, 0], layers[0, 2, 1, 1] = 4, 2
    slicer_file(tmp_path / "a.seg.nrrd", layers, (4, 2))
    mask = images.read_mask(tmp_path / "a.seg.nrrd")
    assert mask.labels == [Label(4, "atrium", (255, 0, 0)), Label(2, "wall := thin", (128, 174, 128))]
    assert mask.labels == images.mask_labels(tmp_path / "a.seg.nrrd")
    placed = geometry.to_array(images.bring_to(mask, slicer_scan).image)
    assert placed.shape == (8, 9, 10)
    assert {tuple(at): placed[tuple(at)] for at in np.argwhere(placed)} == {(1, 2, 3): 4, (3, 3, 4): 2}


def test_overlapping_slicer_layers_are_merged_with_a_warning(
    tmp_path: Path, slicer_scan: sitk.Image, caplog: pytest.LogCaptureFixture
) -> None:
    layers = np.zeros((2, 3, 3, 2))
    layers[0, :2] = 1
    layers[1, 1:, :, 0] = 1
    slicer_file(tmp_path / "a.seg.nrrd", layers, (1, 1))
    with caplog.at_level(logging.WARNING):
        mask = images.read_mask(tmp_path / "a.seg.nrrd")
    assert "3 voxels belong to several segments" in caplog.text
    assert [(label.value, label.name) for label in mask.labels or []] == [(1, "atrium"), (2, "wall := thin")]
    expected = np.where(layers[1] > 0, 2, layers[0])
    np.testing.assert_array_equal(geometry.to_array(mask.image), expected)
    assert images.bring_to(mask, slicer_scan).image.GetSize() == (8, 9, 10)


def test_segments_may_have_values_beyond_16_bits(tmp_path: Path) -> None:
    array = np.zeros(SHAPE, np.uint32)
    array[0, 0, 0] = 70_000
    writing.write_mask(sitk.GetImageFromArray(array.T), tmp_path / "a.seg.nrrd", [Label(70_000, "x", (1, 2, 3))])
    assert geometry.to_array(images.read_mask(tmp_path / "a.seg.nrrd").image)[0, 0, 0] == 70_000


def test_values_are_mapped_all_at_once() -> None:
    scan = some_scan()
    array = np.zeros(SHAPE, np.uint8)
    array[0], array[1], array[2] = 1, 2, 255
    mask = Mask(geometry.from_array(array, scan), [Label(1, "a", (0, 0, 0)), Label(255, "b", (1, 1, 1))])
    found = images.relabel(mask, {1: 2, 2: 1, 255: 3})
    assert [int(geometry.to_array(found.image)[n, 0, 0]) for n in range(4)] == [2, 1, 3, 0]
    assert [label.value for label in found.labels or []] == [2, 3]


# ---- grids ------------------------------------------------------------------------------------------------


def test_equal_grids_are_kept_and_rounded_headers_made_exact() -> None:
    scan = some_scan()
    mask = some_mask(scan)
    mask.SetOrigin(tuple(np.array(scan.GetOrigin()) + 1e-4))
    found = images.bring_to(Mask(mask), scan).image
    assert Geometry.of(found) == Geometry.of(scan)
    np.testing.assert_array_equal(geometry.to_array(found), geometry.to_array(mask))
    assert Geometry.of(mask) != Geometry.of(scan)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_mask_on_turned_axes_is_brought_back_without_loss(direction: str) -> None:
    scan = some_scan(direction)
    turned = sitk.Flip(sitk.PermuteAxes(some_mask(scan), (2, 0, 1)), (True, False, True))
    found = images.bring_to(Mask(turned), scan).image
    assert Geometry.of(found) == Geometry.of(scan)
    np.testing.assert_array_equal(geometry.to_array(found), geometry.to_array(some_mask(scan)))


def test_a_mask_on_part_of_the_scan_is_filled_up() -> None:
    scan = some_scan()
    part = some_mask(scan)[1:6, :, 1:]
    found = geometry.to_array(images.bring_to(Mask(part), scan, fill=255).image)
    expected = geometry.to_array(some_mask(scan))
    expected[[0, 6]] = 255
    expected[:, :, 0] = 255
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("elsewhere", [0, 255])
def test_annotation_outside_the_scan_is_reported_and_a_foreign_mask_refused(
    elsewhere: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Voxels that nobody annotated are not counted, wherever they lie."""
    scan = some_scan()
    drawn = some_mask(scan)
    mask = Mask(drawn + elsewhere * sitk.Cast(drawn == 0, drawn.GetPixelID()), path=Path("drawn.nii.gz"))
    with caplog.at_level(logging.WARNING):
        images.bring_to(mask, scan[:, :, :2], Path("short.nii.gz"), elsewhere)
    # 3 × 3 × 1 of the first block's 18 voxels lie in the two slices, none of the other 8
    assert f"{100 * 17 / 26:.1f} % of the annotated voxels" in caplog.text
    with pytest.raises(GeometryError, match=r"all annotated voxels lie outside.*drawn.*short"):
        images.bring_to(mask, scan[:, :, :1], Path("short.nii.gz"), elsewhere)
    lost = sitk.Image(mask.image)
    lost.SetOrigin((0, 0, 0))
    with pytest.raises(GeometryError, match=r"do not overlap.*drawn\.nii\.gz: 7 x 6 x 5 voxels.*equal sizes"):
        images.bring_to(Mask(lost, path=mask.path), scan)


@pytest.mark.parametrize("direction", [np.eye(3), np.diag([-1.0, -1.0, 1.0])], ids=["SimpleITK", "nibabel"])
def test_a_mask_saved_without_its_place_is_refused_and_not_resampled(direction: np.ndarray) -> None:
    """It overlaps with the scan by chance, and would be learnt in the wrong place."""
    scan = sitk.GetImageFromArray(np.zeros((10, 40, 40), np.float32))
    scan.SetSpacing((0.5, 0.5, 2.0))
    array = np.zeros((10, 40, 40), np.uint8)
    array[2:8, 5:30, 5:30] = 1
    unplaced = sitk.GetImageFromArray(array)
    unplaced.SetDirection(direction.ravel())
    with pytest.raises(GeometryError, match=r"no place.*drawn\.nii.*1 x 1 x 1 mm.*scan\.nii.*0\.5 x 0\.5 x 2 mm.*Copy"):
        images.bring_to(Mask(unplaced, path=Path("drawn.nii")), scan, Path("scan.nii"))
    scan.SetSpacing((1, 1, 1))
    scan.SetDirection(direction.ravel())
    assert images.bring_to(Mask(unplaced), scan).image.GetSize() == (40, 40, 10)  # the scan has none either


def test_a_mask_whose_voxels_are_not_the_scan_s_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scan = some_scan()
    drawn = some_mask(scan)
    coarse = sitk.Resample(
        drawn, (4, 3, 3), sitk.Transform(), sitk.sitkNearestNeighbor, scan.GetOrigin(), (1.4, 0.7, 4)
    )
    shifted = sitk.Image(drawn)
    shifted.SetOrigin(scan.TransformContinuousIndexToPhysicalPoint((0.4, 0, 0)))
    sitk.WriteImage(scan, tmp_path / "scan.nrrd")
    others = {"coarse": coarse, "shifted": shifted}
    same = {"part": drawn[1:6, :, 1:], "turned": sitk.Flip(sitk.PermuteAxes(drawn, (2, 0, 1)), (True, False, True))}
    for name, mask in (others | same).items():
        sitk.WriteImage(mask, tmp_path / f"{name}.nrrd")
        read_case(Case("scan", tmp_path / "scan.nrrd", tmp_path / f"{name}.nrrd"))
    told = [record.getMessage() for record in caplog.records if "resampled" in record.getMessage()]
    assert [text.partition(": ")[0] for text in told] == [str(tmp_path / f"{name}.nrrd") for name in others]


def test_masks_known_to_have_a_wrong_origin_are_laid_on_by_orientation(caplog: pytest.LogCaptureFixture) -> None:
    scan = some_scan()
    turned = sitk.Flip(sitk.PermuteAxes(some_mask(scan), (2, 0, 1)), (True, False, True))
    turned.SetOrigin((0, 0, 0))
    with caplog.at_level(logging.WARNING):
        found = images.bring_to(Mask(turned), scan, by_orientation=True).image
    assert "by orientation" in caplog.text
    np.testing.assert_array_equal(geometry.to_array(found), geometry.to_array(some_mask(scan)))
    with pytest.raises(GeometryError, match="differ in size"):
        images.bring_to(Mask(turned[1:, :, :]), scan, by_orientation=True)


def test_the_real_mask_of_a_part_of_a_ct_lands_where_it_was_drawn(shared_data: Path) -> None:
    whole = images.read_image(shared_data / "ct" / "example_ct.nii.gz")
    mask = images.read_mask(shared_data / "ct" / "example_seg.nii.gz")
    found = geometry.to_array(images.bring_to(mask, whole).image)
    assert found.shape == whole.GetSize() == (122, 101, 112)
    part = np.asarray(nibabel.load(shared_data / "ct" / "example_seg.nii.gz").dataobj)
    np.testing.assert_array_equal(found[:, :, :30], part)
    assert not found[:, :, 30:].any()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_canonical_turns_to_lps_without_moving_a_voxel_and_back(direction: str) -> None:
    scan = some_scan(direction)
    turned = geometry.canonical(scan)
    axes = np.reshape(turned.GetDirection(), (3, 3))
    assert (np.argmax(np.abs(axes), axis=0) == [0, 1, 2]).all()
    assert (np.diag(axes) > 0).all()
    for index in itertools.product(*[(0, n // 2, n - 1) for n in SHAPE]):
        point = scan.TransformIndexToPhysicalPoint(index)
        assert turned[turned.TransformPhysicalPointToIndex(point)] == scan[index]
    back = geometry.restore_orientation(turned, scan)
    assert Geometry.of(back) == Geometry.of(scan)
    np.testing.assert_array_equal(geometry.to_array(back), geometry.to_array(scan))
    with pytest.raises(GeometryError):
        geometry.restore_orientation(turned[1:, :, :], scan)


def test_arrays_are_in_index_order_and_keep_the_grid() -> None:
    scan = some_scan()
    array = geometry.to_array(scan)
    assert array.shape == SHAPE
    assert array[5, 2, 3] == scan[5, 2, 3]
    again = geometry.from_array(array * 2, scan)
    assert again[5, 2, 3] == 2 * scan[5, 2, 3]
    assert Geometry.of(again) == Geometry.of(scan)
    assert geometry.from_array(array > 0, scan).GetPixelID() == sitk.sitkUInt8
    with pytest.raises(GeometryError):
        geometry.from_array(array[1:], scan)


def test_a_grid_describes_itself_in_words() -> None:
    text = Geometry.of(some_scan("left-handed")).describe()
    assert text.startswith("7 x 6 x 5 voxels of 0.7 x 0.3333 x 2.1 mm, axes LAS (oblique by 39.8 degrees)")
    assert "(0.14, -200.30, 31.00)" in text


# ---- writing ----------------------------------------------------------------------------------------------


def odd_nifti(path: Path, direction: str, codes: tuple[int, int], shape: tuple[int, ...] = SHAPE) -> None:
    """A header with everything that is easily lost: codes, a qform unlike the sform, units, scaling, texts."""
    sform = affine_of(some_scan(direction))
    made = nibabel.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), sform)
    made.set_sform(sform, codes[0])
    made.set_qform(sform @ np.diag([1, 1, 1, 1.0]) if codes[0] == 0 else affine_of(some_scan("straight")), codes[1])
    made.header.set_xyzt_units("mm", "sec")
    made.header.set_slope_inter(2.5, 7)
    made.header["descrip"] = b"Mr. Patient"
    nibabel.save(made, path)


@pytest.mark.parametrize("codes", [(1, 1), (4, 0), (0, 1), (2, 1), (0, 0)])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_nifti_in_nifti_out_keeps_every_bit_of_the_geometry(
    tmp_path: Path, direction: str, codes: tuple[int, int]
) -> None:
    odd_nifti(tmp_path / "scan.nii.gz", direction, codes)
    scan = images.read_image(tmp_path / "scan.nii.gz")
    mask = some_mask(scan)
    writing.write_mask(mask, tmp_path / "mask.nii.gz", template=tmp_path / "scan.nii.gz")
    writing.write_scalar(scan, tmp_path / "sdm.nii", template=tmp_path / "scan.nii.gz")
    source = nibabel.load(tmp_path / "scan.nii.gz")
    for name, kind, wanted in (("mask.nii.gz", np.uint8, mask), ("sdm.nii", np.float32, scan)):
        written = nibabel.load(tmp_path / name)
        assert (written.affine == source.affine).all()
        assert written.shape == source.shape
        assert written.get_data_dtype() == kind
        for field in ("sform_code", "qform_code", "xyzt_units", "srow_x", "srow_y", "srow_z", "pixdim", "dim"):
            assert written.header[field].tobytes() == source.header[field].tobytes(), field
        for field in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
            assert written.header[field] == source.header[field], field
        assert b"Patient" not in written.header.binaryblock
        np.testing.assert_array_equal(written.get_fdata(), geometry.to_array(wanted))


def test_nifti_of_other_dimensions_keeps_them(tmp_path: Path) -> None:
    for shape in ((7, 6), (7, 6, 5, 1)):
        odd_nifti(tmp_path / "scan.nii", "oblique", (1, 1), shape)
        scan = images.read_image(tmp_path / "scan.nii")
        writing.write_scalar(scan, tmp_path / "out.nii", tmp_path / "scan.nii")
        written = nibabel.load(tmp_path / "out.nii")
        assert written.shape == shape
        np.testing.assert_array_equal(written.get_fdata(), nibabel.load(tmp_path / "scan.nii").get_fdata())


def test_nifti_2_keeps_its_header_too(tmp_path: Path) -> None:
    """The longer header of the second version lacks some of the first one's texts."""
    made = nibabel.Nifti2Image(np.arange(210, dtype=np.int16).reshape(SHAPE), affine_of(some_scan("oblique")))
    made.header["descrip"] = b"Mr. Patient"
    nibabel.save(made, tmp_path / "scan.nii.gz")
    scan = images.read_image(tmp_path / "scan.nii.gz")
    writing.write_mask(some_mask(scan), tmp_path / "mask.nii.gz", template=tmp_path / "scan.nii.gz")
    written = nibabel.load(tmp_path / "mask.nii.gz")
    assert isinstance(written, nibabel.Nifti2Image)
    assert (written.affine == made.affine).all()
    assert b"Patient" not in written.header.binaryblock
    np.testing.assert_array_equal(written.get_fdata(), geometry.to_array(some_mask(scan)))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("kind", "out"), [("nrrd", "nrrd"), ("nrrd", "seg.nrrd"), ("nhdr", "nrrd"), ("mha", "mha")])
def test_nrrd_and_metaimage_keep_every_bit_of_the_geometry(tmp_path: Path, direction: str, kind: str, out: str) -> None:
    sitk.WriteImage(some_scan(direction), str(tmp_path / f"scan.{kind}"))
    scan = images.read_image(tmp_path / f"scan.{kind}")
    writing.write_mask(some_mask(scan), tmp_path / f"mask.{out}", LABELS, tmp_path / f"scan.{kind}")
    source, written = sitk.ReadImage(str(tmp_path / f"scan.{kind}")), sitk.ReadImage(str(tmp_path / f"mask.{out}"))
    assert Geometry.of(written) == Geometry.of(source)
    assert written.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(geometry.to_array(written), geometry.to_array(some_mask(scan)))


@pytest.mark.parametrize(
    "placed",
    [
        "space: right-anterior-superior\nspace directions: (0.7,0.01,0) (-0.01,0.7,0) (0,0,1.1000000000000001)\n"
        'space origin: (3.3333333333333335,1e-7,5)\nspace units: "mm" "mm" "mm"\n',
        "spacings: 0.70000000000000007 0.3 3\naxis mins: 1 2 3\n",
    ],
)
def test_nrrd_headers_of_other_writers_are_repeated(tmp_path: Path, placed: str) -> None:
    header = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 7 6 5\nendian: little\nencoding: raw\n{placed}\n"
    (tmp_path / "scan.nrrd").write_bytes(header.encode() + np.arange(210, dtype="<i2").tobytes())
    scan = images.read_image(tmp_path / "scan.nrrd")
    writing.write_scalar(scan, tmp_path / "out.nrrd", tmp_path / "scan.nrrd")
    text = (tmp_path / "out.nrrd").read_bytes().partition(b"\n\n")[0].decode()
    assert all(line in text for line in placed.splitlines())
    written = sitk.ReadImage(str(tmp_path / "out.nrrd"))
    assert Geometry.of(written) == Geometry.of(sitk.ReadImage(str(tmp_path / "scan.nrrd")))
    np.testing.assert_array_equal(geometry.to_array(written), geometry.to_array(scan))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("kind", "out"), list(itertools.product(["nii.gz", "nrrd", "mha"], formats.WRITABLE)))
def test_every_format_to_every_other_keeps_voxels_in_place(tmp_path: Path, direction: str, kind: str, out: str) -> None:
    sitk.WriteImage(some_scan(direction), str(tmp_path / f"scan.{kind}"))
    scan = images.read_image(tmp_path / f"scan.{kind}")
    writing.write_mask(some_mask(scan), tmp_path / f"mask{out}", template=tmp_path / f"scan.{kind}")
    written = sitk.ReadImage(str(tmp_path / f"mask{out}"))
    np.testing.assert_allclose(affine_of(written), affine_of(scan), atol=3e-5)
    np.testing.assert_array_equal(geometry.to_array(written), geometry.to_array(some_mask(scan)))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_segmentation_has_the_header_that_slicer_writes_and_reads_back(tmp_path: Path) -> None:
    scan = some_scan()
    tissue = "Segmentation category and type~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~~^^~^^"
    writing.write_mask(some_mask(scan), tmp_path / "a.seg.nrrd", LABELS, terminology={1: tissue})
    keys = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))
    slicers = {line.partition(":=")[0] for line in SLICER_HEADER.splitlines() if ":=" in line}
    assert slicers <= set(keys.GetMetaDataKeys())
    assert keys.GetMetaData("Segment0_Name") == "left atrium"
    assert keys.GetMetaData("Segment1_LabelValue") == "3"
    assert [float(part) for part in keys.GetMetaData("Segment0_Color").split()] == pytest.approx(
        [178 / 255, 34 / 255, 34 / 255], abs=1e-6
    )
    assert f"TerminologyEntry:{tissue}|" in keys.GetMetaData("Segment0_Tags")
    # Slicer cuts a shared layer to the extent of its first segment: every segment must name all of it
    assert {keys.GetMetaData(f"Segment{n}_Extent") for n in (0, 1)} == {"0 6 0 5 0 4"}
    mask = images.read_mask(tmp_path / "a.seg.nrrd")
    assert mask.labels == LABELS
    np.testing.assert_array_equal(geometry.to_array(mask.image), geometry.to_array(some_mask(scan)))
    reference = keys.GetMetaData("Segmentation_ConversionParameters").split("|")
    assert reference[0] == "Reference image geometry"
    numbers = [float(part) for part in reference[1].rstrip(";").split(";")]
    np.testing.assert_allclose(np.reshape(numbers[:16], (4, 4)), affine_of(scan), atol=1e-12)
    assert numbers[16:] == [0, 6, 0, 5, 0, 4]


def test_labels_travel_with_the_mask_and_unnamed_values_are_not_lost(tmp_path: Path) -> None:
    scan = some_scan()
    writing.write_mask(Mask(some_mask(scan), LABELS[:1]), tmp_path / "a.seg.nrrd")
    found = images.mask_labels(tmp_path / "a.seg.nrrd")
    assert found is not None
    assert found[0] == LABELS[0]
    assert [(label.value, label.name) for label in found] == [(1, "left atrium"), (3, "Label 3")]
    assert set(np.unique(geometry.to_array(images.read_mask(tmp_path / "a.seg.nrrd").image))) == {0, 1, 3}


def test_big_label_values_and_compression(tmp_path: Path) -> None:
    scan = some_scan("straight", (40, 40, 40))
    array = np.zeros(scan.GetSize(), np.int64)
    array[3, 4, 5] = 1000
    for kind in formats.WRITABLE:
        writing.write_mask(geometry.from_array(array, scan), tmp_path / f"m{kind}")
        written = sitk.ReadImage(str(tmp_path / f"m{kind}"))
        assert written.GetPixelID() == sitk.sitkUInt16
        assert written[3, 4, 5] == 1000
        if kind != ".nii":
            assert (tmp_path / f"m{kind}").stat().st_size < 40**3 / 10


def test_what_is_off_the_scans_grid_is_not_written(tmp_path: Path) -> None:
    sitk.WriteImage(some_scan(), str(tmp_path / "scan.nii.gz"))
    moved = some_mask(some_scan())
    moved.SetOrigin((0, 0, 0))
    with pytest.raises(GeometryError, match="not on the grid"):
        writing.write_mask(moved, tmp_path / "mask.nii.gz", template=tmp_path / "scan.nii.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "mask.nii.gz"
    writing.write_mask(some_mask(some_scan()), path)
    before = path.read_bytes()
    broken = geometry.from_array(np.full(SHAPE, 0.5), some_scan())
    with pytest.raises(ImageError, match="whole numbers"):
        writing.write_mask(broken, path)
    (tmp_path / "taken.nii.gz").mkdir()
    with pytest.raises(ImageError, match=r"taken\.nii\.gz: cannot be written"):
        writing.write_mask(some_mask(some_scan()), tmp_path / "taken.nii.gz")
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mask.nii.gz", "taken.nii.gz"]


def test_extensions_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    mask = some_mask(some_scan())
    for name in ("mask.png", "mask", "mask.h5", "mask.nhdr", ".nii.gz"):
        with pytest.raises(ImageError, match=r"supported are \.nii\.gz, \.nii, \.seg\.nrrd, \.nrrd, \.mha"):
            writing.write_mask(mask, tmp_path / name)
    with pytest.raises(ImageError, match="segmentations"):
        writing.write_scalar(some_scan(), tmp_path / "sdm.seg.nrrd")


@pytest.mark.parametrize(
    ("name", "stem", "image"),
    [
        ("a.nii.gz", "a", True),
        ("a.1.NII.GZ", "a.1", True),
        ("b.seg.nrrd", "b", False),
        ("b.nrrd", "b", True),
        ("mri_norm2.h5", "mri_norm2", True),
        ("folder", "folder", False),
        ("notes.txt", "notes.txt", False),
        ("._a.nii.gz", "._a", False),
    ],
)
def test_names(name: str, stem: str, image: bool) -> None:
    assert formats.stem(Path("x.y") / name) == stem
    assert formats.is_image(Path(name)) == image
