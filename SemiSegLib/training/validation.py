"""Scoring a network in training on the validation cases, on the networks' grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from SemiSegLib.compute.devices import Compute
from SemiSegLib.config import InferenceSettings, Settings
from SemiSegLib.constants import IGNORE
from SemiSegLib.data.components import cleaned
from SemiSegLib.data.preprocess import Prepared
from SemiSegLib.inference.windows import predict_probabilities
from SemiSegLib.metrics import dice


def mean_of_existing(scores: Sequence[float]) -> float:
    """Mean of the scores that are numbers; NaN when none is (a class that no mask holds has no score)."""
    existing = [score for score in scores if not math.isnan(score)]
    return float(np.mean(existing)) if existing else math.nan


def validation_dice(network: torch.nn.Module, case: Prepared, settings: Settings, compute: Compute) -> list[float]:
    """DSC of each class of one case, post-processed as `predict` does; NaN where a class is absent from both.

    Without mirroring, which would take several times as long; the report after the last iteration has it.
    """
    patch = settings.training.patch_size
    assert patch is not None
    image = torch.from_numpy(np.array(case.image(), np.float32))
    inference: InferenceSettings = replace(settings.inference, mirror=False)
    probabilities = predict_probabilities(network, image, patch, inference, compute).numpy()
    indices = probabilities.argmax(0).astype(np.uint8)
    reference = np.asarray(case.mask())
    classes = len(settings.data.labels)
    indices = np.where(reference == IGNORE, IGNORE, cleaned(indices, probabilities[1:].sum(0), classes, inference))
    present = [(indices == c, reference == c) for c in range(1, classes + 1)]
    return [dice(a, b) if a.any() or b.any() else math.nan for a, b in present]
