"""Distillation losses."""

from __future__ import annotations

import torch
from torch.nn import functional

from SemiSegLib.compute.distributed import all_mean
from SemiSegLib.compute.precision import single_precision


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
    return all_mean(loss if reduction == "mean" else loss.sum(1))


@single_precision
def bank_distillation(
    student: torch.Tensor,
    teacher: torch.Tensor,
    bank: torch.Tensor,
    filled: torch.Tensor,
    student_temperature: float,
    teacher_temperature: float,
    detach: bool = True,
) -> torch.Tensor:
    """The student must see the same likenesses to the images of a bank as the teacher (ACTION, stages i and ii).

    mean_{b,w} KL( p_t || p_s ), p = softmax_n( cos(z_bw, a_nw) / temperature ): negatives are softly labelled. The
    target carries no gradient unless `detach` is switched off (the official code). Fewer than two filled entries: 0.

    :param student: (B, W, D), W windows of B images
    :param teacher: (B, W, D)
    :param bank: (N, W, D), the same windows of other images
    :param filled: (N,) bool, the entries that are real
    """
    anchors = functional.normalize(bank, dim=-1)

    def log_likeness(embeddings: torch.Tensor, temperature: float) -> torch.Tensor:
        similarity = torch.einsum("bwd,nwd->bwn", functional.normalize(embeddings, dim=-1), anchors)
        return (similarity / temperature).masked_fill(~filled, -1e9).log_softmax(-1)

    target = log_likeness(teacher.detach() if detach else teacher, teacher_temperature)
    divergence = functional.kl_div(
        log_likeness(student, student_temperature), target, reduction="none", log_target=True
    )
    return all_mean(divergence.sum(-1))
