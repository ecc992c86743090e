"""Contrastive losses."""

from __future__ import annotations

import torch
from torch.nn import functional

from SemiSegLib.losses.precision import single_precision


@single_precision
def info_nce(queries: torch.Tensor, keys: torch.Tensor, temperature: float, normalise: bool = True) -> torch.Tensor:
    """-mean_i log( exp(q_i.k_i / t) / sum_j exp(q_i.k_j / t) ) for queries and keys (n, d).

    Row i of the keys is the positive of row i of the queries, every other row a negative; the positive is part of
    the denominator (SimCVD, Eq. 2). `normalise` scales rows to unit length first.
    """
    if normalise:
        queries, keys = functional.normalize(queries, dim=1), functional.normalize(keys, dim=1)
    similarity = queries @ keys.T / temperature
    return functional.cross_entropy(similarity, torch.arange(len(queries), device=queries.device))


@single_precision
def symmetric_info_nce(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float, normalise: bool = True
) -> torch.Tensor:
    """Both directions, summed (SimCVD, Eq. 3): unchanged when the two sets are swapped or permuted together."""
    forward = info_nce(teacher, student, temperature, normalise)
    return forward + info_nce(student, teacher, temperature, normalise)
