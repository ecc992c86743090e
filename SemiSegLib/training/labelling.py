"""Labels that a training gives its own unlabelled scans: predicted as a whole, in several views, the unsure left out.

A folder for each round in the run folder: `<case>.npy`, uint8 (x, y, z) class indices on the networks' grid, IGNORE
where the views disagree, and `labels.json`, written last, with each case's stability and the classes found in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from SemiSegLib.compute import distributed
from SemiSegLib.compute.devices import Compute
from SemiSegLib.config import Settings
from SemiSegLib.constants import IGNORE
from SemiSegLib.data.components import cleaned
from SemiSegLib.data.preprocess import Prepared
from SemiSegLib.files import naming, put_on_disk
from SemiSegLib.inference.ensemble import views_for
from SemiSegLib.inference.folding import for_inference
from SemiSegLib.inference.windows import predict_probabilities
from SemiSegLib.methods.base import Labelling
from SemiSegLib.metrics import dice
from SemiSegLib.runs import read_json, write_json


def label_cases(
    networks: Sequence[nn.Module],
    cases: Sequence[Prepared],
    folder: Path,
    choice: Labelling,
    settings: Settings,
    compute: Compute,
) -> list[str]:
    """Label `cases` into `folder` and return the names of those stable enough to train with.

    A label is the argmax of the mean over networks and views: mirrored as the task allows, else shifted and with other
    contrast, as for `SemiSegLib.quality`. A case's stability is the mean DSC between pairs of these opinions, over
    classes. What an interrupted call has written is made again. Several processes divide the cases.
    """
    marker = folder / "labels.json"
    if any(distributed.any_rank(not marker.exists())):
        folder.mkdir(parents=True, exist_ok=True)
        predicting = [for_inference(network.eval(), compute) for network in networks]
        stability, found = {}, {}
        for case in cases[distributed.rank() :: distributed.size()]:
            labels, sure, stability[case.name] = _label(predicting, case, settings, compute)
            found[case.name] = np.unique(labels).tolist()
            with naming(folder):
                kept = np.where(sure >= choice.confidence, labels, IGNORE)
                np.save(folder / f"{case.name}.npy", kept.astype(np.uint8))
                put_on_disk(folder / f"{case.name}.npy")
        parts = distributed.from_all((stability, found))  # nobody reads labels before all of them are written
        stability, found = (
            {case.name: part[i % len(parts)][case.name] for i, case in enumerate(cases)}
            for part in zip(*parts, strict=True)
        )
        with distributed.agreement():
            if distributed.rank() == 0:
                write_json(marker, {"stability": stability, "found": found})
    stability = read_json(marker)["stability"]
    ranked = sorted(stability, key=lambda name: -stability[name])
    return sorted(ranked[: max(1, round(len(ranked) * (1 - choice.dropped)))])


def _label(
    networks: Sequence[nn.Module], case: Prepared, settings: Settings, compute: Compute
) -> tuple[np.ndarray, np.ndarray, float]:
    """Class indices (x, y, z), the mean confidence of all opinions in the likeliest class, and their stability."""
    patch, classes = settings.training.patch_size, len(settings.data.labels)
    assert patch is not None
    image = np.array(case.image(), np.float32)
    plain = replace(settings.inference, mirror=False)
    total, masks = np.zeros((classes + 1, *image.shape), np.float32), []
    for network, view in itertools.product(networks, views_for(settings.augmentation.mirror_axes)):
        seen = torch.from_numpy(np.ascontiguousarray(view.of(image)))
        found = view.undone(predict_probabilities(network, seen, patch, plain, compute).numpy())
        total += found
        masks.append(found.argmax(0).astype(np.uint8))
    total /= len(masks)
    indices = cleaned(total.argmax(0).astype(np.uint8), total[1:].sum(0), classes, settings.inference)
    return indices, total.max(0), _stability(masks, classes)


def never_found(folder: Path, wanted: Collection[int]) -> list[int]:
    """Those of the `wanted` classes that the network which made these labels saw in no case: not learnt yet."""
    content = read_json(folder / "labels.json")
    found = content.get("found")  # labels from before this was noted are believed
    return [] if found is None else sorted(set(wanted) - {index for classes in found.values() for index in classes})


def _stability(masks: Sequence[np.ndarray], classes: int) -> float:
    pairs = [
        dice(one == index, other == index)
        for one, other in itertools.combinations(masks, 2)
        for index in range(1, classes + 1)
        if (one == index).any() or (other == index).any()
    ]
    return float(np.mean(pairs)) if pairs else 1.0
