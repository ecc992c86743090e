"""The patches of one iteration, as the methods receive them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import torch


@dataclass
class Patches:
    """B patches of sides S, geometrically augmented, on the device.

    image     (B, 1, *S) normalised intensities
    mask      (B, *S) class indices, 255 where nobody annotated; empty for unlabelled patches
    sdm       (B, C - 1, *S) true distance maps scaled to [-1, 1], NaN where unknown; empty where not needed
    frame     (B, 3, 4) affine map from the patch's coordinates to its scan's, both 0 to 1 along x, y, z: where the
              crop lies and how it is turned and mirrored
    views     (B, V, 1, *S) further views of unlabelled patches: the same geometry, other intensities; else empty
    """

    image: torch.Tensor
    mask: torch.Tensor
    sdm: torch.Tensor
    frame: torch.Tensor
    views: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    def places(self, sides: Sequence[int]) -> torch.Tensor:
        """(B, 3, *sides): place in the scan, 0 to 1 along x, y, z, of every cell of a feature map with these sides."""
        steps = [(torch.arange(n, device=self.frame.device) + 0.5) / n for n in sides]
        if len(steps) == 2:
            steps.append(torch.full((1,), 0.5, device=self.frame.device))
        grid = torch.stack(torch.meshgrid(*steps, indexing="ij")).flatten(1)
        return (self.frame[:, :, :3] @ grid + self.frame[:, :, 3:]).unflatten(2, tuple(sides))

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, index: slice) -> Patches:
        return self._map(lambda tensor: tensor[index])

    def to(self, device: torch.device) -> Patches:
        """The patches on `device`."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Patches:
        return Patches(*(function(getattr(self, entry.name)) for entry in fields(self)))


@dataclass
class Batch:
    """Labelled and unlabelled patches of one iteration; `unlabelled` may have no patches."""

    labelled: Patches
    unlabelled: Patches

    @property
    def images(self) -> torch.Tensor:
        """All images, the labelled first, as the networks see them together (shared batch statistics)."""
        return torch.cat([self.labelled.image, self.unlabelled.image])

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`."""
        return Batch(self.labelled.to(device), self.unlabelled.to(device))
