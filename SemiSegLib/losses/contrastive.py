"""Contrastive losses. Each rank gives its own rows, and those of all are contrasted, except in `grouped_info_nce`."""

from __future__ import annotations

import torch
from torch.nn import functional

from SemiSegLib.compute.distributed import gather
from SemiSegLib.compute.precision import single_precision


@single_precision
def info_nce(queries: torch.Tensor, keys: torch.Tensor, temperature: float, normalise: bool = True) -> torch.Tensor:
    """-mean_i log( exp(q_i.k_i / t) / sum_j exp(q_i.k_j / t) ) for queries and keys (n, d).

    Row i of the keys is the positive of row i of the queries, every other row a negative; the positive is part of
    the denominator (SimCVD, Eq. 2). `normalise` scales rows to unit length first.
    """
    return _info_nce(gather(queries), gather(keys), temperature, normalise)


def _info_nce(queries: torch.Tensor, keys: torch.Tensor, temperature: float, normalise: bool = True) -> torch.Tensor:
    if normalise:
        queries, keys = functional.normalize(queries, dim=1), functional.normalize(keys, dim=1)
    similarity = queries @ keys.T / temperature
    return functional.cross_entropy(similarity, torch.arange(len(queries), device=queries.device))


@single_precision
def symmetric_info_nce(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float, normalise: bool = True
) -> torch.Tensor:
    """Both directions, summed (SimCVD, Eq. 3): unchanged when the two sets are swapped or permuted together."""
    student, teacher = gather(student), gather(teacher)
    forward = _info_nce(teacher, student, temperature, normalise)
    return forward + _info_nce(student, teacher, temperature, normalise)


@single_precision
def dimensional_info_nce(queries: torch.Tensor, keys: torch.Tensor, temperature: float) -> torch.Tensor:
    """InfoNCE of features instead of samples, for queries and keys (n, D) of the same n samples.

    -mean_d log( exp(cos(u_d, v_d) / t) / sum_d' exp(cos(u_d, v_d') / t) ) with u_d, v_d the centred columns: each
    feature agrees with itself in the other view and differs from every other feature. All columns equal (collapse):
    log D; all uncorrelated and equal in both views: log(1 + (D - 1) e^(-1/t)).
    """
    queries, keys = gather(queries), gather(keys)
    return _info_nce((queries - queries.mean(0)).T, (keys - keys.mean(0)).T, temperature)


@single_precision
def grouped_info_nce(
    anchors: torch.Tensor, keys: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, temperature: float
) -> torch.Tensor:
    """InfoNCE with several positives for anchors (n, d) and keys (m, d) of all ranks, all scaled to unit length.

    mean_i 1/|P_i| sum_{p in P_i} -log( e^(a_i.p/t) / (e^(a_i.p/t) + sum_{k in N_i} e^(a_i.k/t)) ) over the anchors
    that have a positive and a negative; 0 if none has. positive, negative (n, m) bool.
    """
    anchors, keys = functional.normalize(anchors, dim=1), functional.normalize(keys, dim=1)
    similarity = anchors @ keys.T / temperature
    others = similarity.masked_fill(~negative, -1e9).logsumexp(1, keepdim=True)
    losses = functional.softplus(others - similarity)  # -log(e^s / (e^s + e^others))
    used = positive & negative.any(1, keepdim=True)
    shares = used / used.sum(1, keepdim=True).clamp(min=1)
    return (losses * shares).sum() / used.any(1).sum().clamp(min=1)
