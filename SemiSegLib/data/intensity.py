"""Random intensity changes of patches: noise, blur, brightness, contrast, low resolution, gamma.

The kinds and ranges are those of nnU-Net v2 (nnUNetTrainer.get_training_transforms); `strength` scales how often each
happens. The voxels stay where they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional


def change_intensity(image: torch.Tensor, random: np.random.Generator, strength: float = 1.0) -> torch.Tensor:
    """A patch (x, y, z), or (x, y, 1) of a slice, with each change made or not at random; random numbers are drawn
    from `random` alone, so that a patch is the same on every device but for the noise's last digits."""

    def happens(probability: float) -> bool:
        return bool(random.random() < probability * strength)

    if happens(0.1):
        image = _noise(image, random, random.uniform(0, 0.1) ** 0.5)
    if happens(0.2):
        image = _blur(image, random.uniform(0.5, 1.0))
    if happens(0.15):
        image = image * random.uniform(0.75, 1.25)
    if happens(0.15):
        image = _contrast(image, random.uniform(0.75, 1.25))
    if happens(0.25):
        image = _low_resolution(image, random.uniform(0.5, 1.0))
    if happens(0.1):
        image = -_gamma(-image, random.uniform(0.7, 1.5))
    if happens(0.3):
        image = _gamma(image, random.uniform(0.7, 1.5))
    return image


def _noise(image: torch.Tensor, random: np.random.Generator, sd: float) -> torch.Tensor:
    noise = random.standard_normal(tuple(image.shape), dtype=np.float32)
    return image + sd * torch.from_numpy(noise).to(image.device)


def _blur(image: torch.Tensor, sd: float) -> torch.Tensor:
    """Gaussian blur, `sd` in voxels, along every axis that is longer than one voxel."""
    radius = max(1, int(3 * sd + 0.5))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32, device=image.device)
    kernel = (-0.5 * (offsets / sd) ** 2).exp()
    kernel = kernel / kernel.sum()
    result = image[None, None]
    for axis, side in enumerate(image.shape):
        if side > 1:
            result = _along(result, kernel, axis, radius)
    return result[0, 0]


def _along(values: torch.Tensor, kernel: torch.Tensor, axis: int, radius: int) -> torch.Tensor:
    margins = [0] * 6
    margins[2 * (2 - axis)] = margins[2 * (2 - axis) + 1] = radius
    shape = [1, 1, 1, 1, 1]
    shape[2 + axis] = len(kernel)
    return functional.conv3d(functional.pad(values, margins, mode="replicate"), kernel.reshape(shape))


def _contrast(image: torch.Tensor, factor: float) -> torch.Tensor:
    """Differences from the mean multiplied, within the range that there was."""
    mean = image.mean()
    return ((image - mean) * factor + mean).clamp(float(image.min()), float(image.max()))


def _low_resolution(image: torch.Tensor, zoom: float) -> torch.Tensor:
    """Sampled to a coarser grid (nearest) and back (linear); a slice stays one voxel thick."""
    sides: Sequence[int] = image.shape
    coarse = [side if side == 1 else max(1, round(side * zoom)) for side in sides]
    small = functional.interpolate(image[None, None], size=coarse, mode="nearest-exact")
    return functional.interpolate(small, size=tuple(sides), mode="trilinear", align_corners=False)[0, 0]


def _gamma(image: torch.Tensor, exponent: float) -> torch.Tensor:
    """A power law within the patch's range; mean and sd stay as they were."""
    mean, sd, lowest = image.mean(), image.std(), image.min()
    span = (image.max() - lowest).clamp(min=1e-7)
    changed = ((image - lowest) / span).pow(exponent) * span + lowest
    return (changed - changed.mean()) / changed.std().clamp(min=1e-7) * sd + mean
