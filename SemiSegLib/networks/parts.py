"""A pass over a batch computed in parts, to fit into less memory, while the loss stays that of the whole batch.

Of each part only what goes in and comes out is kept; going backward, the part is computed once more (PyTorch's
activation checkpointing). So a loss that compares patches, pairs them or sums over them sees all of them, whatever the
number of parts. Only batch statistics are those of a part, in which labelled and unlabelled patches have their share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from SemiSegLib.networks.output import NetworkOutput

Result = TypeVar("Result")


class InParts(nn.Module):
    """An encoder-decoder whose training passes may be computed in `parts`; subclasses say what a pass is."""

    parts = 1
    mask_head: nn.Module
    sdm_head: nn.Module | None
    coarse_heads: nn.ModuleList

    def encode_whole(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B, 1, *S) to five feature maps from fine to coarse; the last is the bottleneck before dropout."""
        raise NotImplementedError

    def decode_whole(self, features: Sequence[torch.Tensor]) -> NetworkOutput:
        """The five feature maps of `encode_whole` to the output."""
        raise NotImplementedError

    def encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        """`encode_whole`, in parts."""
        cells = math.prod(side // 16 for side in image.shape[2:])
        parts = self._in_parts(lambda rows: self.encode_whole(rows[0]), [image], cells)
        return parts[0] if len(parts) == 1 else [interleaved(level) for level in zip(*parts, strict=True)]

    def decode(self, features: Sequence[torch.Tensor]) -> NetworkOutput:
        """`decode_whole`, in parts."""
        cells = features[-1][:1, :1].numel()
        parts = self._in_parts(self.decode_whole, features, cells)
        return parts[0] if len(parts) == 1 else NetworkOutput.joined(parts, interleaved)

    def add_heads(
        self, dimensions: int, widths: Sequence[int], classes: int, sdm: bool, deep_supervision: bool, side: int = 1
    ) -> None:
        """Convolutions of `side` voxels to masks and, where wanted, distance maps, one for each foreground class; with
        deep supervision also heads for the two next coarser maps, as `coarse_logits` takes them.

        :param widths: channels of the five resolutions, from fine to coarse
        """
        convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
        self.mask_head = convolution(widths[0], classes, side, padding=side // 2)
        self.sdm_head = convolution(widths[0], classes - 1, side, padding=side // 2) if sdm else None
        self.coarse_heads = nn.ModuleList(
            convolution(widths[level], classes, 1) for level in (2, 1) if deep_supervision
        )

    def coarse_logits(self, decoder: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Of the decoder's maps, the logits of those that deep supervision trains, coarse first; only to train."""
        return [head(maps) for head, maps in zip(self.coarse_heads, decoder[1:], strict=False) if self.training]

    def forward(self, image: torch.Tensor) -> NetworkOutput:
        """(B, 1, *S) to masks, distance maps and features."""
        return self.decode(self.encode(image))

    def _in_parts(
        self, function: Callable[[Sequence[torch.Tensor]], Result], inputs: Sequence[torch.Tensor], cells: int
    ) -> list[Result]:
        """`function` of tensors (B, ...) or of the rows of every part of them.

        `cells` is how many values of each patch the coarsest batch statistics are made of; a part has at least two.
        """
        patches = len(inputs[0])
        parts = min(self.parts, patches if cells > 1 else patches // 2)
        if parts < 2 or not torch.is_grad_enabled():
            return [function(inputs)]

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), statistics_kept(self)

        rows = ([values[part::parts] for values in inputs] for part in range(parts))
        return [checkpoint(function, part, use_reentrant=False, context_fn=contexts) for part in rows]


def compute_in(method: nn.Module, parts: int) -> None:
    """From now on the networks in `method` go through a batch in so many parts."""
    for module in method.modules():
        if isinstance(module, InParts):
            module.parts = parts


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Within it running batch statistics stay as they are: a part's second computation must not count again."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # the statistics are still handed over: autograd compares what it keeps
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def interleaved(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The rows that were dealt out in turns, [0::n], [1::n] and so on, in their order."""
    count = sum(len(part) for part in parts)
    return torch.cat([parts[i % len(parts)][i // len(parts) :][:1] for i in range(count)])
