"""Studies to try SemiSeg with: made on this computer, or public ones that are downloaded."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from SemiSegLib.errors import SemiSegError
from SemiSegLib.files import replace

from .i18n import _
from .paths import resource_path

_CHUNK = 1 << 20  # bytes


class SampleDataError(SemiSegError):
    """A data set cannot be downloaded or is not what it should be."""


@dataclass(frozen=True)
class PublicData:
    """A task of the Medical Segmentation Decathlon (CC BY-SA 4.0), as MONAI's mirror offers it.

    The checksum is the MD5 that MONAI (monai.apps.DecathlonDataset) publishes: nobody publishes a SHA-256.
    """

    url: str
    md5: str
    megabytes: int


PUBLIC = {
    "Task02_Heart": PublicData(
        "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task02_Heart.tar", "06ee59366e1e5124267b774dbd654057", 435
    ),
    "Task07_Pancreas": PublicData(
        "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task07_Pancreas.tar",
        "4f7080cfca169fa8066d17ce6eb061e4",
        11500,
    ),
}


def title(name: str) -> str:
    """What a data set is called in the menu."""
    return {
        "Task02_Heart": _("Left atrium, MRI: 20 labeled, 10 unlabeled (Decathlon Task02)"),
        "Task07_Pancreas": _("Pancreas, CT: 281 labeled, 139 unlabeled (Decathlon Task07)"),
    }[name]


def question(name: str) -> str:
    """What is asked before a download."""
    return _("Download {title}, {size} MB, from the Medical Segmentation Decathlon (license CC BY-SA 4.0)?").format(
        title=title(name), size=PUBLIC[name].megabytes
    )


def make_synthetic(folder: Path) -> Path:
    """Ten synthetic left atria, six of them annotated, in `folder`; one that is there already is kept."""
    from SemiSegLib.synthetic import make_dataset

    if not (folder / "images").is_dir():
        make_dataset(folder, cases=10, labelled=6, validation=0, size=(64, 64, 40))
    return folder


def download(name: str, folder: Path, progress: Callable[[int, int, str], None]) -> Path:
    """Download and unpack a public data set, unless it is there; returns its folder. Raises SampleDataError."""
    data, archive = PUBLIC[name], folder / f"{name}.tar"
    if (folder / name / "dataset.json").exists() and not archive.exists():  # which goes when all of it is unpacked
        return folder / name
    folder.mkdir(parents=True, exist_ok=True)
    if not archive.exists() or _md5(archive) != data.md5:
        _fetch(data.url, archive, progress)
        if _md5(archive) != data.md5:
            archive.unlink()
            raise SampleDataError(_("{url} was not received whole; try again.").format(url=data.url))
    unfinished = folder / f"{name}.unpacking"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _unpack(archive, unfinished, progress)
        shutil.rmtree(folder / name, ignore_errors=True)  # half of it, from an earlier version
        replace(unfinished / name, folder / name, attempts=7)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    archive.unlink()
    return folder / name


def _fetch(url: str, target: Path, progress: Callable[[int, int, str], None]) -> None:
    partial = target.with_suffix(".part")
    try:
        with urllib.request.urlopen(url, timeout=30) as response, partial.open("wb") as stream:
            size, done = int(response.headers.get("Content-Length") or 0), 0
            while chunk := response.read(_CHUNK):
                stream.write(chunk)
                done += len(chunk)
                progress(done >> 20, size >> 20, target.name)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise SampleDataError(
            _("{url} cannot be downloaded ({reason}). The synthetic study needs no internet.").format(
                url=url, reason=error
            )
        ) from error
    replace(partial, target, attempts=7)


def _unpack(archive: Path, folder: Path, progress: Callable[[int, int, str], None]) -> None:
    with tarfile.open(archive) as tar:
        members = [member for member in tar.getmembers() if not Path(member.name).name.startswith("._")]
        for number, member in enumerate(members):
            if not (member.isfile() or member.isdir()):
                continue
            if not (folder / member.name).resolve().is_relative_to(folder.resolve()):
                raise SampleDataError(_("{archive} holds unsafe paths; it was not unpacked.").format(archive=archive))
            tar.extract(member, folder)
            progress(number, len(members), member.name)


def _md5(file: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def register() -> None:
    """Show the data sets in Slicer's Sample Data module, too; called once Slicer has started."""
    import SampleData

    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):  # Slicer 5.12 and later; before, the name is the title
        logic.registerCustomSampleDataCategory("SemiSeg", title="SemiSeg")
    icon = str(resource_path("Icons/SemiSegModule.png"))
    for name, data in PUBLIC.items():
        logic.registerCustomSampleDataSource(
            category="SemiSeg",
            sampleName=name,
            thumbnailFileName=icon,
            uris=data.url,
            fileNames=f"{name}.tar",
            loadFiles=False,
            customDownloader=_download_for_module,
        )
    logic.registerCustomSampleDataSource(
        category="SemiSeg",
        sampleName="SemiSegSynthetic",
        thumbnailFileName=icon,
        uris="",
        fileNames="",
        customDownloader=_download_for_module,
    )


def _download_for_module(source: object) -> None:
    """Loading is the panel's work: open it and add the data set there."""
    import slicer

    slicer.util.selectModule("SemiSegModule")
    widget = slicer.modules.semisegmodule.widgetRepresentation().self()
    name = source.sampleName
    widget.panel.data.add_public(name) if name in PUBLIC else widget.panel.data.add_synthetic()
