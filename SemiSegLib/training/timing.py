"""A training of a given length: how fine, how large and how many, from the speed that this device shows.

The speed is measured with the method's own networks on random patches, in seconds. Then the finest voxel size is
taken at which enough iterations fit; a training that is too short for its resolution is worse than a coarser one.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from SemiSegLib.compute.devices import Compute
from SemiSegLib.compute.memory import give_back, out_of_memory
from SemiSegLib.config import DataSettings, Settings, SettingsError, TrainingSettings
from SemiSegLib.constants import IGNORE
from SemiSegLib.data.distance import label_distances
from SemiSegLib.data.patches import PatchSampler
from SemiSegLib.data.preprocess import Prepared
from SemiSegLib.durations import duration
from SemiSegLib.methods.base import Method
from SemiSegLib.networks.parts import compute_in
from SemiSegLib.schedules import Step

# All choices. On the left atrium 1,500 iterations gave 1.2 DSC less at 1.25 mm (twice the task's voxel size) than as
# many at 1.6 mm, and 3,500 gave 0.3 less than 6,200 at 1.6 mm in the same hour: a line through both is at zero at
# 4,000. At 1 mm 5,000 gave 0.6 less than these 6,200 in fewer minutes: more voxels want more iterations
# (Testing/Benchmarks).
COARSENINGS = (1.0, 1.25, 1.6, 2.0, 2.56)
LEAST_ITERATIONS = 4000  # at that many times the task's voxel size; at another as many more as there are more voxels
_LEAST_AT = 2.0
MOST_ITERATIONS = 40000
_FOR_TRAINING = 0.85  # of the time; preparing, validating and the report take the rest
_SMALLEST_SIDE = 32  # voxels; the bottleneck has a sixteenth of them
_TIMED = 9  # iterations, after one that is not counted; fewer, but three, once they take long
_LONG = 10.0  # seconds
Grid = tuple[tuple[float, ...], tuple[int, ...]]  # voxel size (mm), patch (voxels)


@dataclass(frozen=True)
class Timetable:
    """What fits: voxel size (mm), patch (voxels), iterations, and the seconds that one takes."""

    spacing: tuple[float, ...]
    patch: tuple[int, ...]
    iterations: int
    seconds: float

    def sentence(self, minutes: float) -> str:
        """For people."""
        size = " x ".join(f"{side:g}" for side in self.spacing if side > 0)
        patch = " x ".join(map(str, self.patch))
        end = time.strftime("%H:%M", time.localtime(time.time() + 60 * minutes))
        return (
            f"About {duration(minutes)} of training: {self.iterations:,} iterations with patches of {patch} voxels of "
            f"{size} mm, {self.seconds:.2g} s each on this device; done at about {end}."
        )


def plan_time(settings: Settings, compute: Compute, adaptable: bool, learnt: Grid | None = None) -> Timetable:
    """Fill in iterations and, where `adaptable`, voxel size and patch for `training.minutes`; returns what was chosen.

    `learnt` are voxel size and patch of the model that training starts from: it goes on with these however short the
    time, or with finer ones. The settings must be complete otherwise. Raises SettingsError when not even a few
    iterations fit, or when memory does not even suffice for one small patch at a time.
    """
    training, data = settings.training, settings.data
    assert training.patch_size is not None
    assert data.spacing is not None
    budget = _FOR_TRAINING * 60 * training.minutes
    options = [_coarser(data.spacing, training.patch_size, factor) for factor in COARSENINGS]
    if not adaptable:
        options = options[:1]
    elif learnt is not None:
        options = [*(option for option in options if _volume(option) < 0.99 * _volume(learnt)), learnt]
    if data.dimensions == 2:
        options = options[-1:] if learnt is not None and adaptable else options[:1]
    _, smallest = options[-1]
    try:
        for_voxel = measured_seconds(settings, compute, smallest) / math.prod(smallest)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise SettingsError(
            f"The device's memory does not suffice even for one patch of {' x '.join(map(str, smallest))} voxels at a "
            "time: close other programs that use it, choose a smaller --patch, a coarser --spacing or --device cpu."
        ) from error
    chosen = options[-1]
    for option in options:
        if budget / (for_voxel * math.prod(option[1])) >= _least_iterations(option, data.spacing):
            chosen = option
            break
    seconds = for_voxel * math.prod(chosen[1])
    iterations = min(MOST_ITERATIONS, int(budget / seconds))
    if iterations < 10:
        raise SettingsError(
            f"In {duration(training.minutes)} not even ten iterations fit on this device ({seconds:.1f} s each): give "
            "more time, a coarser --spacing or a smaller --patch."
        )
    data.spacing, training.patch_size, training.iterations = chosen[0], chosen[1], iterations
    settings.check()
    return Timetable(chosen[0], chosen[1], iterations, seconds)


def _least_iterations(grid: Grid, spacing: Sequence[float]) -> float:
    """Below which a coarser grid is better; `spacing` is the task's own."""
    return LEAST_ITERATIONS * math.prod(
        _LEAST_AT * own / side for own, side in zip(spacing, grid[0], strict=True) if side
    )


def _volume(grid: Grid) -> float:
    """Of a voxel, mm^3 (mm^2 of a pixel)."""
    return math.prod(side for side in grid[0] if side > 0)


def _coarser(spacing: Sequence[float], patch: Sequence[int], factor: float) -> Grid:
    """Voxels and patch coarser by a factor: the patch covers about as much of the patient as before."""
    sides = tuple(max(min(_SMALLEST_SIDE, side), 16 * round(side / factor / 16)) for side in patch)
    return tuple(round(size * factor, 4) for size in spacing), sides


