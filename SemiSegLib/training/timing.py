"""A training of a given length: how fine, how large and how many, from the speed that this device shows.

The speed is measured with the method's own networks on random patches, in seconds. Then the finest voxel size is
taken at which enough iterations fit; a training that is too short for its resolution is worse than a coarser one.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from SemiSegLib.compute.devices import Compute
from SemiSegLib.config import Settings, SettingsError, TrainingSettings
from SemiSegLib.data.batch import Batch, Patches
from SemiSegLib.durations import duration
from SemiSegLib.methods.base import Method
from SemiSegLib.schedules import Step

# All choices. On the left atrium, 1,500 iterations were worth more at 1.6 mm than at 1.25 mm; see Testing/Benchmarks.
COARSENINGS = (1.0, 1.25, 1.6, 2.0, 2.56)
LEAST_ITERATIONS = 3000
MOST_ITERATIONS = 40000
_FOR_TRAINING = 0.85  # of the time; preparing, validating and the report take the rest
_SMALLEST_SIDE = 32  # voxels; the bottleneck has a sixteenth of them
_TIMED = 9  # iterations, after one that is not counted; fewer, but three, once they take long
_LONG = 10.0  # seconds
_WHILE_DRAWING = 1.2  # a choice: on a CPU drawing patches takes cores from iterations, a fifth of all work with slices
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
    iterations fit.
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
    for_voxel = measured_seconds(settings, compute, smallest) / math.prod(smallest)
    chosen = options[-1]
    for option in options:
        if budget / (for_voxel * math.prod(option[1])) >= LEAST_ITERATIONS:
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


def _volume(grid: Grid) -> float:
    """Of a voxel, mm^3 (mm^2 of a pixel)."""
    return math.prod(side for side in grid[0] if side > 0)


def _coarser(spacing: Sequence[float], patch: Sequence[int], factor: float) -> Grid:
    """Voxels and patch coarser by a factor: the patch covers about as much of the patient as before."""
    sides = tuple(max(min(_SMALLEST_SIDE, side), 16 * round(side / factor / 16)) for side in patch)
    return tuple(round(size * factor, 4) for size in spacing), sides


def measured_seconds(settings: Settings, compute: Compute, patch: Sequence[int]) -> float:
    """Seconds of one iteration of the method with patches of this size, in the stage that takes most of the time.

    The median of a few, so that a moment of other work on the machine does not decide about hours; on a CPU with the
    time that drawing the patches takes.
    """
    from SemiSegLib.training.trainer import build_method

    method = build_method(settings, tuple(patch)).to(compute.device)
    method.to(memory_format=compute.memory_format(settings.data.dimensions))  # type: ignore[call-overload]
    training = settings.training
    stage = _timed_stage(method, training)
    labelled, unlabelled = method.patches(stage, training.labelled_batch, training.unlabelled_batch)
    if not method.needs_unlabelled:
        unlabelled = 0
    batch = _random_batch(settings, patch, labelled, unlabelled, len(method.unlabelled_views) - 1).to(compute.device)
    step = Step(training.iterations - 1, training.iterations, stage)
    optimiser = torch.optim.SGD(method.trained_parameters(), 1e-9)
    seconds: list[float] = []
    while len(seconds) <= _TIMED and (len(seconds) < 4 or sum(seconds[1:]) < _LONG):
        started = time.monotonic()
        optimiser.zero_grad(set_to_none=True)
        with compute.autocast():
            terms = method.losses(batch, step)
            total = torch.stack([term.weight * term.value for term in terms.values()]).sum()
        total.backward()
        optimiser.step()
        method.after_step(step)
        float(total.detach())  # waits for a GPU
        seconds.append(time.monotonic() - started)
    return statistics.median(seconds[1:]) * (_WHILE_DRAWING if compute.device.type == "cpu" else 1.0)


def _timed_stage(method: Method, training: TrainingSettings) -> str:
    """The longest stage; of equally long ones the one with unlabelled patches, which cost more."""

    def key(stage: str) -> tuple[float, int]:
        return method.stages[stage], method.patches(stage, training.labelled_batch, training.unlabelled_batch)[1]

    return max(method.stages, key=key)


def _random_batch(settings: Settings, patch: Sequence[int], labelled: int, unlabelled: int, views: int) -> Batch:
    """A batch of noise in which every class occurs."""
    generator = torch.Generator().manual_seed(0)
    classes = len(settings.data.labels)

    def patches(count: int, more: int) -> Patches:
        image = torch.randn(count, 1, *patch, generator=generator)
        mask = torch.randint(classes + 1, (count, *patch), generator=generator, dtype=torch.uint8)
        sdm = torch.rand(count, classes, *patch, generator=generator) * 2 - 1
        frame = torch.eye(3, 4).expand(count, 3, 4)
        further = torch.randn(count, more, 1, *patch, generator=generator) if more > 0 else torch.empty(0)
        return Patches(image, mask, sdm, frame, further)

    return Batch(patches(labelled, 0), patches(unlabelled, views))
