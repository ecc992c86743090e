"""2D U-Net as the cardiac literature uses it (SSL4MIS's variant): skips are concatenated, bilinear upsampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from SemiSegLib.config import NetworkSettings
from SemiSegLib.networks.normalisation import normalisation
from SemiSegLib.networks.output import NetworkOutput
from SemiSegLib.networks.parts import InParts


class UNet(InParts):
    """Encoder-decoder with 16 to 256 channels for slices; input sides must be multiples of 16.

    Two 3 x 3 convolutions (batch norm, LeakyReLU) at each of five resolutions; in the encoder dropout of single
    values between them, from 0.05 at the finest to 0.5 at the coarsest; maximum pooling down; up a 1 x 1 convolution
    that halves the channels, then bilinear interpolation (corners aligned). With 4 classes and without the SDM head
    it has 1,813,764 parameters, as in SSL4MIS's and ACTION's code: both set "bilinear" to False, but do not hand it
    to the blocks (ACTION's code/networks/unetWithArgs.py), so that no transposed convolution is ever built; with them
    there would be 1,944,324. The SDM head is a parallel 3 x 3 convolution and tanh beside the mask head, after
    SASSNet's for volumes (choice: no source has one in 2D).
    """

    dropouts = (0.05, 0.1, 0.2, 0.3, 0.5)  # of the encoder's five resolutions

    def __init__(
        self,
        channels: int = 1,
        classes: int = 2,
        sdm: bool = False,
        width: int = 16,
        settings: NetworkSettings | None = None,
    ) -> None:
        super().__init__()
        settings = settings or NetworkSettings()
        norm = normalisation(settings.normalisation, 2)
        widths = [width * 2**level for level in range(5)]
        self.encoder = nn.ModuleList(
            _block(
                widths[level - 1] if level else channels, widths[level], self.dropouts[level] * settings.dropout, norm
            )
            for level in range(5)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(_up(widths[level + 1], widths[level]) for level in range(4))
        self.decoder = nn.ModuleList(_block(2 * widths[level], widths[level], 0.0, norm) for level in range(4))
        self.add_heads(2, widths, classes, sdm, settings.deep_supervision, side=3)

    def encode_whole(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B, 1, X, Y) to five feature maps from fine to coarse; the last is the bottleneck."""
        features, here = [], image
        for level, block in enumerate(self.encoder):
            here = block(self.pool(here) if level else here)
            features.append(here)
        return features

    def decode_whole(self, features: Sequence[torch.Tensor]) -> NetworkOutput:
        """The five feature maps of `encode_whole` to the output."""
        here, maps = features[4], []
        for level in (3, 2, 1, 0):
            here = self.decoder[level](torch.cat([features[level], self.up[level](here)], 1))
            maps.append(here)
        sdm = None if self.sdm_head is None else torch.tanh(self.sdm_head(here))
        return NetworkOutput(self.mask_head(here), sdm, features[4], maps, self.coarse_logits(maps))


def _block(channels_in: int, channels: int, dropout: float, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, padding=1),
        norm(channels),
        nn.LeakyReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Conv2d(channels, channels, 3, padding=1),
        norm(channels),
        nn.LeakyReLU(inplace=True),
    )


def _up(channels_in: int, channels: int) -> nn.Sequential:
    double = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    return nn.Sequential(nn.Conv2d(channels_in, channels, 1), double)
