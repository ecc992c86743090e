"""A short adaptation of a trained network to one scan, after what a person drew on it: strokes or corrected slices.

Each step sees a patch of the scan around something drawn, and a patch of an old annotation where there are any:

    L = CE on the drawn voxels (every class counts the same) + (1 - near) * KL(before || now) elsewhere
        + (CE + Dice) / 2 on the old annotation

`near` = exp(-d^2 / (2 reach^2)), d the distance in mm to the nearest drawn voxel that the network had wrong: around a
correction the mask may change, far from it it must stay. Batch statistics stay those of the training; dropout is off.
The adapted network has the mean weights of all steps: where the last step ends is chance, and it may be a bad place.
Its probabilities are mixed with those from before by the weight `near`, so that nothing changes far away, and what was
drawn is written over the mask. It ends when the strokes are followed, or when the time is up.

A network that is kept for other scans lies half-way between the old weights and the adapted ones (as Wortsman et al.,
"Robust fine-tuning of zero-shot models", CVPR 2022): one scan must not cost what the others taught.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from SemiSegLib.compute.devices import Compute
from SemiSegLib.constants import IGNORE
from SemiSegLib.data.patches import PatchSampler
from SemiSegLib.losses.segmentation import mask_loss
from SemiSegLib.models import Model

_FOLLOWED = 0.2  # mean cross-entropy of the drawn voxels below which a patch follows them (probability 0.82)
_KEPT = 0.5  # how far a model that is kept for other scans goes along with the adaptation
_PATCHES_FOLLOWED = 4  # in a row, before the adaptation ends early


@dataclass(frozen=True)
class RefinementSettings:
    """How long and how far; defaults are choices, measured on the left atrium."""

    seconds: float = 20.0  # of adaptation; prediction before and after comes on top
    steps: int = 60  # at most
    learning_rate: float = 1e-4  # of Adam
    reach: float = 10.0  # mm around a corrected voxel in which the mask may change (sd of a Gaussian)
    seed: int = 0


@dataclass(frozen=True)
class Refined:
    """What came of it: the network for this scan, one to keep for others, and why the adaptation ended."""

    model: Model
    kept: Model
    steps: int
    seconds: float
    reason: str  # followed, time or steps


def nearness(drawn: np.ndarray, before: np.ndarray, spacing: tuple[float, ...], reach: float) -> np.ndarray:
    """float32 (x, y, z): 1 where a drawn voxel contradicts the mask `before`, falling off with the distance in mm.

    :param drawn: class indices, IGNORE where nothing was drawn
    :param before: class indices of the mask until now
    """
    from scipy import ndimage

    wrong = (drawn != IGNORE) & (drawn != before)
    if not wrong.any():
        return np.zeros(drawn.shape, np.float32)
    distance = ndimage.distance_transform_edt(~wrong, sampling=spacing)
    return np.exp(-(distance**2) / (2 * reach**2)).astype(np.float32)


def adapt(
    model: Model,
    image: np.ndarray,
    drawn: np.ndarray,
    before: np.ndarray,
    near: np.ndarray,
    compute: Compute,
    settings: RefinementSettings,
    replay: PatchSampler | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Refined:
    """Adapt a copy of the model's network to what was drawn on one scan; all arrays are on the networks' grid.

    :param image: normalised scan (x, y, z)
    :param drawn: class indices (x, y, z), IGNORE where nothing was drawn
    :param before: probabilities (C, x, y, z) of the network as it was
    :param near: (x, y, z), see `nearness`
    :param replay: draws labelled patches of old annotations
    :param progress: called after each step with its number and the strokes' cross-entropy
    """
    start = time.monotonic()
    network = model.network().to(compute.device)
    optimiser = torch.optim.Adam(network.parameters(), settings.learning_rate)
    # The usual 65,536 overflows at first, and each step lost to that is one of few.
    scaler = torch.amp.GradScaler(compute.device.type, 1024.0, enabled=compute.dtype == torch.float16)
    windows = _Windows(model, image, drawn, before, near)
    random = np.random.default_rng(settings.seed)
    in_a_row, reason, step = 0, "steps", 0
    average = torch.optim.swa_utils.AveragedModel(network)
    for step in range(1, settings.steps + 1):
        patch = windows.around(windows.drawn_voxels[random.integers(len(windows.drawn_voxels))])
        patch = [part.to(compute.device) for part in patch]
        followed = _step(network, optimiser, scaler, patch, compute, replay, step)
        average.update_parameters(network)
        if progress:
            progress(step, followed)
        in_a_row = in_a_row + 1 if followed < _FOLLOWED else 0
        if in_a_row == _PATCHES_FOLLOWED:
            reason = "followed"
            break
        if time.monotonic() - start > settings.seconds:
            reason = "time"
            break
    weights = {name: weight.detach().cpu() for name, weight in average.module.state_dict().items()}
    adapted, kept = (Model(model.card, between(model.weights, weights, share)) for share in (1.0, _KEPT))
    return Refined(adapted, kept, step, time.monotonic() - start, reason)


def between(old: Mapping[str, torch.Tensor], new: Mapping[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """Weights so far on the way from the old to the new ones; whole numbers (counters) are the new ones."""
    return {
        name: torch.lerp(old[name].float(), weight.float(), share) if weight.is_floating_point() else weight
        for name, weight in new.items()
    }


def _step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    patch: list[torch.Tensor],
    compute: Compute,
    replay: PatchSampler | None,
    step: int,
) -> float:
    """One step; returns the cross-entropy of the drawn voxels before it."""
    image, drawn, before, near = patch
    old = None if replay is None else replay.draw(step).labelled.to(compute.device)
    images = image if old is None else torch.cat([image, old.image])
    with compute.autocast():
        logits = network(images).logits.float()
    strokes = stroke_loss(logits[:1], drawn)
    loss = strokes + keeping_loss(logits[:1], before, (1 - near) * (drawn == IGNORE))
    if old is not None:
        loss = loss + mask_loss(logits[1:], old.mask)
    optimiser.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    scaler.step(optimiser)
    scaler.update()
    return float(strokes.detach())


def stroke_loss(logits: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of drawn voxels: mean of each class, then of the classes. logits (B, C, *S), drawn (B, *S)."""
    losses = functional.cross_entropy(logits, drawn.long(), ignore_index=IGNORE, reduction="none")
    means = [losses[drawn == index].mean() for index in range(logits.shape[1]) if bool((drawn == index).any())]
    return torch.stack(means).mean() if means else logits.sum() * 0