def measured_seconds(settings: Settings, compute: Compute, patch: Sequence[int]) -> float:
    """Seconds of one iteration of the method with patches of this size, in the stage that takes most of the time.

    Patches of noise are drawn in a thread beside the iterations, as in training: on few cores that takes from the
    iterations, and a fast GPU waits for it. The median of a few, so that a moment of other work on the machine does not
    decide about hours. Where memory runs out, batches are computed in more parts, as in training; what PyTorch raises
    then is raised when there cannot be more of them.
    """
    from SemiSegLib.training.trainer import most_parts

    parts = max(1, settings.training.accumulation)
    while True:
        method = _method_on(settings, compute, patch)
        stage = _timed_stage(method, settings.training)
        compute_in(method, parts)
        most = most_parts(method, *_counts(method, stage, settings.training))
        try:
            return _measured(settings, compute, patch, method, stage)
        except (RuntimeError, MemoryError) as error:
            if parts >= most or not out_of_memory(error):
                raise
        del method  # with the error's own hold on it gone, its memory can be used again
        give_back(compute.device)
        parts = min(most, 2 * parts)


def _method_on(settings: Settings, compute: Compute, patch: Sequence[int]) -> Method:
    from SemiSegLib.training.trainer import build_method

    method = build_method(settings, tuple(patch)).to(compute.device)
    method.to(memory_format=compute.memory_format(settings.data.dimensions))  # type: ignore[call-overload]
    return method


def _counts(method: Method, stage: str, training: TrainingSettings) -> tuple[int, int]:
    """Labelled and unlabelled patches of a batch."""
    labelled, unlabelled = method.patches(stage, training.labelled_batch, training.unlabelled_batch)
    return labelled, unlabelled if method.needs_unlabelled else 0


def _measured(settings: Settings, compute: Compute, patch: Sequence[int], method: Method, stage: str) -> float:
    """Median seconds of some iterations."""
    training = settings.training
    step = Step(training.iterations - 1, training.iterations, stage)
    optimiser = torch.optim.SGD(method.trained_parameters(), 1e-9)
    seconds: list[float] = []
    started = time.monotonic()
    for drawn in _noise_sampler(settings, method, stage, patch, compute.device).batches(0, _TIMED + 1):
        batch = drawn.to(compute.device)
        optimiser.zero_grad(set_to_none=True)
        with compute.autocast():
            terms = method.losses(batch, step)
            total = torch.stack([term.weight * term.value for term in terms.values()]).sum()
        total.backward()
        optimiser.step()
        method.after_step(step)
        float(total.detach())  # waits for a GPU
        ended = time.monotonic()
        seconds.append(ended - started)
        started = ended
        if len(seconds) >= 4 and sum(seconds[1:]) >= _LONG:
            break
    return statistics.median(seconds[1:])


def _timed_stage(method: Method, training: TrainingSettings) -> str:
    """The longest stage; of equally long ones the one with unlabelled patches, which cost more."""

    def key(stage: str) -> tuple[float, int]:
        return method.stages[stage], method.patches(stage, training.labelled_batch, training.unlabelled_batch)[1]

    return max(method.stages, key=key)


@dataclass(frozen=True)
class _Noise(Prepared):
    """A case of noise, held in memory; larger than a patch, so that patches lie anywhere in it."""

    held: dict[str, np.ndarray] = field(default_factory=dict)

    def image(self) -> np.ndarray:
        return self.held["image"]

    def mask(self) -> np.ndarray:
        return self.held["mask"]

    def sdm(self) -> np.ndarray:
        return self.held["sdm"]

    def foreground(self) -> list[np.ndarray]:
        mask = self.mask()
        return [np.argwhere(mask == index) for index in range(1, int(mask.max()) + 1)]


class _NoiseSampler(PatchSampler):
    """Gives unlabelled cases labels, as a training does for stages that learn from labels of its own."""

    labelling = False

    def own_labels(self, case: Prepared) -> np.ndarray | None:
        return case.mask() if self.labelling else None


def _noise_sampler(
    settings: Settings, method: Method, stage: str, patch: Sequence[int], device: torch.device
) -> PatchSampler:
    """Draws patches of this size for a stage, as the trainer's does; every class occurs in them."""
    training = dataclasses.replace(settings.training, patch_size=tuple(patch))
    case = _noise(patch, settings.data, method.needs_sdm and settings.data.sdm_normalisation == "case")
    sampler = _NoiseSampler(
        [case],
        [case] if method.needs_unlabelled else [],
        settings.data,
        training,
        method.needs_sdm,
        settings.augmentation,
        method.unlabelled_views,
        device,
    )
    sampler.counts_at = lambda iteration: _counts(method, stage, training)
    sampler.labelling = stage in method.labelling
    return sampler


def _noise(patch: Sequence[int], data: DataSettings, sdm: bool) -> _Noise:
    """Stripes of all classes, one and a half patches long along each axis (slices: three of them); `sdm`: with distance
    maps of the whole case."""
    sides = (*patch, 3)[:3]
    shape = tuple(side * 3 // 2 if axis < data.dimensions else side for axis, side in enumerate(sides))
    assert data.spacing is not None
    spacing = tuple(size or 1.0 for size in data.spacing)  # 0: that of the scan's slices
    image = np.random.default_rng(0).standard_normal(shape).astype(np.float16)
    classes = len(data.labels)
    mask = (np.indices(shape).sum(0) // 4 % (classes + 1)).astype(np.uint8)
    held = {"image": image, "mask": mask}
    if sdm:
        slice_axis = 2 if data.dimensions == 2 else None
        held["sdm"] = label_distances(mask, range(1, classes + 1), spacing, IGNORE, slice_axis).astype(np.float16)
    return _Noise("noise", Path(), shape, spacing, True, held=held)  # type: ignore[arg-type]
