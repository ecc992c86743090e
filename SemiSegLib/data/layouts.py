"""Recognises how a data folder is laid out and lists its cases."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from SemiSegLib.config import DataSettings, Label
from SemiSegLib.constants import IGNORE_LABEL
from SemiSegLib.data.cases import Case, CaseList, CasesError, listed
from SemiSegLib.data.dicom import is_dicom_series
from SemiSegLib.data.formats import READABLE, extension, is_hidden, is_image, is_mask, one_spelling, stem
from SemiSegLib.data.frames import in_frames
from SemiSegLib.data.origins import with_origins
from SemiSegLib.data.patients import with_patients

logger = logging.getLogger(__name__)

UNDERSTOOD = f"""\
  images/ and labels/ with equal file names (scans without a mask are unlabelled)
  imagesTr/, labelsTr/, imagesTs/ and dataset.json (Medical Segmentation Decathlon, nnU-Net, its ignore label too)
  CASE/lgemri.nrrd and CASE/laendo.nrrd (2018 Atrial Segmentation Challenge)
  CASE/mri_norm2.h5 (the same as prepared by UA-MT)
  patient001/patient001_4d.nii.gz, patient001_frame01.nii.gz, patient001_frame01_gt.nii.gz (ACDC)
  PANCREAS_0001/ with DICOM below, and label0001.nii.gz (NIH Pancreas-CT)
  scan files or DICOM folders side by side, each perhaps with NAME.seg.nrrd beside it
  one scan: a file, or a folder with one DICOM series
