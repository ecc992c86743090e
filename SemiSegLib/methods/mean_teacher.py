"""Student and slowly moving teacher must agree on unlabelled scans (Tarvainen and Valpola 2017).

As the left-atrium literature runs it (UA-MT's code without the uncertainty mask):
L = (CE + Dice) / 2 on labelled patches + w(t) * MSE of the softmax probabilities on unlabelled patches, where the
teacher sees the patch with noise clip(N(0, 0.1), +-0.2), w(t) = w_max exp(-5 (1 - t/T)^2), and after each step
teacher = EMA of the student. The student predicts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from SemiSegLib.config import setting
from SemiSegLib.data.views import noisy
from SemiSegLib.losses.consistency import probability_mse
from SemiSegLib.losses.segmentation import output_loss
from SemiSegLib.methods import base
from SemiSegLib.methods.base import Batch, Plan, Term
from SemiSegLib.networks.ema import make_teacher, update_teacher
from SemiSegLib.schedules import Step


@dataclass
class MethodSettings:
    """Defaults are those of UA-MT's left-atrium code."""

    consistency: float = setting(0.1, "w_max, weight of the consistency at the end of its ramp", at_least=0)
    ema_decay: float = setting(0.99, "decay of the teacher's moving average", at_least=0, at_most=1)
    noise: float = setting(
        0.1, "sd of the teacher's input noise (clipped at twice that), in sd of the intensities", at_least=0
    )


class Method(base.Method):
    """Mean teacher."""

    settings: MethodSettings

    def __init__(self, settings: MethodSettings, plan: Plan) -> None:
        super().__init__(settings, plan)
        self.student = plan.build_network()
        self.teacher = make_teacher(self.student)

    def losses(self, batch: Batch, step: Step) -> dict[str, Term]:
        """Supervised term and consistency."""
        labelled = len(batch.labelled)
        student = self.student(batch.images)
        terms = {"supervised": Term(output_loss(student[:labelled], batch.labelled.mask))}
        if len(batch.unlabelled):
            with torch.no_grad():
                target = self.teacher(noisy(batch.unlabelled.image, self.settings.noise, 2 * self.settings.noise))
            consistency = probability_mse(student.logits[labelled:], target.logits)
            terms["consistency"] = Term(consistency, self.settings.consistency * step.ramp)
        return terms

    def after_step(self, step: Step) -> None:
        """Move the teacher towards the student."""
        update_teacher(self.teacher, self.student, self.settings.ema_decay, step.iteration)
