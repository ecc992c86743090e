"""A memory of past embeddings (queue, first in first out)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class FeatureBank(nn.Module):
    """The last `size` embeddings, each of `shape`; part of the method's state, never of its gradients.

    `random` fills it with noise at the start, as several papers' code does; otherwise it starts empty and `filled`
    tells which entries are real.
    """

    entries: torch.Tensor
    pushed: torch.Tensor

    def __init__(self, size: int, shape: Sequence[int], random: bool = False) -> None:
        super().__init__()
        self.register_buffer("entries", torch.randn(size, *shape) if random else torch.zeros(size, *shape))
        self.register_buffer("pushed", torch.tensor(size if random else 0))

    @property
    def filled(self) -> torch.Tensor:
        """(size,) bool: entries that hold an embedding."""
        return torch.arange(len(self.entries), device=self.entries.device) < self.pushed

    @torch.no_grad()
    def push(self, embeddings: torch.Tensor) -> None:
        """Add (n, *shape); the oldest make room."""
        size = len(self.entries)
        newest = embeddings.detach()[-size:].to(self.entries.dtype)
        places = (self.pushed + torch.arange(len(newest), device=newest.device)) % size
        self.entries.index_copy_(0, places, newest)
        self.pushed += len(newest)