Each frame of a 4D file (x, y, z, t) is a case NAME_frame01, ...; its mask is 4D as well, or one file a frame.
Scans are 3D: {", ".join(READABLE)} and folders of DICOM; pictures (.png, .jpg, .tif) do not know their voxel size."""

ATRIUM = Label(1, "left atrium", (178, 34, 34))
PANCREAS = Label(1, "pancreas", (249, 180, 111))
CINE = (
    Label(1, "right ventricle", (181, 85, 57)),
    Label(2, "myocardium", (192, 104, 88)),
    Label(3, "left ventricle", (152, 55, 13)),
)
COLORS = (
    (216, 101, 79), (128, 174, 128), (111, 184, 210), (241, 214, 145), (177, 122, 101),
    (183, 156, 220), (144, 238, 144), (240, 128, 128), (183, 214, 211), (255, 250, 160),
)  # fmt: skip
"""For data sets that name classes without colours; our own choice."""
_MASK_NAME = re.compile(r"(?P<scan>.+)[._-](seg|segmentation|label|labels|mask|gt)", re.IGNORECASE)


def find_cases(root: Path) -> CaseList:
    """The cases in a data folder whose layout is one of UNDERSTOOD, or of a single image file.

    Raises CasesError when there is nothing, a name occurs twice, or a dataset.json lists what is not there.
    """
    root = Path(root)
    if not root.exists():
        raise CasesError(f"{root}: no such file or folder")
    if root.is_file():
        return _single(root)
    for layout in (
        _decathlon,
        _images_labels,
        _dicom_root,
        _challenge,
        _prepared_h5,
        _acdc,
        _nih_pancreas,
        _side_by_side,
    ):
        found = layout(root)
        if found is not None:
            return with_patients(with_origins(found))
    inside = sorted(path.name for path in root.iterdir() if not is_hidden(path))
    raise CasesError(f"{root}: no scans found (it holds: {listed(inside) or 'nothing'}). Understood are:\n{UNDERSTOOD}")


def _case_list(
    root: Path,
    layout: str,
    cases: Iterable[Case],
    labels: list[Label] | None = None,
    masks: Mapping[str, Path] | None = None,
    ignored: int | None = None,
) -> CaseList:
    """`masks`: all mask files by name, where some may be of single frames of a scan. `ignored`: value of voxels that
    nobody annotated in them."""
    ordered = sorted(_frames_apart(cases, masks or {}), key=lambda case: case.name)
    _refuse_doubles(ordered)
    ordered, labels = _labels_from_masks(ordered, labels)
    if ignored is not None:
        ordered = [_ignoring(case, ignored) for case in ordered]
    return CaseList(
        labelled=tuple(case for case in ordered if case.label is not None),
        unlabelled=tuple(case for case in ordered if case.label is None),
        labels=labels,
        root=root,
        layout=layout,
    )


def _ignoring(case: Case, stored: int) -> Case:
    values = {stored: DataSettings().ignore_value} | (case.label_values or {})
    return replace(case, label_values=values) if case.label is not None else case


def _frames_apart(cases: Iterable[Case], masks: Mapping[str, Path]) -> list[Case]:
    """Every frame of a scan as a case; one that has a file of its own beside the scan is that file."""
    every = [single for case in cases for single in in_frames(case, masks)]
    files = {case.name.casefold() for case in every if case.frame is None}
    return [case for case in every if case.frame is None or case.name.casefold() not in files]


def _refuse_doubles(cases: Iterable[Case]) -> None:
    """Names differing in case alone are doubles too: their results would overwrite each other on Windows."""
    seen: dict[str, Case] = {}
    for case in cases:
        other = seen.setdefault(case.name.casefold(), case)
        if other is not case:
            raise CasesError(f"two scans have the name '{case.name}': {other.image} and {case.image}; rename one")


def _labels_from_masks(cases: list[Case], given: list[Label] | None) -> tuple[list[Case], list[Label] | None]:
    """The `given` labels, or those that Slicer segmentations name. The name decides: where files number the same names
    differently, each case gets the mapping to common numbers. A file that names none of the given goes by its numbers.
    A segment with the value of what nobody annotated ("not sure") is no class, whatever it is called.
    """
    from SemiSegLib.data.images import mask_labels

    known = {label.name for label in given or []}
    named: dict[str, list[Label]] = {}
    for case in cases:
        segments = (case.label and mask_labels(case.label)) or []
        own = [label for label in segments if label.value != DataSettings().ignore_value]
        if own and (given is None or any(label.name in known for label in own)):
            named[case.name] = own
    joint = joint_labels(named.values(), given or [])
    value = {label.name: label.value for label in joint}
    mapped = []
    for case in cases:
        values = {label.value: value[label.name] for label in named.get(case.name, [])}
        differs = any(stored != wanted for stored, wanted in values.items())
        mapped.append(replace(case, label_values=values) if differs else case)
    return mapped, (joint or None) if given is None else given


def joint_labels(files: Iterable[Sequence[Label]], known: Sequence[Label] = ()) -> list[Label]:
    """One label for each name in the known ones and those of several files, by value: with the number that it has
    where it is named first, or a new one where another name has that."""
    joint = {label.name: label for label in known}
    for label in (label for file in files for label in file):
        if label.name not in joint:
            taken = {other.value for other in joint.values()}
            value = 1 + max(taken) if label.value in taken else label.value
            joint[label.name] = replace(label, value=value)
    return sorted(joint.values(), key=lambda label: label.value)


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not is_hidden(path)) if folder.is_dir() else []


def _scans(folder: Path) -> list[Path]:
    """Image files and DICOM folders directly in `folder`."""
    return [path for path in _visible(folder) if (path.is_file() and is_image(path)) or is_dicom_series(path)]


def _masks(folder: Path, key: Callable[[Path], str] = stem) -> dict[str, Path]:
    """Mask files directly in `folder` by name. Raises CasesError for two of one name."""
    found: dict[str, Path] = {}
    for path in _visible(folder):
        if path.is_file() and is_mask(path):
            other = found.setdefault(key(path), path)
            if other != path:
                raise CasesError(f"two masks have the name '{key(path)}': {other} and {path}; remove one")
    return found


# ---- one scan, folders of scans ---------------------------------------------------------------------------


def _single(path: Path) -> CaseList:
    if not is_image(path):
        raise CasesError(f"{path}: not a scan; supported are {', '.join(READABLE)} and folders of DICOM")
    if extension(path) == ".h5":
        return _case_list(path, "one scan", [_h5_case(stem(path), path)], [ATRIUM])
    return _case_list(path, "one scan", [Case(stem(path), path)])


def _dicom_root(root: Path) -> CaseList | None:
    return (
        _case_list(root, "one scan (DICOM series)", [Case(stem(root.resolve()), root)])
        if is_dicom_series(root)
        else None
    )


def _side_by_side(root: Path) -> CaseList | None:
    scans = _scans(root)
    beside = {stem(path): path for path in _visible(root) if extension(path) == ".seg.nrrd"}
    # A data set's scans alone, to be predicted: called as in the data set, and as their masks.
    suffixed = root.resolve().name in ("imagesTr", "imagesTs") and _has_channel_suffix(scans, root)
    cases = [_unlisted(path, beside, suffixed) for path in scans]
    if not cases:
        return None
    _warn_of_masks(scans, root)
    found = _case_list(root, "folder of scans", cases, masks=beside)
    _report_orphans(beside, found, root, refuse=False)  # the scans alone may be what is wanted, to be predicted
    return found


def _warn_of_masks(scans: Sequence[Path], root: Path) -> None:
    """Of several formats a file's name alone says that it is a mask, and how masks are called differs."""
    names = {stem(path) for path in scans}
    named = ((path, _MASK_NAME.fullmatch(stem(path))) for path in scans)
    masks = [path.name for path, match in named if match and match["scan"] in names]
    if masks:
        logger.warning(
            "%s: %s count as scans without a mask, but are called like masks of the scans beside them. If they are, "
            "put the scans into images/ and the masks, called as their scans, into labels/.",
            root,
            listed(masks),
        )


