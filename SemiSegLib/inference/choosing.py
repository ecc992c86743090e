"""Which scans to annotate next, and which of their slices: strategies by name, as functions of arrays.

Plain uncertainty does not reliably beat random choice in 3D where the latter knows of the foreground (nnActive, 2025).
Among patches, drawing by a power of the predictive entropy instead of taking its peaks did (Lüth et al., "Finally
Outshining the Random Baseline", arXiv 2601.13677, 2026): `power` is that for whole scans. With few annotations
typical samples were worth more than odd ones (Hacohen et al. 2022): `typical`. Measured here on cardiac cine, neither
`power` nor `diversity` for the second six scans beats random choice, nor `typical` for the first six, without a model
(Testing/Benchmarks/Annotation.md). Baselines:
`random`, and `foreground-random`, which leaves the scans in which the model finds nothing to the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from SemiSegLib.errors import SemiSegError

_POWER = 4.0  # of the uncertainty's rank share; choice
_NEIGHBOURS = 20  # Hacohen et al. 2022
_DESCRIPTOR = (12, 12, 8)  # values along x, y, z


class StrategyError(SemiSegError):
    """No strategy has that name, or it cannot work with what there is."""


@dataclass(frozen=True)
class Pool:
    """What is known of n scans that nobody annotated.

    uncertainty   (n,) disagreement inside the foreground, the larger the less certain; None without a model
    foreground    (n,) bool, whether the model finds anything; None without a model
    descriptors   (n, d) what the scans look like
    annotated     (m, d) the same of scans that are annotated already
    """

    descriptors: np.ndarray
    annotated: np.ndarray
    uncertainty: np.ndarray | None = None
    foreground: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.descriptors)

    def ranks(self) -> np.ndarray:
        """(n,) place of each scan's uncertainty, 1/n to 1."""
        if self.uncertainty is None:
            raise StrategyError("This strategy needs a model: name a run with --run, or use --strategy cold-start.")
        return (np.argsort(np.argsort(self.uncertainty)) + 1) / len(self)


def _random(pool: Pool, budget: int, random: np.random.Generator) -> list[int]:
    """At random."""
    return random.permutation(len(pool))[:budget].tolist()


def _foreground_random(pool: Pool, budget: int, random: np.random.Generator) -> list[int]:
    """At random, those in which the model finds nothing last."""
    order = random.permutation(len(pool))
    if pool.foreground is None:
        raise StrategyError("foreground-random needs a model: name a run with --run, or use --strategy random.")
    return [*order[pool.foreground[order]], *order[~pool.foreground[order]]][:budget]


def _uncertainty(pool: Pool, budget: int, random: np.random.Generator) -> list[int]:
    """Those first that the model is least sure of."""
    return np.argsort(-pool.ranks(), kind="stable")[:budget].tolist()


def _power(pool: Pool, budget: int, random: np.random.Generator) -> list[int]:
    """At random, the likelier the less sure the model is: by the fourth power of the uncertainty's rank."""
    # The k largest of log-weights plus Gumbel noise are drawn without replacement.
    keys = _POWER * np.log(pool.ranks()) + random.gumbel(size=len(pool))
    return np.argsort(-keys)[:budget].tolist()


def _diversity(pool: Pool, budget: int, random: np.random.Generator) -> list[int]:
    """One by one the scan that looks least like all that are annotated or chosen; the most typical if none is."""
    return farthest_first(pool.descriptors, pool.annotated, budget)


def _typical(pool: Pool, budget: int, random: np.random.Generator) -> list[int]:
    """One by one the most typical scan of the largest group that looks alike and of which none is annotated."""
    return typical_first(pool.descriptors, pool.annotated, budget)


