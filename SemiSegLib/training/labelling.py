"""Labels that a training gives its own unlabelled scans: predicted as a whole, in several views, the unsure left out.

A folder for each round in the run folder: `<case>.npy`, uint8 (x, y, z) class indices on the networks' grid, IGNORE
where the views disagree, and `labels.json`, written last, with each case's stability.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from SemiSegLib.compute.devices import Compute
from SemiSegLib.config import Settings
from SemiSegLib.constants import IGNORE
from SemiSegLib.data.components import cleaned
from SemiSegLib.data.preprocess import Prepared
from SemiSegLib.inference.folding import for_inference
from SemiSegLib.inference.windows import mirrorings, predict_probabilities
from SemiSegLib.methods.base import Labelling
from SemiSegLib.metrics import dice
from SemiSegLib.runs import read_json, write_json


def label_cases(
    network: nn.Module, cases: Sequence[Prepared], folder: Path, choice: Labelling, settings: Settings, compute: Compute
) -> list[str]:
    """Label `cases` into `folder` and return the names of those stable enough to train with.

    A label is the argmax of the mean over mirrored views (all combinations of `augmentation.mirror_axes`); a case's
    stability is the mean DSC between pairs of views, over classes (1 without mirroring). What an interrupted call
    has written is made again.
    """
    marker = folder / "labels.json"
    if not marker.exists():
        folder.mkdir(parents=True, exist_ok=True)
        predicting = for_inference(network.eval(), compute)
        stability = {}
        for case in cases:
            labels, stability[case.name] = _label(predicting, case, choice.confidence, settings, compute)
            np.save(folder / f"{case.name}.npy", labels)
        write_json(marker, {"stability": stability})
    stability = read_json(marker)["stability"]
    ranked = sorted(stability, key=lambda name: -stability[name])
    return sorted(ranked[: max(1, round(len(ranked) * (1 - choice.dropped)))])


def _label(
    network: nn.Module, case: Prepared, confidence: float, settings: Settings, compute: Compute
) -> tuple[np.ndarray, float]:
    patch, classes = settings.training.patch_size, len(settings.data.labels)
    assert patch is not None
    image = torch.from_numpy(np.array(case.image(), np.float32))
    plain = replace(settings.inference, mirror=False)
    views = []
    for axes in mirrorings(settings.augmentation.mirror_axes):
        seen = predict_probabilities(network, image.flip(axes), patch, plain, compute)
        views.append(seen.flip([axis + 1 for axis in axes]))
    mean = torch.stack(views).mean(0)
    sure, labels = mean.max(0)
    indices = cleaned(labels.numpy().astype(np.uint8), classes, settings.inference)
    result = np.where(sure.numpy() >= confidence, indices, IGNORE).astype(np.uint8)
    return result, _stability([view.argmax(0).numpy() for view in views], classes)


def _stability(masks: Sequence[np.ndarray], classes: int) -> float:
    pairs = [
        dice(one == index, other == index)
        for one, other in itertools.combinations(masks, 2)
        for index in range(1, classes + 1)
        if (one == index).any() or (other == index).any()
    ]
    return float(np.mean(pairs)) if pairs else 1.0