def keeping_loss(logits: torch.Tensor, before: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted mean of KL(before || now) by voxel. logits, before (B, C, *S), weight (B, *S)."""
    divergence = functional.kl_div(logits.log_softmax(1), before, reduction="none").sum(1)
    return (weight * divergence).sum() / weight.sum().clamp(min=1e-6)


class _Windows:
    """Patches of one scan, padded as in training where the scan is smaller."""

    def __init__(
        self, model: Model, image: np.ndarray, drawn: np.ndarray, before: np.ndarray, near: np.ndarray
    ) -> None:
        sides = model.card.settings.training.patch_size
        assert sides is not None
        self.flat = len(sides) == 2
        self.sides = (*sides, 1)[:3]
        lacking = [max(0, side - n) for side, n in zip(self.sides, image.shape, strict=True)]
        margins = [(lack // 2, lack - lack // 2) for lack in lacking]
        background = np.zeros((len(before), 1, 1, 1), np.float32)
        background[0] = 1
        inside = np.pad(np.ones(image.shape, bool), margins)
        self.image = np.pad(image, margins).astype(np.float32)
        self.drawn = np.pad(drawn, margins, constant_values=IGNORE)
        self.near = np.pad(near, margins)
        self.before = np.where(inside, np.pad(before, [(0, 0), *margins]), background).astype(np.float32)
        marked = self.drawn != IGNORE
        contradicted = np.argwhere(marked & (self.drawn != self.before.argmax(0)))
        self.drawn_voxels = contradicted if len(contradicted) else np.argwhere(marked)

    def around(self, voxel: np.ndarray) -> list[torch.Tensor]:
        """(image (1, 1, *S), drawn (1, *S), before (1, C, *S), near (1, *S)) with the voxel near the middle."""
        starts = [
            int(np.clip(v - side // 2, 0, n - side))
            for v, side, n in zip(voxel, self.sides, self.image.shape, strict=True)
        ]
        box = tuple(slice(start, start + side) for start, side in zip(starts, self.sides, strict=True))
        parts = [self.image[box][None], self.drawn[box], self.before[:, box[0], box[1], box[2]], self.near[box]]
        tensors = [torch.from_numpy(np.ascontiguousarray(part))[None] for part in parts]
        return [tensor[..., 0] for tensor in tensors] if self.flat else tensors
