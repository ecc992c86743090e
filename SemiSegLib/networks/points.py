"""Features at sampled voxels: what a dense upsampling of all maps would give there, without its memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch


def neighbourhoods(maps: Sequence[torch.Tensor], points: torch.Tensor, sides: Sequence[int]) -> torch.Tensor:
    """Features of the 3^d voxels around each point: (N, 3^d, sum of the maps' channels), in single precision.

    Equal to upsampling every map linearly (corners aligned) to `sides`, concatenating the channels, and cutting out
    what a 3 x 3 (x 3) convolution with zero padding sees at the points; only N * 3^d columns are ever made.

    :param maps: (B, C_m, *S_m) each
    :param points: (N, 1 + d) long: patch in the batch, then voxel in `sides`
    """
    dimensions = len(sides)
    offsets = torch.tensor(list(itertools.product((-1, 0, 1), repeat=dimensions)), device=points.device)
    places = points[:, None, 1:] + offsets
    limits = torch.tensor(list(sides), device=points.device)
    inside = ((places >= 0) & (places < limits)).all(-1, keepdim=True)
    places = torch.minimum(places.clamp(min=0), limits - 1)
    patches = points[:, :1].expand(places.shape[:2])
    return torch.cat([interpolate(m, patches, places, sides) for m in maps], -1) * inside


def interpolate(
    features: torch.Tensor, patches: torch.Tensor, places: torch.Tensor, sides: Sequence[int]
) -> torch.Tensor:
    """Linear interpolation (corners aligned) of a map (B, C, *S_m) at voxels of `sides`: (..., C), single precision.

    :param patches: (...) long, patch in the batch
    :param places: (..., d) long, voxel in `sides`
    """
    index: list[Any]
    lower, share = [], []
    for axis, (n, side) in enumerate(zip(features.shape[2:], sides, strict=True)):
        position = places[..., axis] * ((n - 1) / max(side - 1, 1))
        floor = position.floor().clamp(max=max(n - 2, 0))
        lower.append(floor.long())
        share.append((position - floor).float())
    if tuple(features.shape[2:]) == tuple(sides):
        index = [patches, slice(None), *places.unbind(-1)]
        return features[tuple(index)].float()
    result = torch.zeros((), device=features.device)
    for corner in itertools.product((0, 1), repeat=len(sides)):
        weight = torch.ones((), device=features.device)
        index = [patches, slice(None)]
        for upper, low, part, n in zip(corner, lower, share, features.shape[2:], strict=True):
            index.append((low + upper).clamp(max=n - 1))
            weight = weight * (part if upper else 1 - part)
        result = result + features[tuple(index)].float() * weight.unsqueeze(-1)
    return result
