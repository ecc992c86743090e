"""Distillation losses."""

from __future__ import annotations

import torch
from torch.nn import functional

from SemiSegLib.losses.precision import single_precision


@single_precision
def pairwise_distillation(student: torch.Tensor, teacher: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """Each voxel's student feature must resemble the teacher's feature of that voxel most (SimCVD, Eq. 4).

    student, teacher (M, D, *S): features of M unlabelled images with n = prod(S) voxels each.
    -(1/M) sum_i sum_j log( exp cos(s_ij, t_ij) / sum_k exp cos(s_ij, t_ik) ). With reduction="mean" the sum over
    the n voxels j is a mean: its value then lies near log n and cannot approach 0, cosines being at most 1. The
    paper's literal "sum" is n times larger and would swamp the other terms.
    """
    s = functional.normalize(student.flatten(2), dim=1)
    t = functional.normalize(teacher.flatten(2), dim=1)
    similarity = s.transpose(1, 2) @ t
    target = torch.arange(similarity.shape[1], device=s.device).expand(len(s), -1)
    loss = functional.cross_entropy(similarity.transpose(1, 2), target, reduction="none")
    return loss.mean() if reduction == "mean" else loss.sum(1).mean()
