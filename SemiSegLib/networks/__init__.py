"""The networks of the literature, with a mask head and, where wanted, a signed-distance-map head."""

from __future__ import annotations

from SemiSegLib.networks.unet import UNet
from SemiSegLib.networks.vnet import VNet

Network = VNet | UNet


def build_network(dimensions: int, classes: int, sdm: bool = False) -> Network:
    """The literature's network, V-Net for volumes (3), U-Net for slices (2); `classes` with background."""
    if dimensions == 2:
        return UNet(classes=classes, sdm=sdm)
    return VNet(classes=classes, sdm=sdm)
