"""SimCVD: boundary-aware slice contrast and voxel distillation between student and teacher (You et al. 2022).

You, Zhou, Zhao, Staib, Duncan: "SimCVD: Simple Contrastive Voxel-Wise Representation Distillation for
Semi-Supervised Medical Image Segmentation", IEEE TMI 41(9):2228-2237, 2022 (arXiv 2108.06227). Symbols and equation
numbers are the paper's.

Student and teacher (EMA of the student) are V-Nets with a mask head and a signed-distance-map (SDM) head.

    labelled     L_sup      = (CE + Dice) / 2 + alpha * MSE of the SDM                          (Eq. 1)
    unlabelled   L_contrast = InfoNCE, both directions, of slices of F = image + SDM            (Eq. 2, 3)
                 L_pd       = each bottleneck voxel must resemble itself in the teacher most    (Eq. 4)
                 L_con      = MSE of the probabilities under independent input noise            (Eq. 5)
    L = L_sup + lambda L_contrast + beta L_pd + gamma Psi(t) L_con                              (Eq. 6)

The slices of F along the last axis pass a head H: AlphaDropout, average pooling to 128 x 128, and a three-layer
perceptron. The independent dropout masks of student and teacher are the only difference between a slice and its
positive; all other slices of the batch are negatives. At test time only the student's mask head is used.

The paper leaves open, and these are choices (each a setting where it may matter): the perceptron's widths; unit
length of h; the teacher's H as an EMA copy of the student's; the mean instead of the literal sum over voxels in
Eq. 4; Eq. 5 on the softmax probabilities, with UA-MT's noise; one shared crop, rotation and flip for both networks;
the ramp Psi on gamma only (the paper ramps up "parameters"; with Psi on all weights and the learning rate divided by
ten at half time, contrast and distillation hardly act); the bottleneck taken before its dropout; F from the image
without noise. With several classes, each class has its SDM and its slices: a slice is contrasted with slices of the
same class. In 2D a patch is one slice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from SemiSegLib.config import setting
from SemiSegLib.data.views import noisy
from SemiSegLib.losses.consistency import probability_mse
from SemiSegLib.losses.contrastive import symmetric_info_nce
from SemiSegLib.losses.distillation import pairwise_distillation
from SemiSegLib.losses.segmentation import output_loss, sdm_loss
from SemiSegLib.methods import base
from SemiSegLib.methods.base import Batch, Plan, Term
from SemiSegLib.networks.ema import make_teacher, update_teacher
from SemiSegLib.schedules import Step

TRAINING_DEFAULTS = {"training.weight_decay": 5e-4, "training.milestones": (0.5,)}  # page 7: divided by 10 at 3000/6000


@dataclass
class MethodSettings:
    """Defaults are those of the paper, page 7, where it gives one."""

    sdm: float = setting(0.1, "alpha, weight of the distance-map regression", at_least=0)
    contrast: float = setting(0.5, "lambda, weight of the boundary-aware contrast", at_least=0)
    distillation: float = setting(0.1, "beta, weight of the pair-wise distillation", at_least=0)
    consistency: float = setting(0.1, "gamma, weight of the consistency", at_least=0)
    temperature: float = setting(0.5, "tau of the contrast", above=0)
    dropout: float = setting(0.1, "p of the AlphaDropout masks, the only augmentation of slices", at_least=0, below=1)
    pool: int = setting(128, "side that slices are pooled to", at_least=1)
    hidden: int = setting(256, "width of the perceptron's two hidden layers (choice)", at_least=1)
    embedding: int = setting(128, "length of h (choice)", at_least=1)
    normalise: bool = setting(True, "scale h to unit length (choice; Eq. 2 writes a bare dot product)")
    distillation_sum: bool = setting(False, "sum over voxels as Eq. 4 is written, instead of the mean (choice)")
    ema_decay: float = setting(0.999, "decay of the teacher's moving average", at_least=0, at_most=1)
    noise: float = setting(
        0.1, "sd of the input noise (clipped at twice that), in sd of the intensities (choice)", at_least=0
    )
    ramp: str = setting(
        "consistency",
        "consistency: Psi(t) on gamma only (choice); all: on lambda and beta, too; none",
        choices=("consistency", "all", "none"),
    )


class SliceHead(nn.Module):
    """H: (n, 1, height, width) slices to (n, embedding) vectors; 4,293,248 parameters with the defaults."""

    def __init__(self, settings: MethodSettings) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AlphaDropout(settings.dropout),
            nn.AdaptiveAvgPool2d(settings.pool),
            nn.Flatten(),
            nn.Linear(settings.pool**2, settings.hidden),
            nn.ReLU(),
            nn.Linear(settings.hidden, settings.hidden),
            nn.ReLU(),
            nn.Linear(settings.hidden, settings.embedding),
        )

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """(n, 1, height, width) to (n, embedding)."""
        return self.layers(slices)


def boundary_slices(image: torch.Tensor, sdm: torch.Tensor) -> torch.Tensor:
    """F = image + SDM cut along the last axis: (B, 1, X, Y[, Z]), (B, K, X, Y[, Z]) to (K, B * Z, 1, X, Y)."""
    combined = image.float() + sdm.float()
    if combined.dim() == 4:
        combined = combined.unsqueeze(-1)
    return combined.permute(1, 0, 4, 2, 3).flatten(1, 2).unsqueeze(2)


class Method(base.Method):
    """SimCVD."""

    needs_sdm = True
    settings: MethodSettings

    def __init__(self, settings: MethodSettings, plan: Plan) -> None:
        super().__init__(settings, plan)
        self.student = plan.build_network(sdm=True)
        self.student_head = SliceHead(settings)
        self.teacher = make_teacher(self.student)
        self.teacher_head = make_teacher(self.student_head)

    def losses(self, batch: Batch, step: Step) -> dict[str, Term]:
        """The terms of Eq. 6 under the paper's names."""
        labelled, s = len(batch.labelled), self.settings
        images = torch.cat([batch.labelled.image, noisy(batch.unlabelled.image, s.noise, 2 * s.noise)])
        student = self.student(images)
        terms = {
            "supervised": Term(output_loss(student[:labelled], batch.labelled.mask)),
            "sdm": Term(sdm_loss(student.sdm[:labelled], batch.labelled.sdm), s.sdm),
        }
        if not len(batch.unlabelled):
            return terms
        image = batch.unlabelled.image
        with torch.no_grad():
            teacher = self.teacher(noisy(image, s.noise, 2 * s.noise))
            teacher_slices = boundary_slices(image, teacher.sdm)
        student_slices = boundary_slices(image, student.sdm[labelled:])
        reduction = "sum" if s.distillation_sum else "mean"
        ramp = step.ramp if s.ramp == "all" else 1.0
        con_ramp = 1.0 if s.ramp == "none" else step.ramp
        contrast = self._contrast(student_slices, teacher_slices)
        distillation = pairwise_distillation(student.bottleneck[labelled:], teacher.bottleneck, reduction)
        consistency = probability_mse(student.logits[labelled:], teacher.logits)
        return {
            **terms,
            "contrast": Term(contrast, s.contrast * ramp),
            "distillation": Term(distillation, s.distillation * ramp),
            "consistency": Term(consistency, s.consistency * con_ramp),
        }

    def _contrast(self, student_slices: torch.Tensor, teacher_slices: torch.Tensor) -> torch.Tensor:
        losses = []
        for ours, theirs in zip(student_slices, teacher_slices, strict=True):  # over classes
            with torch.no_grad():
                teacher = self.teacher_head(theirs)
            student = self.student_head(ours)
            losses.append(symmetric_info_nce(student, teacher, self.settings.temperature, self.settings.normalise))
        return torch.stack(losses).mean()

    def after_step(self, step: Step) -> None:
        """Move the teacher and its head towards the student's."""
        update_teacher(self.teacher, self.student, self.settings.ema_decay, step.iteration)
        update_teacher(self.teacher_head, self.student_head, self.settings.ema_decay, step.iteration)
