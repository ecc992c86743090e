"""Random views of patches on the device: intensity jitter, noise, blur and CutMix, as operations on whole batches.

Geometry stays as it is, so that the voxels of two views of a patch correspond. Random numbers come from PyTorch's
generator, which the training loop seeds at every iteration.
"""

from __future__ import annotations

from functools import partial

import torch
from torch.nn import functional

from SemiSegLib.compute.distributed import gather, rank_random, share, size
from SemiSegLib.compute.precision import single_precision

_BLUR_RADIUS = 4  # voxels; 3.5 sd of the strongest blur


@single_precision
def jitter(images: torch.Tensor, strength: float = 0.2, probability: float = 0.5) -> torch.Tensor:
    """Random contrast and brightness of whole patches (B, 1, *S), each changed with `probability`.

    Contrast is multiplied by 1 +- strength about the patch's mean, brightness shifted by +- strength sd of the patch:
    what colour jitter is to a grey image of any scale.
    """
    shape = (len(images),) + (1,) * (images.dim() - 1)
    axes = tuple(range(1, images.dim()))
    contrast, brightness = strength * (2 * rank_random(torch.rand, (2, *shape), images.device, axis=1) - 1)
    chosen = rank_random(torch.rand, shape, images.device) < probability
    mean, sd = images.mean(axes, keepdim=True), images.std(axes, keepdim=True)
    return torch.where(chosen, (images - mean) * (1 + contrast) + mean + brightness * sd, images)


@single_precision
def blur(
    images: torch.Tensor, weakest: float = 0.15, strongest: float = 1.15, probability: float = 0.5
) -> torch.Tensor:
    """Gaussian blur of patches (B, 1, *S), each with `probability` and its own sd (voxels) in the given range."""
    count, dimensions = len(images), images.dim() - 2
    if not count:
        return images
    sd = weakest + (strongest - weakest) * rank_random(torch.rand, (count, 1), images.device)
    chosen = rank_random(torch.rand, (count, 1), images.device) < probability
    offsets = torch.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1, device=images.device)
    kernels = (-0.5 * (offsets / torch.where(chosen, sd, 1e-3)) ** 2).exp()  # 1e-3: the image as it is
    kernels = kernels / kernels.sum(1, keepdim=True)
    result = images.transpose(0, 1)  # one channel for each patch
    convolve = functional.conv2d if dimensions == 2 else functional.conv3d
    for axis in range(dimensions):
        shape = [count, 1] + [1] * dimensions
        shape[2 + axis] = len(offsets)
        margins = [0] * (2 * dimensions)
        margins[2 * (dimensions - 1 - axis)] = margins[2 * (dimensions - 1 - axis) + 1] = _BLUR_RADIUS
        padded = functional.pad(result, margins, mode="replicate")
        result = convolve(padded, kernels.reshape(shape), groups=count)
    return result.transpose(0, 1)


def half_boxes(images: torch.Tensor, probability: float = 1.0) -> torch.Tensor:
    """(B, 1, *S) bool: a random box of half the area of each patch in the x-y plane, through all slices, each with
    `probability`; no voxel of a patch without one.

    Its width is uniform between half the patch's and the whole, as in the code of ACTION and ReCo; in 3D their mask
    becomes a column (choice).
    """
    count, (width, height), device = len(images), images.shape[2:4], images.device
    wide = (width / 2 + 1 + (width / 2 - 1) * rank_random(torch.rand, (count, 1, 1), device)).floor()
    high = (width * height / 2 / wide).round()
    left = ((width - wide + 1) * rank_random(torch.rand, (count, 1, 1), device)).floor()
    low = ((height - high + 1) * rank_random(torch.rand, (count, 1, 1), device)).floor()
    x = torch.arange(width, device=device).reshape(1, -1, 1)
    y = torch.arange(height, device=device).reshape(1, 1, -1)
    inside = (x >= left) & (x < left + wide) & (y >= low) & (y < low + high)
    if probability < 1:
        inside = inside & (rank_random(torch.rand, (count, 1, 1), device) < probability)
    return inside.reshape(count, 1, width, height, *[1] * (images.dim() - 4)).expand(images.shape)


def mix_with_next(boxes: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """CutMix: inside its box each patch shows the next one of the batch.

    boxes (B, 1, *S) bool, values (B, [1,] *S) without gradients.
    """
    following = share(gather(values).roll(-1, 0))
    return torch.where(boxes if values.dim() == boxes.dim() else boxes[:, 0], following, values)


def noisy(images: torch.Tensor, sd: float = 0.1, limit: float = 0.2) -> torch.Tensor:
    """Input noise of the mean-teacher literature: clip(N(0, sd), +-limit) (UA-MT)."""
    return images + (rank_random(torch.randn, images.shape, images.device) * sd).clamp_(-limit, limit)


def random_voxels(images: torch.Tensor, count: int) -> torch.Tensor:
    """(B, n) random voxels of each patch, counted along its flattened sides: `count` in the whole batch, 1 at least."""
    each = max(1, count // (len(images) * size()))
    return rank_random(partial(torch.randint, images[0].numel()), (len(images), each), images.device)
