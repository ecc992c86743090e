"""What every segmentation network returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch


@dataclass
class NetworkOutput:
    """B patches, C classes with background, S the patch's two or three sides.

    logits       (B, C, *S) before softmax
    sdm          (B, C - 1, *S) signed distance maps in [-1, 1], negative inside; None without that head
    bottleneck   (B, 256, *S/16) deepest features, before their dropout
    decoder      feature maps of the decoder from coarse to fine; the last has the patch's own resolution
    coarse       logits of coarser resolutions, coarse first: (B, C, *S/4), (B, C, *S/2); empty without deep supervision
    """

    logits: torch.Tensor
    sdm: torch.Tensor | None
    bottleneck: torch.Tensor
    decoder: list[torch.Tensor]
    coarse: list[torch.Tensor] = field(default_factory=list)

    @property
    def probabilities(self) -> torch.Tensor:
        """Softmax of the logits, in single precision."""
        return self.logits.float().softmax(1)

    def __getitem__(self, rows: slice) -> NetworkOutput:
        """The output of some of the patches."""
        return NetworkOutput(
            self.logits[rows],
            None if self.sdm is None else self.sdm[rows],
            self.bottleneck[rows],
            [maps[rows] for maps in self.decoder],
            [logits[rows] for logits in self.coarse],
        )

    @classmethod
    def joined(
        cls, parts: Sequence[NetworkOutput], join: Callable[[list[torch.Tensor]], torch.Tensor] = torch.cat
    ) -> NetworkOutput:
        """Outputs of several passes as those of one batch."""
        return cls(
            join([part.logits for part in parts]),
            None if parts[0].sdm is None else join([part.sdm for part in parts if part.sdm is not None]),
            join([part.bottleneck for part in parts]),
            [join(list(maps)) for maps in zip(*(part.decoder for part in parts), strict=True)],
            [join(list(maps)) for maps in zip(*(part.coarse for part in parts), strict=True)],
        )
