"""SemiSeg from Python; Resources/Docs/Python.md has examples that run. Importing this loads neither torch nor data.

>>> from SemiSegLib.api import Predictor, evaluate, train
>>> run = train("DATA", "RUN", preset="left-atrium", labelled=8)                  # doctest: +SKIP
>>> mask = Predictor(run).predict("scan.nii.gz").mask                             # doctest: +SKIP

(The names are here and not in the package itself, where `SemiSegLib.train` and `SemiSegLib.evaluate` are modules.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSegLib.config import Label, SettingsError
from SemiSegLib.errors import SemiSegError
from SemiSegLib.presets import build_settings
from SemiSegLib.runs import RunFolder

if TYPE_CHECKING:
    import numpy as np
    import SimpleITK as sitk

    from SemiSegLib.evaluate import Report
    from SemiSegLib.inference.predictor import Prediction
    from SemiSegLib.metrics import CaseMetrics

__all__ = ["Predictor", "Result", "SemiSegError", "evaluate", "models", "resume", "score", "train"]


def train(
    data: str | Path,
    out: str | Path,
    *,
    method: str | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    splits: str | None = None,
    labelled: int | str | Path | None = None,
    validation: int = 0,
    init: str | Path | RunFolder | None = None,
    quiet: bool = False,
) -> RunFolder:
    """Train on the scans in the folder `data`, as `semiseg train` does; returns the run folder, which is `out`.

    Where `settings` give no length ("training.minutes" or "training.iterations"), the preset's iterations are trained,
    at its voxel size; the command's default of an hour is not taken.

    :param settings: any settings by name, {"training.iterations": 3000}; they win over `config`, a JSON file
    :param splits: FILE:NAME of named splits
    :param labelled: use only so many annotations, or those of the cases that a file names
    :param validation: hold out so many annotated cases where the splits name none
    :param init: trained model to start from: run folder, file or name
    :raises SemiSegError: wrong input or settings, no memory, a run in `out` already
    """
    from SemiSegLib.train import train as start

    chosen = {key: value for key, value in (("method", method), ("preset", preset)) if value is not None}
    complete = build_settings(file=Path(config) if config else None, overrides={**(settings or {}), **chosen})
    count = labelled if labelled is None or isinstance(labelled, int) else Path(labelled)
    return start(Path(data), Path(out), complete, splits, count, validation, _source(init), quiet)


def resume(
    run: str | Path | RunFolder,
    device: str | None = None,
    data: str | Path | None = None,
    quiet: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> RunFolder:
    """Go on with a run that was stopped or killed, or has finished and gets more iterations.

    :param data: where its scans are now
    :param settings: those that a run may change on its way, {"training.iterations": 6000} lengthens it
    :raises SemiSegError: nothing to go on with, or a setting that cannot change
    """
    from SemiSegLib.train import resume as go_on

    return go_on(_path(run), device, Path(data) if data else None, quiet, settings)


class Predictor:
    """A trained model, ready for scan after scan.

    :param model: run folder, model file, or the name of a model (`models()`); a list: the mean of their probabilities
    :param device: auto, cuda, cuda:1, mps or cpu
    :param which: of a run folder: last, which the run's report is of, or best on the validation cases
    :param inference: settings of inference that replace the model's: mirror=True, stride=(18, 18, 4)
    :raises SemiSegError: no such model, device or setting
    """

    def __init__(
        self,
        model: str | Path | RunFolder | Sequence[str | Path | RunFolder],
        device: str = "auto",
        which: str = "last",
        **inference: Any,
    ) -> None:
        from SemiSegLib.inference.predictor import load_predictor

        models = [model] if isinstance(model, (str, Path, RunFolder)) else model
        self._predictor = load_predictor([_path(one) for one in models], device, inference, which)

    @property
    def labels(self) -> dict[str, int]:
        """Name of each class and its value in masks."""
        return {label.name: label.value for label in self._predictor.data.labels}

    def predict(
        self,
        scan: str | Path | np.ndarray | sitk.Image,
        spacing: Sequence[float] | None = None,
        affine: np.ndarray | None = None,
        frame: int | None = None,
    ) -> Result:
        """The mask of a scan, on the scan's own grid.

        :param scan: a file or a folder of DICOM slices; a SimpleITK image; or an array indexed [x, y, z] (arrays of
            SimpleITK are [z, y, x]: transpose them) together with `spacing` or `affine`
        :param spacing: mm along x, y and z, which then run to the patient's left, back and head
        :param affine: 4x4, voxel indices to mm in RAS, as nibabel's images have it
        :param frame: of a 4D file this volume, from 0
        :raises SemiSegError: unreadable or unsuitable scans
        """
        import numpy as np

        from SemiSegLib.data.arrays import scan_from_array
        from SemiSegLib.data.images import read_image, scan_from_image

        file = Path(scan) if isinstance(scan, (str, Path)) else None
        if isinstance(scan, np.ndarray):
            image = scan_from_array(scan, spacing, affine)
        elif spacing is not None or affine is not None:
            raise SettingsError("spacing and affine belong to arrays; files and images have their own.")
        else:
            image = read_image(file, frame) if file else scan_from_image(scan)
        return Result(self._predictor(image), self._predictor.data.labels, file)


class Result:
    """What was predicted for one scan. Arrays are indexed [x, y, z] on the scan's own grid."""

    def __init__(self, prediction: Prediction, labels: Sequence[Label], file: Path | None = None) -> None:
        self._prediction = prediction
        self._labels = labels
        self._file = file

    @property
    def labels(self) -> dict[str, int]:
        """Name of each class and its value in the mask."""
        return {label.name: label.value for label in self._labels}

    @property
    def mask(self) -> np.ndarray:
        """(x, y, z) values of the labels, 0 background."""
        from SemiSegLib.data.geometry import to_array

        return to_array(self._prediction.mask)

    @property
    def image(self) -> sitk.Image:
        """The mask with its place in the patient."""
        return self._prediction.mask

    @property
    def probabilities(self) -> np.ndarray:
        """(classes, x, y, z) from 0 to 1, in the order of `labels`."""
        return self._prediction.probabilities

    def distances(self) -> np.ndarray:
        """(classes, x, y, z) signed distance in mm to the border of each class, negative inside."""
        import numpy as np

        from SemiSegLib.data.geometry import to_array

        return np.stack([to_array(sdm) for sdm in self._prediction.sdm()])

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Volume of each class."""
        from SemiSegLib.data.geometry import volumes_ml

        return volumes_ml(self.mask, self.labels, self.image)

    def save(self, path: str | Path) -> None:
        """Write the mask: .nii.gz, .nrrd, .mha, or .seg.nrrd with names. Raises SemiSegError, also for the scan's own
        file, which the mask would replace."""
        from SemiSegLib.data.writing import write_mask
        from SemiSegLib.files import same_file

        path = Path(path)
        if self._file is not None and same_file(path, self._file):
            raise SemiSegError(f"{path} is the scan, which its mask would replace: name another file.")
        write_mask(self.image, path, self._labels, self._file)


def evaluate(
    predictions: str | Path | Mapping[str, str | Path],
    references: str | Path | Mapping[str, str | Path],
    **options: Any,
) -> Report:
    """Score masks in files against reference masks of the same names; see `SemiSegLib.evaluate.evaluate`."""
    from SemiSegLib.evaluate import evaluate as compare

    return compare(_files(predictions), _files(references), **options)


def score(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    labels: Mapping[str, int] | None = None,
    ignore_value: int | None = 255,
) -> CaseMetrics:
    """DSC, Jaccard, HD95 and ASSD (mm) of each class of one mask; arrays of equal shape, spacing in mm along each axis.

    :param labels: name and value of the classes; default: every value of the reference
    :param ignore_value: where the reference has it, nobody knows the truth
    :raises SemiSegError: shapes or spacing do not fit
    """
    import numpy as np

    from SemiSegLib.metrics import case_metrics

    if labels is None:
        values = [int(value) for value in np.unique(reference) if value not in (0, ignore_value)]
        labels = {f"label {value}": value for value in values}
    return case_metrics(np.asarray(prediction), np.asarray(reference), spacing, labels, ignore_value)


def models() -> dict[str, Path]:
    """Models that can be named instead of a file; see `semiseg models`."""
    from SemiSegLib.models import named_models

    return named_models()


def _files(source: str | Path | Mapping[str, str | Path]) -> Path | Mapping[str, Path]:
    return {name: Path(file) for name, file in source.items()} if isinstance(source, Mapping) else Path(source)


def _path(source: str | Path | RunFolder) -> Path:
    return source.path if isinstance(source, RunFolder) else Path(source)


def _source(source: str | Path | RunFolder | None) -> Path | None:
    return None if source is None else _path(source)
