"""Drawing patches: the batch of an iteration is a function of the seed and the iteration alone.

So training resumes exactly without storing any state of the data pipeline, and may draw ahead in a thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from SemiSegLib.compute.distributed import rank_slice
from SemiSegLib.compute.memory import out_of_memory
from SemiSegLib.config import AugmentationSettings, DataSettings, TrainingSettings
from SemiSegLib.constants import IGNORE
from SemiSegLib.data.augmentation import Turn, random_box, random_share, random_turn, turn_matrix, turned
from SemiSegLib.data.batch import Batch, Patches
from SemiSegLib.data.distance import label_distances, normalise
from SemiSegLib.data.intensity import change_intensity
from SemiSegLib.data.origins import turns
from SemiSegLib.data.preprocess import Prepared
from SemiSegLib.data.warping import Resampler, Warp, random_warp

logger = logging.getLogger(__name__)

_LABELLED, _UNLABELLED, _ORDER = 0, 1, 2  # streams of random numbers


class PatchSampler:
    """Batches of `labelled_batch` + `unlabelled_batch` patches.

    Both streams go through their cases in random order, again and again. What is done to a random crop,
    `augmentation.geometry` says: `turns`, as in UA-MT, a quarter turn in the x-y plane and a flip along x or y; `warp`
    one resampling that turns, scales, mirrors and deforms. Image, mask and distance map are treated alike.
    """

    def __init__(
        self,
        labelled: Sequence[Prepared],
        unlabelled: Sequence[Prepared],
        data: DataSettings,
        training: TrainingSettings,
        sdm: bool,
        augmentation: AugmentationSettings | None = None,
        unlabelled_views: Sequence[str] = ("strong",),
        device: torch.device | None = None,
    ) -> None:
        self.augmentation = augmentation or AugmentationSettings(geometry="turns", intensity=0)
        self.unlabelled_views = unlabelled_views
        # Where patches are warped: a CUDA GPU does in a hundredth of a second what would make it wait for a CPU.
        self.device = device if device is not None and device.type == "cuda" else torch.device("cpu")
        self.labels: Path | None = None  # folder of the labels that the training itself made
        assert training.patch_size is not None
        self.cases = (list(labelled), list(unlabelled))
        self._turns = turns([case.origin for case in labelled])
        self.all_unlabelled = list(unlabelled)
        self.counts = (training.labelled_batch, training.unlabelled_batch if unlabelled else 0)
        self.counts_at: Callable[[int], tuple[int, int]] = lambda iteration: self.counts
        self.data, self.training, self.sdm = data, training, sdm
        self.patch = (*training.patch_size, 1)[:3]  # a slice is one voxel thick
        self.flat = data.dimensions == 2
        self._foreground = [case.foreground() for case in labelled]
        self._scale = _case_scales(labelled) if sdm and data.sdm_normalisation == "case" else None

    def draw(self, iteration: int) -> Batch:
        """The batch of an iteration; of several ranks each has its part.

        Where patches are warped on a GPU that is full at the moment, the CPU warps them from then on.
        """
        try:
            return self._drawn(iteration)
        except RuntimeError as error:
            if self.device.type == "cpu" or not out_of_memory(error):
                raise
        logger.warning("memory ran out on %s while patches were drawn: the CPU draws them from now on", self.device)
        self.device = torch.device("cpu")
        return self._drawn(iteration)

    def _drawn(self, iteration: int) -> Batch:
        return Batch(self._draw_stream(iteration, _LABELLED), self._draw_stream(iteration, _UNLABELLED))

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Batches of the iterations `first` to `last` - 1, each drawn while the one before it is used."""
        with ThreadPoolExecutor(1) as thread:
            ahead: Future[Batch] = thread.submit(self.draw, first)
            labels = self.labels
            for iteration in range(first, last):
                batch = ahead.result()
                if self.labels != labels:  # they were made after this batch had been drawn
                    batch, labels = self.draw(iteration), self.labels
                if iteration + 1 < last:
                    ahead = thread.submit(self.draw, iteration + 1)
                yield batch

    def use_labels(self, folder: Path, names: Sequence[str]) -> None:
        """From now on unlabelled patches have the labels in `folder` (see training.labelling), of these cases alone."""
        self.labels = folder
        self.cases = (self.cases[0], [case for case in self.all_unlabelled if case.name in set(names)])

    def usual_classes(self) -> list[int]:
        """Classes (1, ...) that at least half of the annotated scans have."""
        having = [sum(len(voxels) > 0 for voxels in classes) for classes in zip(*self._foreground, strict=True)]
        return [index for index, count in enumerate(having, start=1) if 2 * count >= len(self._foreground)]

    def _draw_stream(self, iteration: int, stream: int) -> Patches:
        count = self.counts_at(iteration)[stream]
        drawn = [self._draw_patch(iteration, slot, stream) for slot in range(count)[rank_slice(count)]]
        if not drawn:
            images = torch.empty((0, 1, *self.patch[: self.data.dimensions]))
            return Patches(images, torch.empty(0), torch.empty(0), torch.empty((0, 3, 4)), torch.empty(0))
        return Patches(*(torch.stack(values) for values in zip(*drawn, strict=True)))

    def _draw_patch(self, iteration: int, slot: int, stream: int) -> tuple[torch.Tensor, ...]:
        """(image, mask, distance maps, frame, further views); what a patch does not have is empty."""
        random = np.random.default_rng([self.training.seed, stream, iteration, slot])
        index = self._case_index(iteration * self.counts_at(iteration)[stream] + slot, stream)
        case = self.cases[stream][index]
        centre = self._centre(case, index, stream, random)
        start = [self._start(axis, case.shape[axis], centre, random) for axis in range(3)]
        if self.augmentation.geometry == "warp":
            return self._warped(case, index, start, stream, random)
        turn = random_turn(self.patch, self.training, random, case.spacing[1] / case.spacing[0])
        image = self._cut(case.image(), start, turn, 0.0, smooth=True).float()
        image, views = self._views(image, stream, random)
        frame = self._frame(case.shape, start, turn)
        nothing = torch.empty(0)
        if stream == _UNLABELLED:
            return image, nothing, nothing, frame, views
        mask = self._cut(case.mask(), start, turn, IGNORE)
        return image, mask, self._sdm(case, index, start, turn) if self.sdm else nothing, frame, views

    def _warped(
        self, case: Prepared, index: int, start: Sequence[int], stream: int, random: np.random.Generator
    ) -> tuple[torch.Tensor, ...]:
        """The same, resampled once; distance maps are those of the resampled mask, within the patch."""
        labels = case.mask() if stream == _LABELLED else self.own_labels(case)
        image, mask, warp = self._resampled(case, labels, start, random)
        if mask is not None and stream == _LABELLED and random_share(random, self.augmentation.context):
            image, mask = self._in_context(image, mask, random)
        image, views = self._views(image[..., 0] if self.flat else image, stream, random)
        frame = _warp_frame(warp, self.patch, case.shape)
        nothing = torch.empty(0)
        if mask is None:
            return image, nothing, nothing, frame, views
        maps = [mask]
        if self.sdm and stream == _LABELLED:
            maps.append(self._distances(mask.cpu().numpy(), case.spacing, index))
        mask, *sdm = (each[..., 0] if self.flat else each for each in maps)
        return image, mask, sdm[0] if sdm else nothing, frame, views

    def _resampled(
        self, case: Prepared, labels: np.ndarray | None, start: Sequence[int], random: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None, Warp]:
        """(image, mask or None, how they were warped) of the crop that begins at `start`."""
        middle = [first + (side - 1) / 2 for first, side in zip(start, self.patch, strict=True)]
        warp = random_warp(random, middle, self.patch, case.spacing, self.augmentation)
        cut = Resampler(warp, self.patch, self.device)
        image = cut(case.image(), smooth=True)
        mask = None if labels is None else cut(labels, smooth=False, padding=IGNORE).to(torch.uint8)
        return image, mask, warp

    def _in_context(
        self, image: torch.Tensor, mask: torch.Tensor, random: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A random box of the patch, and around it air (no structure) or the same part of another annotated scan's
        patch, with its mask: what a network sees at the border of the field of view that it was trained on."""
        air = float(image.min()) - random.random()  # at most one sd darker than what the patch shows (choice)
        around = torch.full_like(image, air), torch.zeros_like(mask)
        if random.random() < 0.5:  # a choice
            index = int(random.integers(len(self.cases[_LABELLED])))
            case = self.cases[_LABELLED][index]
            centre = self._centre(case, index, _LABELLED, random)
            start = [self._start(axis, case.shape[axis], centre, random) for axis in range(3)]
            other, labels, _ = self._resampled(case, case.mask(), start, random)
            assert labels is not None
            around = other, labels
        box = random_box(random, self.patch)
        around[0][box], around[1][box] = image[box], mask[box]
        return around

    def _views(
        self, image: torch.Tensor, stream: int, random: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(the patch as a batch shows it (1, *S), further views (V, 1, *S)): weak as it is, strong changed."""

        def view(kind: str) -> torch.Tensor:
            if kind == "weak" or self.augmentation.intensity <= 0:
                return image[None]
            solid = image[..., None] if self.flat else image
            changed = change_intensity(solid, random, self.augmentation.intensity)
            return (changed[..., 0] if self.flat else changed)[None]

        if stream == _LABELLED:
            return view("strong"), torch.empty(0)
        first, *others = (view(kind) for kind in self.unlabelled_views)
        return first, torch.stack(others) if others else torch.empty(0)

    def own_labels(self, case: Prepared) -> np.ndarray | None:
        """The labels that the training itself gave an unlabelled case, (x, y, z) class indices; None before that."""
        return np.load(self.labels / f"{case.name}.npy", mmap_mode="r") if self.labels else None

    def _distances(self, mask: np.ndarray, spacing: Sequence[float], index: int) -> torch.Tensor:
        """(classes, x, y, z) distances within a patch of the labelled case `index`, scaled."""
        axis = 2 if self.flat else None
        return self._scaled(label_distances(mask, range(1, len(self.data.labels) + 1), spacing, IGNORE, axis), index)

    def _scaled(self, maps: np.ndarray, index: int) -> torch.Tensor:
        """Distances (classes, x, y, z) in mm as targets, -1 to 1."""
        if self._scale is None:
            return torch.from_numpy(normalise(maps, 3))
        found, (outside, inside) = torch.from_numpy(maps), self._scale[index]
        return torch.where(found > 0, found / outside, found / inside)

    def _case_index(self, place: int, stream: int) -> int:
        """Case at a place in an endless sequence of random orders; drawn masks have more turns than accepted ones."""
        chosen = self._turns if stream == _LABELLED else range(len(self.cases[stream]))
        count = len(chosen)
        order = np.random.default_rng([self.training.seed, _ORDER, stream, place // count]).permutation(count)
        return chosen[int(order[place % count])]

    def _centre(self, case: Prepared, index: int, stream: int, random: np.random.Generator) -> tuple[float, ...] | None:
        """Voxel to centre the patch on, or None for a uniform crop.

        Unlabelled scans have no mask to look at: a place where a labelled scan has foreground, relative to the size
        of the scan, stands in for it.
        """
        if random.random() >= self.training.foreground_fraction:
            return None
        source = index if stream == _LABELLED else int(random.integers(len(self._foreground)))
        classes = [voxels for voxels in self._foreground[source] if len(voxels)]
        if not classes:
            return None
        voxels = classes[random.integers(len(classes))]
        voxel = voxels[random.integers(len(voxels))] + 0.5
        shape = np.array(self.cases[_LABELLED][source].shape)
        return tuple(voxel / shape * np.array(case.shape))

    def _start(self, axis: int, length: int, centre: tuple[float, ...] | None, random: np.random.Generator) -> int:
        """First voxel of the crop; negative (padding on both sides) where the scan is smaller than the patch."""
        side = self.patch[axis]
        if length <= side:
            return -((side - length) // 2)
        if centre is None:
            return int(random.integers(length - side + 1))
        jitter = random.uniform(-0.25, 0.25) * side  # a choice: the voxel is not always in the middle
        return int(np.clip(round(centre[axis] - side / 2 + jitter), 0, length - side))

    def _cut(
        self, volume: np.ndarray, start: Sequence[int], turn: Turn, padding: float, smooth: bool = False
    ) -> torch.Tensor:
        """Crop, pad, turn and flip a volume (x, y, z); a slice loses its z axis. `smooth`: turn by interpolation."""
        inside = self._inside(volume.shape, start)
        crop = np.array(volume[inside])
        if crop.shape != self.patch:
            margins = [(a.start - s, s + p - a.stop) for a, s, p in zip(inside, start, self.patch, strict=True)]
            crop = np.pad(crop, margins, constant_values=padding)
        tensor = turned(torch.from_numpy(crop), turn, padding, smooth)
        return (tensor[..., 0] if self.flat else tensor).contiguous()

    def _inside(self, shape: Sequence[int], start: Sequence[int]) -> tuple[slice, ...]:
        """The part of a volume that a crop shows."""
        sides = zip(start, self.patch, shape, strict=True)
        return tuple(slice(max(first, 0), min(first + side, length)) for first, side, length in sides)

    def _frame(self, shape: Sequence[int], start: Sequence[int], turn: Turn) -> torch.Tensor:
        """The affine map (3, 4) from a patch, as `_cut` returns it, to its scan; coordinates are 0 to 1 along axes."""
        crop = np.eye(4)
        for axis in range(3):
            crop[axis, axis], crop[axis, 3] = self.patch[axis] / shape[axis], start[axis] / shape[axis]
        whole = crop @ turn_matrix(self.patch, turn)
        return torch.tensor(whole[:3], dtype=torch.float32)

    def _sdm(self, case: Prepared, index: int, start: Sequence[int], turn: Turn) -> torch.Tensor:
        """Distances within the crop, before it is padded and turned, as in the papers' code; or cut from the scan's."""
        inside = self._inside(case.shape, start)
        if self._scale is None:
            scaled = self._distances(np.ascontiguousarray(case.mask()[inside]), case.spacing, index)
        else:
            where = (slice(None), *inside)
            scaled = self._scaled(np.asarray(case.sdm()[where], np.float32), index)
        place = [first - part.start for first, part in zip(start, inside, strict=True)]
        return torch.stack([self._cut(channel, place, turn, np.nan) for channel in scaled.numpy()])


def _warp_frame(warp: Warp, sides: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    """(3, 4): the affine part of a warp as `_frame` gives it, from 0 to 1 in the patch to 0 to 1 in the scan."""
    half = np.eye(4)
    half[:3, 3] = 0.5  # voxel centres lie half a voxel behind a scan's edge
    inside = np.diag([*sides, 1.0])
    whole = np.diag([*(1 / np.asarray(shape)), 1.0]) @ half @ warp.matrix @ np.linalg.inv(half) @ inside
    return torch.tensor(whole[:3], dtype=torch.float32)


def _case_scales(cases: Sequence[Prepared]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Largest distance outside and inside each class of each case, shaped to divide maps (classes, x, y, z)."""
    scales = []
    for case in cases:
        flat = np.nan_to_num(np.asarray(case.sdm(), np.float32).reshape(len(case.sdm()), -1))
        shape = (len(flat), 1, 1, 1)
        outside, inside = (np.clip(side, 1e-6, None).reshape(shape) for side in (flat.max(1), -flat.min(1)))
        scales.append((torch.from_numpy(outside), torch.from_numpy(inside)))
    return scales
