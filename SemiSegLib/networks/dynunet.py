"""nnU-Net's plain network, of MONAI's blocks, with as many channels as the papers' networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetUpBlock
from torch import nn

from SemiSegLib.config import NetworkSettings
from SemiSegLib.networks.output import NetworkOutput
from SemiSegLib.networks.parts import InParts

_DROP = {2: nn.Dropout2d, 3: nn.Dropout3d}
_NORMS = {"batch": "batch", "instance": ("instance", {"affine": True})}


class DynUNet(InParts):
    """Encoder-decoder with 16 to 256 channels for slices or volumes; input sides must be multiples of 16.

    Two 3 x 3 (x 3) convolutions (norm, LeakyReLU) at each of five resolutions, the first with stride 2; transposed
    convolutions up; skips are concatenated: MONAI's `DynUNet` with isotropic kernels, as nnU-Net (Isensee et al.
    2021) plans it for isotropic voxels. In 3D with 2 classes it has 5,646,162 parameters. Choices: 16 channels where
    nnU-Net has 32, so that every method's heads fit and an iteration costs what one of the papers' networks does;
    dropout and the distance-map head are where the V-Net has them.
    """

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
        norm = _NORMS[settings.normalisation]
        widths = [width * 2**level for level in range(5)]
        inputs = [channels, *widths[:-1]]
        self.encoder = nn.ModuleList(
            UnetBasicBlock(dimensions, inputs[level], widths[level], 3, 1 if level == 0 else 2, norm)
            for level in range(5)
        )
        self.decoder = nn.ModuleList(
            UnetUpBlock(dimensions, widths[level + 1], widths[level], 3, 1, 2, norm) for level in range(4)
        )
        self.dropout = _DROP[dimensions](self.rate * settings.dropout)
        self.add_heads(dimensions, widths, classes, sdm, settings.deep_supervision)
        for module in self.modules():  # as nnU-Net begins
            if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
                nn.init.kaiming_normal_(module.weight, a=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def encode_whole(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B, 1, *S) to five feature maps from fine to coarse; the last is the bottleneck before dropout."""
        features, here = [], image
        for block in self.encoder:
            here = block(here)
            features.append(here)
        return features

    def decode_whole(self, features: Sequence[torch.Tensor]) -> NetworkOutput:
        """The five feature maps of `encode_whole` to the output."""
        here, maps = self.dropout(features[4]), []
        for level in (3, 2, 1, 0):
            here = self.decoder[level](here, features[level])
            maps.append(here)
        last = self.dropout(here)
        sdm = None if self.sdm_head is None else torch.tanh(self.sdm_head(last))
        return NetworkOutput(self.mask_head(last), sdm, features[4], maps, self.coarse_logits(maps))
