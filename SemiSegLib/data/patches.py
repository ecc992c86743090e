"""Drawing patches: the batch of an iteration is a function of the seed and the iteration alone.

So training resumes exactly without storing any state of the data pipeline, and may draw ahead in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from SemiSegLib.compute.distributed import rank_slice
from SemiSegLib.config import DataSettings, TrainingSettings
from SemiSegLib.constants import IGNORE
from SemiSegLib.data.augmentation import Turn, random_turn, turn_matrix, turned
from SemiSegLib.data.batch import Batch, Patches
from SemiSegLib.data.distance import normalise
from SemiSegLib.data.preprocess import Prepared

_LABELLED, _UNLABELLED, _ORDER = 0, 1, 2  # streams of random numbers


class PatchSampler:
    """Batches of `labelled_batch` + `unlabelled_batch` patches.

    Both streams go through their cases in random order, again and again. Augmentation as in UA-MT: a random crop, a
    quarter turn in the x-y plane, a flip along x or along y; image, mask and distance map alike.
    """

    def __init__(
        self,
        labelled: Sequence[Prepared],
        unlabelled: Sequence[Prepared],
        data: DataSettings,
        training: TrainingSettings,
        sdm: bool,
    ) -> None:
        assert training.patch_size is not None
        self.cases = (list(labelled), list(unlabelled))
        self.counts = (training.labelled_batch, training.unlabelled_batch if unlabelled else 0)
        self.data, self.training, self.sdm = data, training, sdm
        self.patch = (*training.patch_size, 1)[:3]  # a slice is one voxel thick
        self.flat = data.dimensions == 2
        self._foreground = [case.foreground() for case in labelled]
        self._scale = _case_scales(labelled, data.dimensions) if sdm and data.sdm_normalisation == "case" else None

    def draw(self, iteration: int) -> Batch:
        """The batch of an iteration, as CPU tensors; of several ranks each has its part."""
        return Batch(self._draw_stream(iteration, _LABELLED), self._draw_stream(iteration, _UNLABELLED))

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Batches of the iterations `first` to `last` - 1, each drawn while the one before it is used."""
        with ThreadPoolExecutor(1) as thread:
            ahead: Future[Batch] = thread.submit(self.draw, first)
            for iteration in range(first, last):
                batch = ahead.result()
                if iteration + 1 < last:
                    ahead = thread.submit(self.draw, iteration + 1)
                yield batch

    def _draw_stream(self, iteration: int, stream: int) -> Patches:
        count = self.counts[stream]
        drawn = [self._draw_patch(iteration, slot, stream) for slot in range(count)[rank_slice(count)]]
        if not drawn:
            images = torch.empty((0, 1, *self.patch[: self.data.dimensions]))
            return Patches(images, torch.empty(0), torch.empty(0), torch.empty((0, 3, 4)))
        return Patches(*(torch.stack(values) for values in zip(*drawn, strict=True)))

    def _draw_patch(
        self, iteration: int, slot: int, stream: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """(image, mask, distance maps, frame); what a patch does not have is empty."""
        random = np.random.default_rng([self.training.seed, stream, iteration, slot])
        index = self._case_index(iteration * self.counts[stream] + slot, stream)
        case = self.cases[stream][index]
        centre = self._centre(case, index, stream, random)
        start = [self._start(axis, case.shape[axis], centre, random) for axis in range(3)]
        turn = random_turn(self.patch, self.training, random)
        image = self._cut(case.image(), start, turn, 0.0, smooth=True)[None].float()
        frame = self._frame(case.shape, start, turn)
        nothing = torch.empty(0)
        if stream == _UNLABELLED:
            return image, nothing, nothing, frame
        mask = self._cut(case.mask(), start, turn, IGNORE)
        return image, mask, self._sdm(case, index, start, turn) if self.sdm else nothing, frame

    def _case_index(self, place: int, stream: int) -> int:
        """Case at a place in an endless sequence of random orders."""
        count = len(self.cases[stream])
        order = np.random.default_rng([self.training.seed, _ORDER, stream, place // count]).permutation(count)
        return int(order[place % count])

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
        jitter = random.uniform(-0.25, 0.25) * side
        return int(np.clip(round(centre[axis] - side / 2 + jitter), 0, length - side))

    def _cut(
        self, volume: np.ndarray, start: Sequence[int], turn: Turn, padding: float, smooth: bool = False
    ) -> torch.Tensor:
        """Crop, pad, turn and flip a volume (x, y, z); a slice loses its z axis. `smooth`: turn by interpolation."""
        wanted = [(s, s + p) for s, p in zip(start, self.patch, strict=True)]
        inside = [(max(a, 0), min(b, n)) for (a, b), n in zip(wanted, volume.shape, strict=True)]
        crop = np.array(volume[tuple(slice(a, b) for a, b in inside)])
        if crop.shape != self.patch:
            margins = [(c - a, b - d) for (a, b), (c, d) in zip(wanted, inside, strict=True)]
            crop = np.pad(crop, margins, constant_values=padding)
        tensor = turned(torch.from_numpy(crop), turn, padding, smooth)
        return (tensor[..., 0] if self.flat else tensor).contiguous()

    def _frame(self, shape: Sequence[int], start: Sequence[int], turn: Turn) -> torch.Tensor:
        """The affine map (3, 4) from a patch, as `_cut` returns it, to its scan; coordinates are 0 to 1 along axes."""
        crop = np.eye(4)
        for axis in range(3):
            crop[axis, axis], crop[axis, 3] = self.patch[axis] / shape[axis], start[axis] / shape[axis]
        whole = crop @ turn_matrix(self.patch, turn)
        return torch.tensor(whole[:3], dtype=torch.float32)

    def _sdm(self, case: Prepared, index: int, start: Sequence[int], turn: Turn) -> torch.Tensor:
        maps = torch.stack([self._cut(channel, start, turn, np.nan) for channel in case.sdm()]).float()
        if self._scale is not None:
            outside, inside = self._scale[index]
            return torch.where(maps > 0, maps / outside, maps / inside)
        return torch.from_numpy(_within_patch(maps.numpy(), self.data.dimensions))


def _within_patch(maps: np.ndarray, dimensions: int) -> np.ndarray:
    """Each side divided by its maximum within the patch; a patch without foreground is all zeros (SASSNet's code)."""
    scaled = normalise(maps, dimensions)
    for channel in scaled:
        if not np.nanmin(channel, initial=np.inf) <= 0:
            channel[~np.isnan(channel)] = 0
    return scaled


def _case_scales(cases: Sequence[Prepared], dimensions: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Largest distance outside and inside each class of each case, shaped to divide patches (classes, *S)."""
    scales = []
    for case in cases:
        flat = np.nan_to_num(np.asarray(case.sdm(), np.float32).reshape(len(case.sdm()), -1))
        shape = (len(flat),) + (1,) * dimensions
        outside, inside = (np.clip(side, 1e-6, None).reshape(shape) for side in (flat.max(1), -flat.min(1)))
        scales.append((torch.from_numpy(outside), torch.from_numpy(inside)))
    return scales
