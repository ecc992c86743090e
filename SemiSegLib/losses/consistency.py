"""Consistency of two predictions of the same patch."""

from __future__ import annotations

import torch

from SemiSegLib.compute.distributed import all_mean, all_sum
from SemiSegLib.compute.precision import single_precision


@single_precision
def probability_mse(student_logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of the softmax probabilities of logits (B, C, *S)."""
    return all_mean((student_logits.softmax(1) - teacher_logits.softmax(1)).square())


@single_precision
def masked_probability_mse(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """The same over the voxels of `mask` (B, 1, *S), bool, alone; 0 where it is empty (UA-MT)."""
    squared = (student_logits.softmax(1) - teacher_logits.softmax(1)).square() * mask
    return all_sum(squared.sum()) / (all_sum(mask.sum()) * student_logits.shape[1]).clamp(min=1)
