"""Two teachers that take turns, each updated in its own periods, label the unlabelled scans (Zhao et al. 2024).

Zhao, Wang, Zhao, Shen, Yu, Zhou: "Alternate Diverse Teaching for Semi-supervised Medical Image Segmentation", ECCV 2024
(arXiv 2311.17325), with its code for the left atrium (ZhenZHAO/AD-MT, code/train_post_3d_aut.py).

    periods   of 1 to `longest` iterations at random: one teacher moves with the student (EMA) and works in train()
              mode, the other rests in eval() mode; then they change
    label     argmax of the teachers' probabilities on the weak view, each weighted by exp(-entropy); where the teachers
              differ and the student differs from that label, the more confident of the two is taken
    strong    in the first teacher's periods a view of changed intensities, in the second's CutMix of weak views
    L = (CE + Dice) / 2 + w(t) CE on strong voxels whose label is confident, w(t) = w_max exp(-5 (1 - t / R)^2)

The student sees labelled, weak and strong patches in one pass and predicts.

Choices: a CutMix box of half the patch's area through all slices; the ramp R as a share of the training (the code:
6,000 of 15,000 iterations).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from SemiSegLib.compute.distributed import generator
from SemiSegLib.config import setting
from SemiSegLib.constants import IGNORE
from SemiSegLib.data.batch import Patches
from SemiSegLib.data.views import half_boxes, mix_with_next
from SemiSegLib.losses.segmentation import cross_entropy, output_loss
from SemiSegLib.methods import base
from SemiSegLib.methods.base import Batch, Plan, Term
from SemiSegLib.networks import Network
from SemiSegLib.networks.ema import make_teacher, update_teacher
from SemiSegLib.schedules import Step, gaussian_ramp

TRAINING_DEFAULTS = {"training.schedule": "poly", "augmentation.intensity": 1.0}


@dataclass
class MethodSettings:
    """Defaults are those of the code for the left atrium."""

    weight: float = setting(2.0, "w_max, weight of the unlabelled term at the end of its ramp", at_least=0)
    ramp: float = setting(0.4, "R, share of the training after which it is reached", above=0, at_most=1)
    threshold: float = setting(0.8, "confidence from which a voxel's label is used", at_least=0, at_most=1)
    longest: int = setting(19, "most iterations of a teacher's period", at_least=1)
    ema_decay: float = setting(0.99, "decay of the teachers' moving averages", at_least=0, at_most=1)


class Method(base.Method):
    """AD-MT."""

    settings: MethodSettings
    student: Network
    unlabelled_views: Sequence[str] = ("weak", "strong")
    turn: torch.Tensor  # (2,) int64: the teacher whose period it is, and the iterations it has left

    def __init__(self, settings: MethodSettings, plan: Plan) -> None:
        super().__init__(settings, plan)
        self.student = plan.build_network()
        self.teachers = nn.ModuleList([make_teacher(self.student), make_teacher(self.student)])
        self.register_buffer("turn", torch.tensor([0, settings.longest]))

    def losses(self, batch: Batch, step: Step) -> dict[str, Term]:
        """Supervised term, and cross-entropy of the strong view."""
        labelled, unlabelled = batch.labelled, batch.unlabelled
        if not len(unlabelled):
            return {"supervised": Term(output_loss(self.student(labelled.image), labelled.mask))}
        views = [self._probabilities(teacher, index, unlabelled.image) for index, teacher in enumerate(self.teachers)]
        strong, box = self._strong(unlabelled)
        student = self.student(torch.cat([labelled.image, unlabelled.image, strong]))
        _, weak, seen = student.logits.split([len(labelled), len(unlabelled), len(strong)])
        target = agreed_labels(views[0], views[1], weak.detach().float().softmax(1), self.settings.threshold)
        if box is not None:
            target = mix_with_next(box, target)
        return {
            "supervised": Term(output_loss(student[: len(labelled)], labelled.mask)),
            "pseudo": Term(
                cross_entropy(seen, target), self.settings.weight * gaussian_ramp(step.fraction / self.settings.ramp)
            ),
        }

    @torch.no_grad()
    def _probabilities(self, teacher: nn.Module, index: int, weak: torch.Tensor) -> torch.Tensor:
        teacher.train(index == int(self.turn[0]))
        return teacher(weak).probabilities

    def _strong(self, patches: Patches) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The strong view, and the boxes in which it shows the next patch."""
        if int(self.turn[0]) == 0:
            return patches.views[:, 0], None
        box = half_boxes(patches.image)
        return mix_with_next(box, patches.image), box

    def further_networks(self) -> dict[str, nn.Module]:
        """The teachers: one rests in the first period, and labels with what it began with."""
        return {f"teacher {index}": teacher for index, teacher in enumerate(self.teachers, 1)}

    def after_step(self, step: Step) -> None:
        """Move the teacher whose period it is; at its end the other's begins."""
        index, left = self.turn.tolist()
        update_teacher(self.teachers[index], self.student, self.settings.ema_decay, step.iteration)
        if left > 1:
            self.turn[1] -= 1
        else:
            length = torch.randint(1, self.settings.longest + 1, (), generator=generator("cpu"))  # alike on all ranks
            self.turn.copy_(torch.tensor([1 - index, int(length)]))


def agreed_labels(first: torch.Tensor, second: torch.Tensor, student: torch.Tensor, threshold: float) -> torch.Tensor:
    """(B, *S) classes from the probabilities (B, C, *S) of both teachers and the student; IGNORE where none is sure."""
    weights = torch.stack([(-_entropy(each)).exp() for each in (first, second)])
    together = (weights[0] * first + weights[1] * second) / weights.sum(0)
    confidence, label = together.max(1)
    own_confidence, own = student.max(1)
    conflict = (first.argmax(1) != second.argmax(1)) & (own != label) & (own_confidence > confidence)
    label, confidence = torch.where(conflict, own, label), torch.where(conflict, own_confidence, confidence)
    return torch.where(confidence >= threshold, label, IGNORE)


def _entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """(B, 1, *S), natural logarithm."""
    return -(probabilities * probabilities.clamp(min=1e-12).log()).sum(1, keepdim=True)
