"""V-Net as the left-atrium literature uses it (UA-MT's variant): no residual blocks, skips are added."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from SemiSegLib.config import NetworkSettings
from SemiSegLib.networks.normalisation import normalisation
from SemiSegLib.networks.output import NetworkOutput
from SemiSegLib.networks.parts import InParts

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_DROP = {2: nn.Dropout2d, 3: nn.Dropout3d}


class VNet(InParts):
    """Encoder-decoder with 16 to 256 channels; input sides must be multiples of 16.

    With 2 classes and without the SDM head it has 9,448,866 parameters in 3D, as UA-MT's. The SDM head is SASSNet's:
    a parallel 1x1x1 convolution and tanh on the last decoder feature, one channel for each foreground class.
    Dropout (0.5, whole channels) follows the bottleneck and the last block; it is active in train() mode only.
    """

    convolutions = (1, 2, 3, 3, 3)  # of the five resolutions; the decoder mirrors them
    rate = 0.5  # of dropout

    def __init__(
        self,
        dimensions: int = 3,
        channels: int = 1,
        classes: int = 2,
        sdm: bool = False,
        width: int = 16,
        settings: NetworkSettings | None = None,
    ) -> None:
        super().__init__()
        settings = settings or NetworkSettings()
        norm = normalisation(settings.normalisation, dimensions)
        widths = [width * 2**level for level in range(5)]
        self.encoder = nn.ModuleList(
            _block(dimensions, channels if level == 0 else widths[level], widths[level], self.convolutions[level], norm)
            for level in range(5)
        )
        self.down = nn.ModuleList(_down(dimensions, widths[level], widths[level + 1], norm) for level in range(4))
        self.up = nn.ModuleList(_up(dimensions, widths[level + 1], widths[level], norm) for level in range(4))
        self.decoder = nn.ModuleList(
            _block(dimensions, widths[level], widths[level], self.convolutions[level], norm) for level in range(4)
        )
        self.dropout = _DROP[dimensions](self.rate * settings.dropout)
        self.add_heads(dimensions, widths, classes, sdm, settings.deep_supervision)

    def encode_whole(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B, 1, *S) to five feature maps from fine to coarse; the last is the bottleneck before dropout."""
        features, here = [], image
        for level in range(5):
            here = self.encoder[level](here)
            features.append(here)
            if level < 4:
                here = self.down[level](here)
        return features

    def decode_whole(self, features: Sequence[torch.Tensor]) -> NetworkOutput:
        """The five feature maps of `encode_whole` to the output."""
        here, maps = self.dropout(features[4]), []
        for level in (3, 2, 1, 0):
            here = self.decoder[level](self.up[level](here) + features[level])
            maps.append(here)
        last = self.dropout(here)
        sdm = None if self.sdm_head is None else torch.tanh(self.sdm_head(last))
        return NetworkOutput(self.mask_head(last), sdm, features[4], maps, self.coarse_logits(maps))


def _block(
    dimensions: int, channels_in: int, channels: int, convolutions: int, norm: Callable[[int], nn.Module]
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(convolutions):
        layers.append(_CONV[dimensions](channels_in if index == 0 else channels, channels, 3, padding=1))
        layers += [norm(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _down(dimensions: int, channels_in: int, channels: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    convolution = _CONV[dimensions](channels_in, channels, 2, stride=2)
    return nn.Sequential(convolution, norm(channels), nn.ReLU(inplace=True))


def _up(dimensions: int, channels_in: int, channels: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    convolution = _UP[dimensions](channels_in, channels, 2, stride=2)
    return nn.Sequential(convolution, norm(channels), nn.ReLU(inplace=True))
