"""Supervised losses: cross-entropy, Dice and distance-map regression, all honouring voxels nobody annotated."""

from __future__ import annotations

import torch
from torch.nn import functional

from SemiSegLib.compute.distributed import all_sum
from SemiSegLib.compute.precision import single_precision
from SemiSegLib.constants import IGNORE
from SemiSegLib.losses.learnt import silent_about
from SemiSegLib.networks.output import NetworkOutput


@single_precision
def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean over annotated voxels. logits (B, C, *S), target (B, *S) class indices or IGNORE; 0 if none."""
    total = functional.cross_entropy(logits, target.long(), ignore_index=IGNORE, reduction="sum")
    return all_sum(total) / all_sum((target != IGNORE).sum()).clamp(min=1)


@single_precision
def dice_loss(probabilities: torch.Tensor, target: torch.Tensor, background: bool = False) -> torch.Tensor:
    """1 - (2 sum(pq) + 1e-5) / (sum(p^2) + sum(q^2) + 1e-5) over the batch, mean of the foreground classes.

    probabilities (B, C, *S), target (B, *S) class indices or IGNORE. UA-MT's form (utils/losses.py); `background`
    includes class 0 in the mean, as ACTION does. Voxels to ignore are left out of all three sums.
    """
    annotated = (target != IGNORE).unsqueeze(1)
    sums = []
    for index in range(0 if background else 1, probabilities.shape[1]):
        p = probabilities[:, index : index + 1] * annotated
        q = (target == index).unsqueeze(1).to(p.dtype)
        sums.append(torch.stack([(p * q).sum(), (p * p).sum() + q.sum()]))
    overlap, size = all_sum(torch.stack(sums)).unbind(1)
    return (1 - (2 * overlap + 1e-5) / (size + 1e-5)).mean()


def mask_loss(logits: torch.Tensor, target: torch.Tensor, background: bool = False) -> torch.Tensor:
    """Half the sum of cross-entropy and Dice (UA-MT, train_LA_meanteacher_certainty_unlabel.py:166-169)."""
    return 0.5 * (cross_entropy(logits, target) + dice_loss(logits.float().softmax(1), target, background))


def output_loss(
    output: NetworkOutput, target: torch.Tensor, background: bool = False, learnt: torch.Tensor | None = None
) -> torch.Tensor:
    """`mask_loss` of an output, with deep supervision that of its coarser logits, too.

    Each resolution has half the weight of the next finer one, all together 1 (nnU-Net); targets (B, *S) are taken at
    every second, fourth voxel. `learnt` (C,) bool: the target says nothing about the other classes (losses.learnt);
    0 where background alone is learnt.
    """
    if learnt is not None and int(learnt.sum()) < 2:
        return 0.0 * output.logits.float().sum()
    logits, losses, shares = [output.logits, *reversed(output.coarse)], [], []
    for level, part in enumerate(logits):
        every = slice(None, None, 2**level)
        coarser = target[(slice(None),) + (every,) * (target.dim() - 1)]
        if learnt is not None:
            part, coarser = silent_about(~learnt, part, coarser)
        shares.append(0.5**level)
        losses.append(shares[-1] * mask_loss(part, coarser, background))
    return torch.stack(losses).sum() / sum(shares)


@single_precision
def sdm_loss(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error of distance maps (B, C - 1, *S); NaN in the target marks unknown distances."""
    known = ~target.isnan()
    difference = torch.where(known, predicted - target.nan_to_num(), torch.zeros_like(predicted))
    return all_sum(difference.square().sum()) / all_sum(known.sum()).clamp(min=1)


@single_precision
def pseudo_label_loss(
    logits: torch.Tensor, target: torch.Tensor, confidence: torch.Tensor, threshold: float
) -> torch.Tensor:
    """Cross-entropy with pseudo labels, each patch weighted by how much of it is certain (ACTION, stage iii).

    mean over voxels with positive loss of eta_b * CE, eta_b = share of patch b's voxels with confidence >= threshold
    (train_2D_action.py:288-295). logits (B, C, *S), target (B, *S) class indices, confidence (B, *S).
    """
    losses = functional.cross_entropy(logits, target, reduction="none")
    share = (confidence >= threshold).flatten(1).float().mean(1)
    weighted = losses * share.reshape(-1, *[1] * (losses.dim() - 1))
    return all_sum(weighted.sum()) / all_sum((losses > 0).sum()).clamp(min=1)
