"""The layers that normalise feature maps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.instancenorm import _InstanceNorm


class _OfPatches(_InstanceNorm):
    """Instance normalisation as batch normalisation of each patch by itself, where that is better.

    On a CPU PyTorch's own brings maps to channels first and leaves them so: every layer and every gradient then moves
    all values back and forth, a quarter of a training iteration in 3D, a third in 2D. And of a single patch its
    gradients are wrong if what comes from the next layer has channels last (PyTorch 2.13).
    """

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, C, *S) to the same; raises ValueError for maps of a single value."""
        if torch.jit.is_tracing() or (maps.device.type != "cpu" and len(maps) > 1):
            return functional.instance_norm(maps, weight=self.weight, bias=self.bias, eps=self.eps)
        patches = [
            functional.batch_norm(patch, None, None, self.weight, self.bias, training=True, eps=self.eps)
            for patch in maps.split(1)
        ]
        return patches[0] if len(patches) == 1 else torch.cat(patches)


class InstanceNorm2d(_OfPatches, nn.InstanceNorm2d):
    """nn.InstanceNorm2d with weights, for slices."""


class InstanceNorm3d(_OfPatches, nn.InstanceNorm3d):
    """nn.InstanceNorm3d with weights, for volumes."""


def normalisation(kind: str, dimensions: int) -> Callable[[int], nn.Module]:
    """The layer that `network.normalisation` names, to be made for a number of channels."""
    if kind == "instance":
        return partial(InstanceNorm2d if dimensions == 2 else InstanceNorm3d, affine=True)
    return nn.BatchNorm2d if dimensions == 2 else nn.BatchNorm3d