def _uncertain_and_diverse(pool: Pool, budget: int, random: np.random.Generator) -> list[int]:
    """Of the half that the model is less sure of those that differ most from one another and from the annotated."""
    kept = np.argsort(-pool.ranks(), kind="stable")[: max(budget, -(-len(pool) // 2))]
    return kept[farthest_first(pool.descriptors[kept], pool.annotated, budget)].tolist()


STRATEGIES: dict[str, Callable[[Pool, int, np.random.Generator], list[int]]] = {
    "random": _random,
    "foreground-random": _foreground_random,
    "uncertainty": _uncertainty,
    "power": _power,
    "typical": _typical,
    "diversity": _diversity,
    "uncertain-and-diverse": _uncertain_and_diverse,
    "cold-start": _typical,  # the same: all that can be said without a model is what scans look like
}


def choose(strategy: str, pool: Pool, budget: int, seed: int = 0) -> list[int]:
    """Indices of at most `budget` scans of the pool, the first to annotate first; raises StrategyError."""
    if strategy not in STRATEGIES:
        raise StrategyError(f"There is no strategy '{strategy}'; there are: {', '.join(STRATEGIES)}.")
    found = STRATEGIES[strategy](pool, min(budget, len(pool)), np.random.default_rng(seed))
    return [int(index) for index in found]


def farthest_first(descriptors: np.ndarray, taken: np.ndarray, count: int) -> list[int]:
    """`count` rows, each the one farthest from all rows of `taken` and those before it (k-centre, Gonzalez 1985).

    If nothing is taken, the first is the row nearest to the mean of all.
    """
    chosen: list[int] = []
    if len(taken):
        nearest = np.min([np.linalg.norm(descriptors - other, axis=1) for other in taken], axis=0)
    else:
        nearest = np.full(len(descriptors), np.inf)
    for _ in range(min(count, len(descriptors))):
        central = not len(taken) and not chosen
        middle = np.linalg.norm(descriptors - descriptors.mean(0), axis=1)
        index = int(middle.argmin()) if central else int(nearest.argmax())
        chosen.append(index)
        nearest = np.minimum(nearest, np.linalg.norm(descriptors - descriptors[index], axis=1))
        nearest[chosen] = -1
    return chosen


def typical_first(descriptors: np.ndarray, taken: np.ndarray, count: int) -> list[int]:
    """`count` rows: the most typical of each group in which there is no row of `taken`, of the largest groups first.

    TypiClust (Hacohen, Dekel, Weinshall: "Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets",
    ICML 2022): as many groups as there will be annotated scans; typical is what is near to its 20 nearest neighbours of
    the group. Choices: what is compared (the paper: features learnt without labels), Ward's groups instead of k-means,
    so that nothing is drawn, and no least size of a group.

    :param descriptors: (n, d) of scans that nobody annotated
    :param taken: (m, d) of those that are annotated; m may be 0
    :return: indices into `descriptors`, min(count, n) of them, the first to annotate first
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    everything = np.concatenate([descriptors, taken.reshape(len(taken), descriptors.shape[1])])
    if len(everything) < 2:
        return list(range(len(descriptors)))[:count]
    groups = fcluster(linkage(everything, "ward"), len(taken) + count, "maxclust")
    covered = np.bincount(groups[len(descriptors) :], minlength=groups.max() + 1)
    sizes = np.bincount(groups)
    typicality = _typicality(everything, groups)
    chosen: list[int] = []
    for _ in range(min(count, len(descriptors))):
        left = [index for index in range(len(descriptors)) if index not in chosen]
        best = min(left, key=lambda index: (covered[groups[index]], -sizes[groups[index]], -typicality[index]))
        covered[groups[best]] += 1
        chosen.append(best)
    return chosen


def _typicality(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(n,) one over the mean distance to the at most 20 nearest rows of the same group."""
    result = np.zeros(len(rows))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        distances = np.linalg.norm(rows[members, None] - rows[None, members], axis=2)
        nearest = np.sort(distances, axis=1)[:, 1 : _NEIGHBOURS + 1]
        result[members] = 1 / (nearest.mean(1) + 1e-9) if nearest.shape[1] else 0.0
    return result


def descriptor(image: np.ndarray, foreground: np.ndarray | None = None) -> np.ndarray:
    """What a normalised scan (x, y, z) looks like: 12 x 12 x 8 block means, of unit length.

    Of the box of the `foreground` (bool, x, y, z) and an eighth of its sides around it, or of the whole scan.
    """
    from scipy import ndimage

    if foreground is not None and foreground.any():
        corners = np.argwhere(foreground)
        low, high = corners.min(0), corners.max(0) + 1
        margin = -(-(high - low) // 8)
        box = zip(np.maximum(low - margin, 0), np.minimum(high + margin, image.shape), strict=True)
        image = image[tuple(slice(first, last) for first, last in box)]
    image = np.asarray(image, np.float32)
    blocks = [n / cells for n, cells in zip(image.shape, _DESCRIPTOR, strict=True)]
    smooth = ndimage.uniform_filter(image, [max(1, round(block)) for block in blocks], mode="nearest")
    places = np.meshgrid(
        *[(np.arange(cells) + 0.5) * block - 0.5 for cells, block in zip(_DESCRIPTOR, blocks, strict=True)],
        indexing="ij",
    )
    values = ndimage.map_coordinates(smooth, places, order=1, mode="nearest").ravel()
    values -= values.mean()
    length = float(np.linalg.norm(values))
    return values / length if length else values


def slices_first(scores: np.ndarray, count: int) -> list[int]:
    """The `count` slices to annotate, the most useful first: the highest score, and none beside one chosen already.

    :param scores: (n,) how much there is to learn in each slice, not negative; 0 where there is nothing to see
    """
    left = np.asarray(scores, float).copy()
    seen = np.flatnonzero(left > 0)
    if not len(seen):
        return evenly(len(left), count)
    apart = max(1, int((seen[-1] - seen[0] + 1) / (2 * max(1, count))))
    chosen: list[int] = []
    while len(chosen) < count and left.max() > 0:
        best = int(left.argmax())
        chosen.append(best)
        left[max(0, best - apart) : best + apart + 1] = 0
    return chosen


def evenly(length: int, count: int) -> list[int]:
    """`count` slices of `length`, or all, at equal distances: the middle one first, then those that halve the gaps."""
    count = min(count, length)
    places = [int((index + 0.5) * length / count) for index in range(count)]
    order: list[int] = []
    while places:
        gaps = [min((abs(place - done) for done in order), default=-abs(place - length / 2)) for place in places]
        order.append(places.pop(int(np.argmax(gaps))))
    return order
