"""Mean teacher that is asked only where it is certain: uncertainty-aware self-ensembling (Yu et al. 2019).

Yu, Wang, Li, Fu, Heng: "Uncertainty-Aware Self-Ensembling Model for Semi-Supervised 3D Left Atrium Segmentation",
MICCAI 2019 (arXiv 1907.07034), as its code runs it (train_LA_meanteacher_certainty_unlabel.py).

    labelled     L_sup = (CE + Dice) / 2
    unlabelled   p_t  = teacher(x + noise);  mu = mean of T more such passes, each with its own noise and dropout
                 u    = -sum_c mu_c log mu_c                       how uncertain the teacher is of a voxel
                 H(t) = (0.75 + 0.25 ramp(t)) ln C                 the most that is tolerated
                 L_c  = sum_v [u < H] |p_s - p_t|^2 / (C sum_v [u < H])
    L = L_sup + w(t) L_c,  w(t) = w_max exp(-5 (1 - t/T)^2)

The teacher (EMA of the student) keeps its dropout: that is where the passes differ. Choices: ln C where the code,
made for two classes, writes ln 2; the ramp rises with every iteration, in the code every 150; the T passes go one by
one, in the code in pairs (this matters for batch statistics alone). At test time only the student is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from SemiSegLib.config import setting
from SemiSegLib.data.views import noisy
from SemiSegLib.losses.consistency import masked_probability_mse
from SemiSegLib.losses.segmentation import output_loss
from SemiSegLib.methods import base
from SemiSegLib.methods.base import Batch, Plan, Term
from SemiSegLib.networks.ema import make_teacher, update_teacher
from SemiSegLib.schedules import Step

STRONG_DEFAULTS = {"network.dropout": 1.0}  # without it the teacher's passes would differ by their noise alone


@dataclass
class MethodSettings:
    """Defaults are those of UA-MT's left-atrium code."""

    consistency: float = setting(0.1, "w_max, weight of the consistency at the end of its ramp", at_least=0)
    passes: int = setting(8, "T, passes of the teacher that its uncertainty is estimated from", at_least=1)
    threshold: float = setting(
        0.75, "share of the largest entropy, ln C, that is tolerated at the start; 1 at the end", at_least=0, at_most=1
    )
    ema_decay: float = setting(0.99, "decay of the teacher's moving average", at_least=0, at_most=1)
    noise: float = setting(
        0.1, "sd of the teacher's input noise (clipped at twice that), in sd of the intensities", at_least=0
    )


class Method(base.Method):
    """UA-MT."""

    settings: MethodSettings

    def __init__(self, settings: MethodSettings, plan: Plan) -> None:
        super().__init__(settings, plan)
        self.student = plan.build_network()
        self.teacher = make_teacher(self.student)

    def losses(self, batch: Batch, step: Step) -> dict[str, Term]:
        """Supervised term and consistency where the teacher is certain."""
        labelled, s = len(batch.labelled), self.settings
        student = self.student(batch.images)
        terms = {"supervised": Term(output_loss(student[:labelled], batch.labelled.mask))}
        if len(batch.unlabelled):
            target = self._teach(batch.unlabelled.image)
            tolerated = (s.threshold + (1 - s.threshold) * step.ramp) * math.log(self.plan.classes)
            certain = self._uncertainty(batch.unlabelled.image) < tolerated
            consistency = masked_probability_mse(student.logits[labelled:], target, certain)
            terms["consistency"] = Term(consistency, s.consistency * step.ramp)
        return terms

    @torch.no_grad()
    def _teach(self, image: torch.Tensor) -> torch.Tensor:
        """The teacher's logits of a noisy copy."""
        return self.teacher(noisy(image, self.settings.noise, 2 * self.settings.noise)).logits

    @torch.no_grad()
    def _uncertainty(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, *S) entropy, in nat, of the mean prediction of several passes."""
        passes = self.settings.passes
        mean = sum(self._teach(image).float().softmax(1) / passes for _ in range(passes))
        assert isinstance(mean, torch.Tensor)
        return -(mean * (mean + 1e-6).log()).sum(1, keepdim=True)

    def after_step(self, step: Step) -> None:
        """Move the teacher towards the student."""
        update_teacher(self.teacher, self.student, self.settings.ema_decay, step.iteration)