def _images_labels(root: Path) -> CaseList | None:
    scans = _scans(root / "images")
    if not scans:
        return None
    masks = _masks(root / "labels")
    file = root / "dataset.json"
    labels, ignored = _dataset_labels(_read_dataset(file), file) if file.is_file() else (None, None)
    cases = [Case(stem(path), path, masks.get(stem(path))) for path in scans]
    found = _case_list(root, "images and labels", cases, labels, masks, ignored)
    _report_orphans(masks, found, root / "images")
    return found


def _report_orphans(masks: Mapping[str, Path], cases: Iterable[Case], folder: Path, refuse: bool = True) -> None:
    """Masks without a scan: a warning, or with `refuse` CasesError when no mask at all has its scan."""
    every = list(cases)
    names, used = {case.name for case in every}, {case.label for case in every}
    whole = {stem(case.image) for case in every}  # also of scans with a mask in which nothing is drawn
    orphans = [path for name, path in masks.items() if path not in used and name not in names | whole]
    if refuse and orphans and len(orphans) == len(masks):
        raise CasesError(
            f"no mask has the name of a scan in {folder} (masks: {listed(p.name for p in orphans)}; scans: "
            f"{listed(sorted(names))}); a mask is found by having its scan's name"
        )
    if orphans:
        logger.warning("no scan in %s for the masks %s; they are not used", folder, listed(p.name for p in orphans))


# ---- Medical Segmentation Decathlon, nnU-Net --------------------------------------------------------------


def _decathlon(root: Path) -> CaseList | None:
    file = root / "dataset.json"
    scans = _scans(root / "imagesTr")
    if not scans and not file.is_file():
        return None
    dataset = _read_dataset(file) if file.is_file() else {}
    _refuse_channels(dataset, file)
    named = _listed_cases(root, dataset, file)
    taken = {case.image for case in named}
    suffixed = _has_channel_suffix([*scans, *_scans(root / "imagesTs")], root)
    masks = _masks(root / "labelsTr")
    beside = [path for path in scans if path not in taken]
    extra = [_unlisted(path, masks, suffixed) for path in beside]
    extra += [_unlisted(path, {}, suffixed) for path in _scans(root / "imagesTs") if path not in taken]
    cases = [*named, *extra]
    if not cases and (root / "images").is_dir():
        return None
    if not cases:
        raise CasesError(f"{file}: lists no scans, and there are none in {root / 'imagesTr'}")
    labels, ignored = _dataset_labels(dataset, file)
    found = _case_list(root, "Decathlon / nnU-Net", cases, labels, masks, ignored)
    _report_orphans(masks, found, root / "imagesTr")
    return found


def _read_dataset(file: Path) -> dict[str, Any]:
    try:
        dataset = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CasesError(f"{file}: not readable as JSON: {error}") from error
    if not isinstance(dataset, dict):
        raise CasesError(f"{file}: holds a {type(dataset).__name__} where an object with 'labels' is expected")
    return dataset


