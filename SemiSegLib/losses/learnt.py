"""Which classes a network has learnt, so that its own labels say nothing about the others.

A class that the network does not find yet is missing in its labels, too. Learnt from as if they were complete, they
teach it away for good: on abdominal CT with four annotated scans, five of eight organs (Testing/Benchmarks). Scans in
which only some organs are annotated have the same trouble; what is done about it there is done here (Shi et al.,
"Marginal loss and exclusion loss for partially supervised multi-organ segmentation", Medical Image Analysis 70, 2021,
arXiv 2007.03868): at each voxel the probability of all classes that are not learnt is added to that of its label.
"""

from __future__ import annotations

import torch
from torch import nn

from SemiSegLib.compute.distributed import all_sum
from SemiSegLib.constants import IGNORE

MEMORY = 0.98  # of the sums over past iterations, which so reach back some 50 iterations (a choice)


class LearntClasses(nn.Module):
    """Which classes the network finds in annotated patches: those whose DSC over the last iterations is `least`."""

    overlap: torch.Tensor  # (C,) voxels that are of a class in prediction and mask, older iterations count less
    size: torch.Tensor  # (C,) voxels of it in the prediction and in the mask, added

    def __init__(self, classes: int, least: float) -> None:
        super().__init__()
        self.least = least
        self.register_buffer("overlap", torch.zeros(classes))
        self.register_buffer("size", torch.zeros(classes))

    @torch.no_grad()
    def update(self, logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(C,) bool, background always True, after these logits (B, C, *S) of annotated patches with their masks."""
        if self.least == 0:
            return torch.ones_like(self.size, dtype=torch.bool)
        found, known, classes = logits.argmax(1), mask != IGNORE, len(self.size)
        sums = [torch.bincount(labels[known].long(), minlength=classes) for labels in (found, mask)]
        both = torch.bincount(mask[known & (found == mask)].long(), minlength=classes)
        overlap, size = all_sum(torch.stack([both, sums[0] + sums[1]]).to(self.size.dtype))
        self.overlap.mul_(MEMORY).add_(overlap)
        self.size.mul_(MEMORY).add_(size)
        learnt = 2 * self.overlap >= self.least * self.size.clamp(min=1)
        learnt[0] = True
        return learnt


def silent_about(
    missing: torch.Tensor, logits: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, K, *S) of the K classes that are not `missing` (C,) bool, and targets (B, *S) that count these.

    After softmax a voxel's label has its own probability and that of all missing classes. Voxels whose label is a
    missing class become IGNORE.
    """
    if not missing.any():
        return logits, target
    number = torch.where(missing, IGNORE, (~missing).cumsum(0) - 1)
    counted = torch.where(target == IGNORE, IGNORE, number[torch.where(target == IGNORE, 0, target).long()])
    kept = logits.float()[:, ~missing]
    rest = logits.float()[:, missing].logsumexp(1, keepdim=True)
    classes = torch.arange(kept.shape[1], device=kept.device).reshape(1, -1, *[1] * (kept.dim() - 2))
    return torch.where(counted.unsqueeze(1) == classes, torch.logaddexp(kept, rest), kept), counted
