"""A trained model applied to a scan, the result on the scan's own grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from SemiSegLib.compute.devices import Compute, choose_compute, compute_to_predict
from SemiSegLib.config import InferenceSettings
from SemiSegLib.data.box import Box
from SemiSegLib.data.components import cleaned
from SemiSegLib.data.distance import label_distances
from SemiSegLib.data.geometry import from_array, to_array
from SemiSegLib.data.grid import back_to_scan, to_network_grid
from SemiSegLib.inference.folding import for_inference
from SemiSegLib.inference.windows import predict_probabilities
from SemiSegLib.models import Model, ModelError, load_model

if TYPE_CHECKING:
    import SimpleITK as sitk


@dataclass
class Prediction:
    """Results on the scan's own grid.

    mask           label values (uint8 or uint16), 0 background
    probabilities  float32 (classes, x, y, z), foreground classes in the order of the labels
    """

    scan: sitk.Image
    mask: sitk.Image
    probabilities: np.ndarray
    indices: np.ndarray

    def sdm(self) -> list[sitk.Image]:
        """For each label the signed distance to its predicted mask, mm, float32: exact, negative inside."""
        values = range(1, len(self.probabilities) + 1)
        maps = label_distances(self.indices, values, self.scan.GetSpacing())
        return [from_array(sdm, self.scan) for sdm in maps]

    def probability_images(self) -> list[sitk.Image]:
        """For each label its probability, 0 to 1, float32."""
        return [from_array(channel, self.scan) for channel in self.probabilities]


class Predictor:
    """Predicts scans with one model; keeps the network on the device in between.

    >>> predictor = Predictor(load_model(Path("run")))                               # doctest: +SKIP
    >>> prediction = predictor(read_image(Path("scan.nii.gz")))                      # doctest: +SKIP
    """

    def __init__(self, model: Model, compute: Compute | None = None, settings: InferenceSettings | None = None) -> None:
        self.card = model.card
        self.compute = compute or choose_compute()
        self.settings = settings or self.card.settings.inference
        self.data = self.card.settings.data
        self.mirror_axes = self.card.settings.augmentation.mirror_axes
        self.network = for_inference(model.network(), self.compute)

    def __call__(self, scan: sitk.Image, box: Box | None = None) -> Prediction:
        """Predict one scan; raises SemiSegError if it cannot be brought to the networks' grid.

        :param box: predict this part of it alone: intensities are those of the whole scan, the network sees what lies
            around the part, and the prediction is on the part's voxels
        """
        foreground, part = self.foreground(scan, box)
        return self.decided(foreground, part, whole=box is None)

    def foreground(self, scan: sitk.Image, box: Box | None = None) -> tuple[np.ndarray, sitk.Image]:
        """(probabilities of the labels, float32 (classes, x, y, z), the scan or its part whose voxels they are of).

        Arguments and errors are those of a call.
        """
        grid = to_network_grid(scan, self.data)
        if box is None:
            return self._back(self.probabilities(to_array(grid)), grid, scan), scan
        part = box.of(scan)
        seen = box.on(grid, scan, self._context).of(grid)
        return self._back(self.probabilities(to_array(seen)), seen, part), part

    @property
    def _context(self) -> tuple[int, ...]:
        """Voxels that the network looks at in one piece; one slice, where it knows slices only."""
        patch = self.card.settings.training.patch_size
        assert patch is not None
        return (*patch, 1)[:3]

    def on_scan(self, on_grid: np.ndarray, grid: sitk.Image, scan: sitk.Image) -> Prediction:
        """The prediction that probabilities (C, x, y, z) on the networks' grid amount to."""
        return self.decided(self._back(on_grid, grid, scan), scan)

    @staticmethod
    def _back(on_grid: np.ndarray, grid: sitk.Image, scan: sitk.Image) -> np.ndarray:
        # A single foreground class needs one channel; with more, background takes part in the choice.
        return np.stack([back_to_scan(channel, grid, scan, 0.0) for channel in on_grid[1:]])

    def decided(self, foreground: np.ndarray, scan: sitk.Image, whole: bool = True) -> Prediction:
        """The prediction that probabilities of the labels (classes, x, y, z) on the scan's own grid amount to.

        :param whole: the scan is a whole one; of a part nobody knows which piece of a label is its largest
        """
        indices = _choose(foreground)
        if whole:
            indices = cleaned(indices, foreground.sum(0), len(foreground), self.settings)
        values = np.array([0, *(label.value for label in self.data.labels)])
        mask = values[indices].astype(np.uint8 if values.max() < 256 else np.uint16)
        return Prediction(scan, from_array(mask, scan), foreground, indices)

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """Probabilities (C, x, y, z) of a normalised scan (x, y, z) on the networks' grid."""
        patch = self.card.settings.training.patch_size
        assert patch is not None
        tensor = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
        return predict_probabilities(self.network, tensor, patch, self.settings, self.compute, self.mirror_axes).numpy()


