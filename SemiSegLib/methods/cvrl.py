"""CVRL: voxels of two views contrasted along batch and features, on two levels (abstract of You et al. 2022).

You, Zhao, Staib, Duncan: "Momentum Contrastive Voxel-Wise Representation Learning for Semi-supervised Volumetric
Medical Image Segmentation", MICCAI 2022 (arXiv 2105.07059). Of this paper only the abstract was at hand, and its code
was never released: this is a re-implementation, not the authors' method to the letter. The abstract says that
volumes are contrasted with a momentum network, on a low and on a high level of features, along the batch and, against
collapse, along the feature dimension, without taking all voxels of an image for positives of each other. What follows
from that, and everything else, is this:

    labelled     L_sup = (CE + Dice) / 2
    unlabelled   two views of a patch, each with its own noise and intensity jitter, the geometry shared:
                 student (query) -> z,  teacher (key, EMA of the student and of both heads, no gradient) -> z'
                 L_vox = InfoNCE: a voxel's positive is the same voxel of the other view, all others are negatives
                 L_dim = InfoNCE: the same for feature channels as vectors over the voxels (centred columns)
                 L_lo  = L_vox + L_dim of all voxels of the bottleneck   (head 256 -> 256 -> 128)
                 L_hi  = L_vox + L_dim of 2048 random voxels of the batch in the last decoder map (16 -> 64 -> 64)
                 L_con = MSE of the probabilities of student and teacher
    L = L_sup + w(t) (a L_lo + b L_hi + c L_con),  w(t) = exp(-5 (1 - t/T)^2)

Choices, each a setting: the weights a, b, c; both temperatures; the heads' widths; how many voxels; noise and jitter;
which patches are contrasted. At test time only the student is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from SemiSegLib.config import setting
from SemiSegLib.data.views import jitter, noisy, random_voxels
from SemiSegLib.losses.consistency import probability_mse
from SemiSegLib.losses.contrastive import dimensional_info_nce, info_nce
from SemiSegLib.losses.segmentation import output_loss
from SemiSegLib.methods import base
from SemiSegLib.methods.base import Batch, Plan, Term
from SemiSegLib.networks.ema import make_teacher, update_teacher
from SemiSegLib.schedules import Step


@dataclass
class MethodSettings:
    """All defaults are choices: the abstract gives no numbers."""

    low: float = setting(0.1, "a, weight of the contrast of bottleneck features", at_least=0)
    high: float = setting(0.1, "b, weight of the contrast of decoder features", at_least=0)
    consistency: float = setting(0.1, "c, weight of the consistency", at_least=0)
    voxel_temperature: float = setting(0.1, "tau of the contrast of voxels", above=0)
    feature_temperature: float = setting(0.5, "tau of the contrast of feature channels", above=0)
    features: bool = setting(True, "contrast feature channels too; off: voxels alone")
    voxels: int = setting(
        2048, "random voxels of a batch on the high level, as many of each patch (memory: squared)", at_least=1
    )
    low_width: int = setting(128, "features that bottleneck voxels are projected to", at_least=1)
    high_width: int = setting(64, "features that decoder voxels are projected to", at_least=1)
    labelled_too: bool = setting(False, "contrast the labelled patches as well")
    noise: float = setting(0.1, "sd of the views' noise (clipped at twice that), in sd of the intensities", at_least=0)
    jitter: float = setting(0.2, "largest random change of a view's contrast and brightness", at_least=0)
    ema_decay: float = setting(0.99, "decay of the teacher's moving average", at_least=0, at_most=1)


class Method(base.Method):
    """CVRL."""

    settings: MethodSettings

    def __init__(self, settings: MethodSettings, plan: Plan) -> None:
        super().__init__(settings, plan)
        self.student = plan.build_network()
        self.student_heads = nn.ModuleDict(
            {"low": _head(256, 256, settings.low_width), "high": _head(16, 64, settings.high_width)}
        )
        self.teacher = make_teacher(self.student)
        self.teacher_heads = make_teacher(self.student_heads)

    def losses(self, batch: Batch, step: Step) -> dict[str, Term]:
        """Supervised term, the contrast of both levels, consistency."""
        labelled, s = len(batch.labelled), self.settings
        contrasted = batch.images if s.labelled_too else batch.unlabelled.image
        student = self.student(torch.cat([batch.labelled.image, self._view(contrasted)]))
        terms = {"supervised": Term(output_loss(student[:labelled], batch.labelled.mask))}
        if not len(contrasted):
            return terms
        with torch.no_grad():
            teacher = self.teacher(self._view(contrasted))
        places = random_voxels(contrasted, s.voxels)  # the same in both views
        low = self._contrast("low", rows(student.bottleneck[labelled:]), rows(teacher.bottleneck))
        ours, theirs = rows(student.decoder[-1][labelled:], places), rows(teacher.decoder[-1], places)
        high = self._contrast("high", ours, theirs)
        consistency = probability_mse(student.logits[labelled:], teacher.logits)
        return {
            **terms,
            "low": Term(low, s.low * step.ramp),
            "high": Term(high, s.high * step.ramp),
            "consistency": Term(consistency, s.consistency * step.ramp),
        }

    def _view(self, image: torch.Tensor) -> torch.Tensor:
        s = self.settings
        return noisy(jitter(image, s.jitter, 1.0), s.noise, 2 * s.noise) if len(image) else image

    def _contrast(self, level: str, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """L_vox + L_dim of the features (n, channels) of one level."""
        s, queries = self.settings, self.student_heads[level](student)
        with torch.no_grad():
            keys = self.teacher_heads[level](teacher)
        loss = info_nce(queries, keys, s.voxel_temperature)
        return loss + dimensional_info_nce(queries, keys, s.feature_temperature) if s.features else loss

    def after_step(self, step: Step) -> None:
        """Move the teacher and its heads towards the student's."""
        update_teacher(self.teacher, self.student, self.settings.ema_decay, step.iteration)
        update_teacher(self.teacher_heads, self.student_heads, self.settings.ema_decay, step.iteration)


def rows(features: torch.Tensor, places: torch.Tensor | None = None) -> torch.Tensor:
    """Features (B, C, *S) of all voxels, or of `places` (B, n) alone, as (voxels, C)."""
    features = features.flatten(2)
    if places is not None:
        features = features.gather(2, places.unsqueeze(1).expand(-1, features.shape[1], -1))
    return features.transpose(1, 2).flatten(0, 1)


def _head(channels_in: int, hidden: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels_in, hidden), nn.ReLU(), nn.Linear(hidden, channels))
