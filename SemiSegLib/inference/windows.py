"""A network over a whole scan: in overlapping windows (MONAI), or in one piece where memory allows."""

from __future__ import annotations

import copy
import itertools
import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from SemiSegLib.compute.devices import Compute
from SemiSegLib.compute.memory import give_back, out_of_memory
from SemiSegLib.config import InferenceSettings
from SemiSegLib.errors import SemiSegError

logger = logging.getLogger(__name__)

# Bytes that a voxel of a window takes while V-Net runs: measured peak, 16 channels at full resolution being alive
# about seven times in fp32 and in bf16.
_BYTES_PER_VOXEL = {torch.float32: 700, torch.bfloat16: 400, torch.float16: 400}
_BATCH_VOXELS = 1_000_000  # computed at a time: small windows go through together
_STRETCH = 1.25  # most that a window's side may exceed the patch's (choice; DSC in Testing/Benchmarks)
_MULTIPLE = 16  # V-Net halves the sides four times


@torch.inference_mode()
def predict_probabilities(
    network: nn.Module,
    image: torch.Tensor,
    patch_size: Sequence[int],
    settings: InferenceSettings,
    compute: Compute,
    mirror_axes: Sequence[int] = (0, 1),
) -> torch.Tensor:
    """Softmax probabilities (C, x, y, z) float32 on the CPU for a normalised scan (x, y, z).

    `network` is in eval() mode on the device; `patch_size` is the one it was trained with (two sides: slice by
    slice). Windows of that size overlap and are blended with Gaussian weights, or evenly at `settings.stride` as in
    the papers; without `stride` a side that the scan exceeds by a few voxels is stretched to all of it. With
    `window="whole"` a scan goes through in one piece, or in few large ones where memory is short. With
    `settings.mirror` it is the mean over all mirrorings along `mirror_axes`.

    When memory runs out, less is computed at a time, down to one window of the patch's size (one slice), then the CPU
    takes over; a warning says so. Raises SemiSegError when even that does not do.
    """
    mirrored = mirrorings(mirror_axes) if settings.mirror else [()]
    found = _with_less_and_less(network, image, patch_size, settings, compute, mirrored)
    if found is None and compute.device.type != "cpu":
        logger.warning("the memory of %s does not suffice for this scan: the CPU computes it", compute.device)
        cpu = Compute(torch.device("cpu"), torch.float32, "the GPU's memory does not suffice")
        on_cpu = copy.deepcopy(network).to(cpu.device, cpu.dtype)
        found = _with_less_and_less(on_cpu, image, patch_size, settings, cpu, mirrored)
    if found is None:
        sides = " x ".join(map(str, image.shape))
        raise SemiSegError(
            f"Memory does not suffice for a scan of {sides} voxels, not even window by window: close other programs, "
            "crop the scan, or use a model trained at a coarser data.spacing or with a smaller training.patch_size."
        )
    return found