def _refuse_channels(dataset: Mapping[str, Any], file: Path) -> None:
    channels = dataset.get("channel_names") or dataset.get("modality") or {}
    if isinstance(channels, str):
        return
    if not isinstance(channels, (dict, list)):
        raise CasesError(
            f'{file}: \'channel_names\' must give channels their names, as {{"0": "MR"}}, not {channels!r}'
        )
    if len(channels) > 1:
        names = channels.values() if isinstance(channels, dict) else channels
        raise CasesError(f"{file}: scans of several channels ({listed(names)}); only one channel is supported")


def _dataset_labels(dataset: Mapping[str, Any], file: Path) -> tuple[list[Label] | None, int | None]:
    """Foreground classes of `labels` in either direction, {"1": "liver"} (Decathlon) or {"liver": 1} (nnU-Net), and the
    value of voxels that nobody annotated where it is named."""
    entries = dataset.get("labels")
    if not entries:
        return None, None
    try:
        if all(str(key).strip().isdigit() for key in entries):
            pairs = [(int(key), str(name)) for key, name in entries.items()]
        else:
            pairs = [(int(value), str(name)) for name, value in entries.items()]
    except (TypeError, ValueError, AttributeError) as error:
        raise CasesError(
            f"{file}: 'labels' must map one number to one name; regions of several labels are not supported: {entries}"
        ) from error
    ignored = next((value for value, name in pairs if name == IGNORE_LABEL), None)
    foreground = sorted((value, name) for value, name in pairs if value > 0 and name != IGNORE_LABEL)
    return [Label(value, name, COLORS[(value - 1) % len(COLORS)]) for value, name in foreground], ignored


def _listed_cases(root: Path, dataset: Mapping[str, Any], file: Path) -> list[Case]:
    """The cases that dataset.json lists. A training file that is not there is an error, a test scan a warning."""
    cases = []
    missing: list[Path] = []
    for name, entry in _training_entries(dataset, file):
        if name != Path(name).name or re.search(r"[\\/:]", name):
            raise CasesError(f"{file}: the case '{name}' has a name that no file can have; rename it there")
        image = _listed_file(root, entry["image"])
        label = _listed_file(root, entry["label"]) if entry.get("label") else None
        missing += [path for path in (image, label) if path and not path.exists()]
        cases.append(Case(one_spelling(name) or stem(root / str(entry["image"])), image, label))
    if missing:
        raise CasesError(f"{file}: lists files that are not there: {listed(missing)}")
    for entry in dataset.get("test") or []:
        scan = entry.get("image", "") if isinstance(entry, dict) else entry
        image = _listed_file(root, scan)
        if image.exists():
            cases.append(Case(stem(root / str(scan)), image))
        else:
            logger.warning("%s: lists a test scan that is not there: %s", file, image)
    return cases


def _listed_file(root: Path, entry: object) -> Path:
    """The file an entry means; nnU-Net version 1 leaves out the channel suffix _0000 that its files have."""
    path = root / str(entry[0] if isinstance(entry, list) else entry)
    kind = extension(path)
    channel = path.with_name(f"{path.name[: len(path.name) - len(kind)]}_0000{kind}")
    return channel if not path.exists() and channel.exists() else path


def _training_entries(dataset: Mapping[str, Any], file: Path) -> list[tuple[str, dict[str, Any]]]:
    """(name or '', {image, label}) of nnU-Net's `dataset` object or the Decathlon's `training` list."""
    if isinstance(dataset.get("dataset"), dict):
        entries = [
            (str(name), {"image": found.get("images"), "label": found.get("label")})
            for name, found in dataset["dataset"].items()
        ]
    else:
        listed_entries = dataset.get("training") or []
        entries = [("", found if isinstance(found, dict) else {"image": found}) for found in listed_entries]
    for name, entry in entries:
        images = entry.get("image")
        if not images:
            raise CasesError(f"{file}: the training entry {name or entry} names no image")
        if isinstance(images, list) and len(images) > 1:
            raise CasesError(f"{file}: {name} has several channels {images}; only one channel is supported")
    return entries


