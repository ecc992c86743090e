"""The networks of the literature, with a mask head and, where wanted, a signed-distance-map head."""

from __future__ import annotations

from SemiSegLib.config import NetworkSettings
from SemiSegLib.networks.unet import UNet
from SemiSegLib.networks.vnet import VNet

Network = VNet | UNet


def build_network(dimensions: int, classes: int, sdm: bool = False, settings: NetworkSettings | None = None) -> Network:
    """The literature's network, V-Net for volumes (3), U-Net for slices (2); `classes` with background.

    Without `settings` it is as the papers have it.
    """
    return (UNet if dimensions == 2 else VNet)(classes=classes, sdm=sdm, settings=settings)
