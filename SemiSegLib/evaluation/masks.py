"""Masks to compare, by the names of their cases: what reads them, and a prediction on its reference's grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from SemiSegLib.data.cases import Case, read_case
from SemiSegLib.data.formats import extension, is_image, is_mask, stem
from SemiSegLib.data.frames import frame_count, frame_name, series_name
from SemiSegLib.data.geometry import Geometry
from SemiSegLib.data.images import Mask, bring_to, drawn_frames, read_mask
from SemiSegLib.data.layouts import find_cases
from SemiSegLib.errors import SemiSegError
from SemiSegLib.evaluation import EvaluationError

Source = Path | Mapping[str, Path]
Readers = dict[str, Callable[[], Mask]]


def prediction_readers(source: Source) -> Readers:
    """By case name, what reads the predicted mask; of 4D files each frame is a case.

    Raises EvaluationError for two masks of one name.
    """
    return _readers(_mask_files(source))


def reference_readers(source: Source) -> Readers:
    """The same for references: mask files, or the masks of a data set on their scans' grids.

    Of 4D files those frames in which something is drawn.
    """
    if not is_data_set(source):
        return _readers(_mask_files(source), drawn=True)
    assert isinstance(source, Path)
    annotated = (case for case in find_cases(source) if case.label is not None)
    return {case.name: partial(_read_annotation, case) for case in annotated}


def is_data_set(source: Source) -> bool:
    """Whether a folder holds scans, with their masks in other folders or as segmentations beside them."""
    if isinstance(source, Mapping) or not source.is_dir():
        return False
    files = [path for path in source.iterdir() if path.is_file() and is_mask(path)]
    segmentations = {stem(path) for path in files if extension(path) == ".seg.nrrd"}
    return not files or any(is_image(path) and stem(path) in segmentations for path in files)


def readable(readers: Iterable[Callable[[], Mask]]) -> Iterator[Mask]:
    """The masks that can be read; what is wrong with the others is said when they are scored."""
    for read in readers:
        try:
            yield read()
        except SemiSegError:
            continue


def on_grid(prediction: Mask, reference: Mask) -> tuple[Mask, list[str]]:
    """The prediction on the reference's grid, and what to tell when that is not its own; raises SemiSegError."""
    own, wanted = Geometry.of(prediction.image), Geometry.of(reference.image)
    moved = bring_to(prediction, reference.image, reference.path, called="reference")
    if own.same_as(wanted):
        return moved, []
    return moved, [
        f"{prediction.path} was brought onto the grid of {reference.path}: from {own.describe()} to {wanted.describe()}"
    ]


def _mask_files(source: Source) -> dict[str, Path]:
    """Mask files by case name, those directly in a folder; raises EvaluationError for two of one name."""
    if isinstance(source, Mapping):
        return dict(source)
    if not source.is_dir():
        raise EvaluationError(f"{source}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(path for path in source.iterdir() if path.is_file() and is_mask(path)):
        other = found.setdefault(stem(path), path)
        if other != path:
            raise EvaluationError(f"two masks have the name '{stem(path)}': {other} and {path}; remove one")
    return found


def _readers(files: Mapping[str, Path], drawn: bool = False) -> Readers:
    """What reads each mask; of 4D files each frame, or with `drawn` those in which something is.

    Raises EvaluationError where a frame has a file of its own, too.
    """
    readers: Readers = {}
    for name, path in files.items():
        count = frame_count(path)
        if count == 1:
            readers[name] = partial(read_mask, path)
            continue
        for number in drawn_frames(path, count) if drawn else range(count):
            frame = frame_name(series_name(path), number, count)
            if frame in files:
                raise EvaluationError(f"{path} and {files[frame]} both hold the mask of '{frame}'; remove one")
            readers[frame] = partial(read_mask, path, number)
    return readers


def _read_annotation(case: Case) -> Mask:
    mask = read_case(case)[1]
    if mask is None:
        raise EvaluationError(f"the case {case.name} has no mask")
    return mask
