"""Anatomical contrast: hard voxels against their class mean and against voxels of classes easily confused with it."""

from __future__ import annotations

import torch
from torch.nn import functional

from SemiSegLib.compute.distributed import generator
from SemiSegLib.compute.precision import single_precision


@single_precision
def anatomical_contrast(
    queries: torch.Tensor, active: torch.Tensor, keys: torch.Tensor, temperature: float, negatives: int
) -> torch.Tensor:
    """ACTION's L_anco, which is ReCo's loss (Liu et al. 2021), for the K classes present in a batch.

    (1/K) sum_c mean_q -log( e^{cos(r_q, r_c)/t} / (e^{cos(r_q, r_c)/t} + sum_n e^{cos(r_q, r_n)/t}) ), where r_c is
    the mean of class c's keys and the negatives r_n of each query are drawn anew: first a class v != c with
    probability `confusion`, then one of its keys. Only queries receive gradients. Fewer than two classes: 0.

    :param queries: (K, Q, D) embeddings of hard voxels of each class
    :param active: (K,) bool, the classes that have hard voxels; the queries of others are not looked at
    :param keys: (K, n, D) embeddings of voxels of each class
    :param negatives: how many are drawn for each query
    """
    classes, count, _ = keys.shape
    if classes < 2:
        return queries.sum() * 0
    keys = keys.detach()
    means, unit = functional.normalize(keys.mean(1), dim=1), functional.normalize(keys, dim=2).flatten(0, 1)
    probability = confusion(keys.mean(1), temperature)
    total, alike = queries.sum() * 0, generator(keys.device)
    for index in active.nonzero().flatten().tolist():
        query = functional.normalize(queries[index], dim=1)
        other = torch.multinomial(probability[index], len(query) * negatives, replacement=True, generator=alike)
        drawn = other * count + torch.randint(count, other.shape, device=other.device, generator=alike)
        negative = (query @ unit.T).gather(1, drawn.reshape(len(query), negatives))
        similarity = torch.cat([query @ means[index].unsqueeze(1), negative], 1) / temperature
        total = total + functional.cross_entropy(similarity, similarity.new_zeros(len(query), dtype=torch.long))
    return total / classes


def confusion(means: torch.Tensor, temperature: float) -> torch.Tensor:
    """(K, K) probability to draw a negative of class v for a query of class c: softmax_v(cos(r_c, r_v)/t), v != c."""
    unit = functional.normalize(means, dim=1)
    same = torch.eye(len(means), dtype=torch.bool, device=means.device)
    return (unit @ unit.T / temperature).masked_fill(same, -torch.inf).softmax(1)


@single_precision
def weighted_means(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(B, K, D) means of features (B, D, *S) under K sets of weights (B, K, *S) >= 0; zeros where all weights are 0."""
    sums = torch.einsum("bdn,bkn->bkd", features.flatten(2), weights.flatten(2))
    return sums / weights.flatten(2).sum(2).clamp(min=1e-6).unsqueeze(2)