def _with_less_and_less(
    network: nn.Module,
    image: torch.Tensor,
    patch_size: Sequence[int],
    settings: InferenceSettings,
    compute: Compute,
    mirrored: Sequence[tuple[int, ...]],
) -> torch.Tensor | None:
    """The probabilities; None where memory does not even suffice for one window, or slice, at a time."""
    most = _at_once(image.shape, patch_size, settings, compute)
    least = math.prod(patch_size)
    while True:
        found = _unless_out_of_memory(network, image, patch_size, settings, compute, mirrored, most)
        if found is not None:
            return found
        give_back(compute.device)
        if most <= least:
            return None
        most = max(most // 2, least)
        logger.warning("memory ran out on %s: at most %d voxels are computed at a time", compute.device, most)


def _at_once(shape: Sequence[int], patch_size: Sequence[int], settings: InferenceSettings, compute: Compute) -> int:
    """Voxels that are computed at a time where nothing runs out."""
    if len(patch_size) == 3 and settings.window == "whole" and settings.stride is None:
        whole = math.prod(_round_up(side) for side in shape)
        return max(math.prod(patch_size), min(whole, settings.window_voxels or _voxel_budget(compute)))
    return max(_BATCH_VOXELS, math.prod(patch_size))


def _unless_out_of_memory(
    network: nn.Module,
    image: torch.Tensor,
    patch_size: Sequence[int],
    settings: InferenceSettings,
    compute: Compute,
    mirrored: Sequence[tuple[int, ...]],
    most: int,
) -> torch.Tensor | None:
    """Probabilities with at most `most` voxels at a time, averaged over mirror images; None when memory runs out."""
    total: torch.Tensor | None = None
    try:
        for axes in mirrored:
            flipped = image.flip(axes) if axes else image
            if len(patch_size) == 2:
                found = _slices(network, flipped, patch_size, compute, most)
            else:
                found = _volume(network, flipped, patch_size, settings, compute, most)
            found = found.flip([axis + 1 for axis in axes]) if axes else found
            total = found if total is None else total.add_(found)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return None
    assert total is not None
    return total / len(mirrored) if len(mirrored) > 1 else total


def mirrorings(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """All combinations of axes to mirror along, none of them first."""
    return [chosen for count in range(len(axes) + 1) for chosen in itertools.combinations(axes, count)]


def run_network(network: nn.Module, batch: torch.Tensor, compute: Compute) -> torch.Tensor:
    """Probabilities (B, C, *S) of a batch of windows."""
    layout = compute.memory_format(batch.dim() - 2)
    with compute.autocast():
        output = network(batch.to(compute.device).to(memory_format=layout))
    return output.probabilities


def _slices(
    network: nn.Module, image: torch.Tensor, patch_size: Sequence[int], compute: Compute, most: int
) -> torch.Tensor:
    """Every slice along z as a whole, padded to the patch size at least."""
    stack = image.permute(2, 0, 1).unsqueeze(1)
    padded, crop = _pad(stack, [_round_up(max(n, p)) for n, p in zip(stack.shape[2:], patch_size, strict=True)])
    budget = max(1, min(_voxel_budget(compute), most) // padded[0].numel())
    parts = [run_network(network, part, compute)[crop].cpu() for part in padded.split(min(budget, 32))]
    return torch.cat(parts).permute(1, 2, 3, 0)


def _volume(
    network: nn.Module,
    image: torch.Tensor,
    patch_size: Sequence[int],
    settings: InferenceSettings,
    compute: Compute,
    most: int,
) -> torch.Tensor:
    volume = image[None, None]
    if settings.stride is not None:
        # MONAI wants the overlap as a share and rounds the step down: aim at its middle.
        overlap = [max(0.0, 1 - (s + 0.5) / p) for s, p in zip(settings.stride, patch_size, strict=True)]
        return _blend(network, volume, list(patch_size), overlap, "constant", compute, most)
    if settings.window == "patch":
        window = [_covering(n, p) for n, p in zip(image.shape, patch_size, strict=True)]
        window = window if math.prod(window) <= most else list(patch_size)
        return _blend(network, volume, window, settings.overlap, "gaussian", compute, most)
    whole = [_round_up(max(n, p)) for n, p in zip(image.shape, patch_size, strict=True)]
    budget = min(settings.window_voxels or _voxel_budget(compute), most)
    if math.prod(whole) <= budget:
        padded, crop = _pad(volume, whole)
        return run_network(network, padded, compute)[crop][0].cpu()
    window = _largest_window(whole, patch_size, budget)
    return _blend(network, volume, window, settings.overlap, "gaussian", compute, most)


def _blend(
    network: nn.Module,
    volume: torch.Tensor,
    window: list[int],
    overlap: float | list[float],
    mode: str,
    compute: Compute,
    most: int,
) -> torch.Tensor:
    from monai.inferers import sliding_window_inference

    result = sliding_window_inference(
        volume,
        roi_size=window,
        sw_batch_size=max(1, min(_BATCH_VOXELS, most) // math.prod(window)),
        predictor=lambda batch: run_network(network, batch, compute),
        overlap=overlap,
        mode=mode,
        sw_device=compute.device,
        device=torch.device("cpu"),
    )
    return result[0]


def _covering(length: int, side: int) -> int:
    """The window's side: the patch's, or a little more where that spares a second window for the last few voxels."""
    whole = _round_up(length)
    return whole if side < whole <= _STRETCH * side else side


def _largest_window(whole: list[int], patch_size: Sequence[int], budget: int) -> list[int]:
    """Halve the longest side (never below the patch's) until a window fits the budget."""
    window = list(whole)
    while math.prod(window) > budget:
        longest = max(range(3), key=lambda axis: window[axis] / patch_size[axis])
        if window[longest] <= patch_size[longest]:
            break
        window[longest] = max(patch_size[longest], _round_up(window[longest] // 2))
    return window


def _voxel_budget(compute: Compute) -> int:
    """Voxels that fit into half of the memory that is free now."""
    if compute.device.type == "cuda":
        free = torch.cuda.mem_get_info(compute.device)[0]
    else:
        import psutil

        # What this process holds counts as free: most of it is memory that waits to be used again.
        free = psutil.virtual_memory().available + psutil.Process().memory_info().rss
    return int(free // 2 // _BYTES_PER_VOXEL[compute.dtype])


def _round_up(length: int) -> int:
    return -(-length // _MULTIPLE) * _MULTIPLE


def _pad(batch: torch.Tensor, sides: Sequence[int]) -> tuple[torch.Tensor, tuple[Any, ...]]:
    """(batch padded with zeros on both sides, the index that takes the original out again)."""
    before = [(side - n) // 2 for side, n in zip(sides, batch.shape[2:], strict=True)]
    margins = [(b, side - n - b) for b, side, n in zip(before, sides, batch.shape[2:], strict=True)]
    flat = [margin for pair in reversed(margins) for margin in pair]
    crop = [slice(b, b + n) for b, n in zip(before, batch.shape[2:], strict=True)]
    return functional.pad(batch, flat), (Ellipsis, *crop)