def _has_channel_suffix(scans: list[Path], root: Path) -> bool:
    """Whether all scans are called NAME_0000 (nnU-Net). Raises CasesError for further channels NAME_0001."""
    channels = {match[1] for path in scans if (match := re.search(r"_(\d{4})$", stem(path)))}
    every = bool(scans) and all(re.search(r"_\d{4}$", stem(path)) for path in scans)
    names = {stem(path)[:-5] for path in scans}
    if every and "0000" in channels and len(channels) > 1 and len(names) < len(scans):
        raise CasesError(f"{root}: scans of several channels (NAME_0000, NAME_0001, …); only one is supported")
    return every and channels == {"0000"}


def _unlisted(path: Path, masks: Mapping[str, Path], suffixed: bool) -> Case:
    name = stem(path)[: -len("_0000")] if suffixed else stem(path)
    return Case(name, path, masks.get(name) or masks.get(stem(path)))


# ---- the literature's data sets ---------------------------------------------------------------------------


def _challenge(root: Path) -> CaseList | None:
    scans = [path for pattern in ("*/lgemri.nrrd", "*/*/lgemri.nrrd") for path in root.glob(pattern)]
    cases = []
    for scan in sorted(scans):
        mask = scan.with_name("laendo.nrrd")
        cases.append(Case(stem(scan.parent), scan, mask if mask.is_file() else None, {255: 1}))
    return _case_list(root, "Atrial Segmentation Challenge", cases, [ATRIUM]) if cases else None


def _prepared_h5(root: Path) -> CaseList | None:
    files = [path for pattern in ("*/mri_norm2.h5", "*/*/mri_norm2.h5") for path in root.glob(pattern)]
    cases = [_h5_case(stem(path.parent), path) for path in sorted(files)]
    return _case_list(root, "left atrium as prepared by UA-MT", cases, [ATRIUM]) if cases else None


def _h5_case(name: str, path: Path) -> Case:
    from SemiSegLib.data.hdf5 import has_label

    return Case(name, path, path if has_label(path) else None)


def _acdc(root: Path) -> CaseList | None:
    """ACDC as it comes: of each patient two annotated frames; the others, of the 4D file, are without mask."""
    files = [path for pattern in ("*/patient*_*.nii*", "*/*/patient*_*.nii*") for path in root.glob(pattern)]
    scans = [path for path in files if re.fullmatch(r"patient\d+_(4d|frame\d+)", stem(path))]
    masks = {stem(path).removesuffix("_gt"): path for path in files if stem(path).endswith("_gt")}
    cases = [Case(stem(path), path, masks.get(stem(path))) for path in scans]
    if not cases:
        return None
    found = _case_list(root, "ACDC", cases, list(CINE))
    _report_orphans(masks, found, root)
    return found


def _nih_pancreas(root: Path) -> CaseList | None:
    """NIH Pancreas-CT. Its masks are laid onto the scans by orientation where the worlds disagree, which is
    what nnU-Net's converter for this data set does (both turned to closest canonical axes, paired by voxel);
    not checked against the archive itself."""
    scans: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("PANCREAS_*")):
        number = re.fullmatch(r"PANCREAS_(\d{4})", stem(path))
        if number and not any(parent.name == path.name for parent in path.parents):
            scans.setdefault(number[1], []).extend(_series_below(path) if path.is_dir() else [path])
    masks = {
        stem(path)[len("label") :]: path
        for path in sorted(root.rglob("label*.nii*"))
        if not is_hidden(path) and re.fullmatch(r"label\d{4}", stem(path))
    }
    cases = []
    for digits, found in scans.items():
        if len(found) > 1:
            raise CasesError(f"PANCREAS_{digits}: several series: {listed(found)}; keep one")
        for path in found:
            mask = masks.get(digits)
            cases.append(Case(f"PANCREAS_{digits}", path, mask, label_by_orientation=mask is not None))
    if not cases:
        return None
    _report_orphans(masks, cases, root)
    return _case_list(root, "NIH Pancreas-CT", cases, [PANCREAS])


def _series_below(folder: Path) -> list[Path]:
    """Folders with DICOM files at or below `folder`, in order."""
    if is_dicom_series(folder):
        return [folder]
    return [series for inner in _visible(folder) if inner.is_dir() for series in _series_below(inner)]
