"""Scans and Python packages in files of a limited size, for machines that receive so much at once and have no network.

A pack is a tar file. Voxels are stored whole and exactly, as the smallest kind of integer that holds them, each scan
compressed by xz after taking differences of neighbours: four fifths of the size of .nii.gz for MRI. Masks of scans that
train without them are not packed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import lzma
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from SemiSegLib.errors import SemiSegError

SECTION = "packed"  # of the splits.json that an unpacked data folder gets
_SPLIT, _PACKAGES, _VOXELS = "split.json", "packages.tar.xz", ".nii.xz"
_MEMBER_OVERHEAD = 2048  # of tar: header and padding


class PackError(SemiSegError):
    """A pack cannot be made or read; the message names the file."""


def pack_scans(
    data: Path, splits: str | None, labelled: Sequence[int], unlabelled: int | None, folder: Path, limit: int
) -> list[Path]:
    """Write part-1.tar, part-2.tar, … of at most `limit` bytes each; annotated and validation scans come first.

    `labelled` are the counts of annotated scans to be compared, `unlabelled` at most how many of the others. Raises
    SemiSegError for data that make no case list, PackError for a scan larger than a part.
    """
    from SemiSegLib.data.layouts import find_cases
    from SemiSegLib.data.splits import apply_splits

    found = find_cases(data)
    divided = {count: apply_splits(found, splits, count) for count in labelled}
    most = divided[max(divided)]
    chosen = [*most.labelled, *most.validation, *most.unlabelled[:unlabelled]]
    split = {
        **{f"labeled_{count}": [case.name for case in cases.labelled] for count, cases in divided.items()},
        "train": [case.name for case in (*most.labelled, *most.unlabelled)],
        "validation": [case.name for case in most.validation],
    }
    content = {SECTION: split}
    if most.labels:
        content["labels"] = {str(label.value): label.name for label in most.labels}
    writer = _Parts(folder, limit, json.dumps(content).encode())
    for case in chosen:
        writer.add(_members(case))
    return writer.close()


def pack_packages(folder: Path, file: Path) -> Path:
    """Write a pack with the Python packages of a folder that `pip install --target` made."""
    if not folder.is_dir():
        raise PackError(f"{folder} is no folder: make it with pip install --target {folder} NAME …")
    filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 6}]
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as compressed:
        with (
            lzma.open(compressed, "wb", filters=filters) as stream,
            tarfile.open(fileobj=stream, mode="w|") as inner,
        ):
            inner.add(folder, ".", filter=lambda member: None if "__pycache__" in member.name else member)
        size = compressed.tell()
        compressed.seek(0)
        with tarfile.open(file, "w") as outer:
            outer.addfile(_member(_PACKAGES, size), compressed)
    return file


def unpack(pack: Path, work: Path) -> bool:
    """The pack's scans in `work`/data, its packages in `work`/packages; False if they are there already."""
    try:
        digest = hashlib.sha256(pack.read_bytes()).hexdigest()
    except OSError as error:
        raise PackError(f"{pack} cannot be read: {error.strerror or error}") from error
    done = work / "packs" / digest
    if done.exists():
        return False
    try:
        with tarfile.open(pack) as archive:
            for member in archive:
                _place(member, archive.extractfile(member), work)
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise PackError(f"{pack} is no pack, or was cut short: {error}") from error
    done.parent.mkdir(parents=True, exist_ok=True)
    done.write_text(pack.name, encoding="utf-8")
    return True