class Committee:
    """Several models as one: the mean of their probabilities on the scan's own grid; costs as much as all of them.

    Networks and voxel sizes may differ, labels may not: ModelError. What is kept of a mask is as the first one says.
    """

    def __init__(self, members: Sequence[Predictor]) -> None:
        self.members = list(members)
        self.data = self.members[0].data
        first, *others = ([(label.value, label.name) for label in member.data.labels] for member in self.members)
        for number, labels in enumerate(others, start=2):
            if labels != first:
                raise ModelError(
                    f"Model {number} of those named has the labels {_listed(labels)}, the first one {_listed(first)}: "
                    "only models of the same labels predict together. Leave it out, or predict with it by itself."
                )

    def __call__(self, scan: sitk.Image, box: Box | None = None) -> Prediction:
        """Predict one scan, or the part of it in the `box`; raises SemiSegError as `Predictor` does."""
        total, part = self.members[0].foreground(scan, box)
        for member in self.members[1:]:
            total += member.foreground(scan, box)[0]
        return self.members[0].decided(total / len(self.members), part, whole=box is None)


def load_predictor(
    source: Path | Sequence[Path],
    device: str = "auto",
    changes: Mapping[str, Any] | None = None,
    which: str = "last",
) -> Predictor | Committee:
    """A predictor for a model file, run folder or model's name, or for several together; see `predictor_of`.

    `which` of a run's models, see `models.model_file`. Raises SemiSegError for a model, device or setting that does not
    exist.
    """
    sources = [source] if isinstance(source, Path) else source
    return predictor_of([load_model(one, which) for one in sources], device, changes or {})


def predictor_of(models: Sequence[Model], device: str, changes: Mapping[str, Any]) -> Predictor | Committee:
    """A predictor for loaded models; `changes` are settings of inference by name, in force for each of them.

    Raises ModelError for none, or for labels that differ, and SemiSegError for a device or setting that does not exist.
    """
    if not models:
        raise ModelError("No model is named: give a model file, a run folder or a model's name.")
    for model in models:
        model.card.settings.change_inference(changes)
    compute = compute_to_predict(device, models[0].card.settings.training.precision)
    members = [Predictor(model, compute) for model in models]
    return members[0] if len(members) == 1 else Committee(members)


def _listed(labels: Sequence[tuple[int, str]]) -> str:
    return ", ".join(f"{value} {name}" for value, name in labels)


def _choose(foreground: np.ndarray) -> np.ndarray:
    """Class indices (x, y, z) from the foreground probabilities; background is what they leave of 1."""
    best = foreground.argmax(0).astype(np.uint8)
    rest = 1 - foreground.sum(0)
    highest = np.take_along_axis(foreground, best[None].astype(np.intp), 0)[0]
    return np.where(highest > rest, best + 1, 0).astype(np.uint8)
