"""The networks of the literature, with a mask head and, where wanted, a signed-distance-map head."""

from __future__ import annotations

from SemiSegLib.config import NetworkSettings
from SemiSegLib.networks.parts import InParts as Network
from SemiSegLib.networks.unet import UNet
from SemiSegLib.networks.vnet import VNet

__all__ = ["Network", "build_network"]


def build_network(dimensions: int, classes: int, sdm: bool = False, settings: NetworkSettings | None = None) -> Network:
    """The network that `settings` name, for volumes (3) or slices (2); `classes` with background.

    Without `settings` it is the papers': V-Net for volumes, U-Net for slices.
    """
    if settings is not None and settings.architecture == "dynunet":
        from SemiSegLib.networks.dynunet import DynUNet  # MONAI takes seconds to import

        return DynUNet(dimensions, classes=classes, sdm=sdm, settings=settings)
    return (UNet if dimensions == 2 else VNet)(classes=classes, sdm=sdm, settings=settings)