def split_of(work: Path) -> str:
    """FILE:NAME of the split of what is unpacked: unlabelled scans that came in no pack are left out."""
    data = work / "data"
    try:
        content = json.loads((data / _SPLIT).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PackError(f"no scans are unpacked in {data}: name the packs with --packs") from error
    present = {file.name.removesuffix(".nii") for file in (data / "images").iterdir()}
    section = content[SECTION]
    needed = {name for key, names in section.items() if key != "train" for name in names}
    section["train"] = [name for name in section["train"] if name in present | needed]
    file = data / "splits.json"
    text = json.dumps(content)
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")
    return f"{file}:{SECTION}"


def _place(member: tarfile.TarInfo, stream: Any, work: Path) -> None:
    path = PurePosixPath(member.name)
    if stream is None or path.is_absolute() or ".." in path.parts:
        raise PackError(f"'{member.name}' does not belong in a pack")
    if member.name == _PACKAGES:
        with tarfile.open(fileobj=stream, mode="r|xz") as packages:
            packages.extractall(work / "packages", filter="data")
        return
    target = work / "data" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as opened:
        if member.name.endswith(_VOXELS):
            target, stream = target.with_name(target.stem), opened.enter_context(lzma.open(stream))
        shutil.copyfileobj(stream, opened.enter_context(target.open("wb")))


class _Parts:
    """Parts of a limited size, each with the split."""

    def __init__(self, folder: Path, limit: int, split: bytes) -> None:
        self.folder, self.limit, self.split = folder, limit, split
        self.files: list[Path] = []
        self.archive: tarfile.TarFile | None = None
        self.size = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, members: Mapping[str, bytes]) -> None:
        """One case, whole in one part."""
        size = sum(len(content) + _MEMBER_OVERHEAD for content in members.values())
        fixed = len(self.split) + 2 * _MEMBER_OVERHEAD + tarfile.RECORDSIZE
        if fixed + size > self.limit:
            raise PackError(f"{', '.join(members)} take {(fixed + size) / 2**20:.1f} MiB: allow larger parts")
        if self.archive is None or self.size + size > self.limit:
            self.close()
            self.files.append(self.folder / f"part-{len(self.files) + 1}.tar")
            self.archive, self.size = tarfile.open(self.files[-1], "w"), fixed  # noqa: SIM115 - closed by close
            self._write(_SPLIT, self.split)
        for name, content in members.items():
            self._write(name, content)
        self.size += size

    def close(self) -> list[Path]:
        """All parts, complete."""
        if self.archive is not None:
            self.archive.close()
            self.archive = None
        return self.files

    def _write(self, name: str, content: bytes) -> None:
        assert self.archive is not None
        self.archive.addfile(_member(name, len(content)), io.BytesIO(content))


def _member(name: str, size: int) -> tarfile.TarInfo:
    """Without times and owners: the same scans make the same pack."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def _members(case: Any) -> dict[str, bytes]:
    """Name in the pack: content, of one case."""
    from SemiSegLib.data.cases import read_case

    image, mask = read_case(case)
    members = {f"images/{case.name}{_VOXELS}": _compressed(image)}
    if mask is not None:
        members[f"labels/{case.name}{_VOXELS}"] = _compressed(mask.image)
    return members


def _compressed(image: Any) -> bytes:
    import SimpleITK as sitk

    image = _smallest(image)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "voxels.nii"
        sitk.WriteImage(image, file)
        content = file.read_bytes()
    width = image.GetSizeOfPixelComponent()
    filters = [{"id": lzma.FILTER_DELTA, "dist": width}, {"id": lzma.FILTER_LZMA2, "preset": 6}]
    return lzma.compress(content, filters=filters)


def _smallest(image: Any) -> Any:
    """The image in the smallest kind of integer that holds its voxels, as it is if they are no whole numbers."""
    import numpy as np
    import SimpleITK as sitk

    array = sitk.GetArrayViewFromImage(image)
    if not np.array_equal(array, np.round(array)):
        return image
    for kind, pixel in ((np.uint8, sitk.sitkUInt8), (np.int16, sitk.sitkInt16), (np.uint16, sitk.sitkUInt16)):
        if np.iinfo(kind).min <= array.min() and array.max() <= np.iinfo(kind).max:
            return sitk.Cast(image, pixel)
    return image
