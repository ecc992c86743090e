"""The networks of the literature, with a mask head and, where wanted, a signed-distance-map head."""

from __future__ import annotations

from torch import nn

from SemiSegLib.networks.vnet import VNet


def build_network(dimensions: int, classes: int, sdm: bool = False) -> nn.Module:
    """The literature's network for volumes (3) or slices (2), one input channel, `classes` with background."""
    return VNet(dimensions=dimensions, classes=classes, sdm=sdm)
