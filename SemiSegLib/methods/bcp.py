"""Bidirectional copy-paste: annotated and unannotated scans pasted into each other (Bai et al. 2023).

Bai, Chen, Li, Shen, Wang: "Bidirectional Copy-Paste for Semi-Supervised Medical Image Segmentation", CVPR 2023
(arXiv 2305.00673), with its code (DeepMed-Lab-ECNU/BCP). Two stages, trained one after the other as one training. M is
1 everywhere but in a random box of beta = 2/3 of the patch's sides, where it is 0; x_a, x_b are labelled patches with
masks y, u_a, u_b unlabelled ones with the teacher's labels p (largest connected part of each class).

    pre-training    M x_a + (1 - M) x_b  and back:  L = (CE + Dice) / 2 with the masks mixed likewise
    self-training   inward   M x_a + (1 - M) u_a    annotated outside the box, pseudo labels inside
                    outward  M u_b + (1 - M) x_b    the other way round
                    L = L(annotated part) + alpha L(pseudo-labelled part) of both, alpha = 0.5,
                    each L = (CE + Dice) / 2 over its own voxels

Self-training starts with student and teacher as the pre-trained network; then teacher = EMA of the student. Annotated
and pseudo-labelled voxels share images, so that what is learned from the few carries over to the many. At test time
only the student is used.

The learning rate of pre-training is constant, as in the code for both data sets. In self-training the run's schedule
applies; the left-atrium code divides by ten after every sixth of it (2,500 of 15,000 iterations), the ACDC code keeps
it constant there, too (training.schedule=constant).

Choices: Dice with squares in its denominator and the background among its classes (the code: no squares); in
pre-training both directions of a pair, in the code one; both mixed halves go through the student together; the last
pre-trained network goes on, in the code that with the best score; stages in the ratio 1 : 3 as on ACDC (2 : 15 on the
left atrium). A batch is halved into a and b; of a single patch, a and b are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from SemiSegLib.compute.distributed import gather, generator, share
from SemiSegLib.config import setting
from SemiSegLib.constants import IGNORE
from SemiSegLib.data.batch import Patches
from SemiSegLib.data.components import largest_components
from SemiSegLib.losses.segmentation import output_loss
from SemiSegLib.methods import base
from SemiSegLib.methods.base import Batch, Plan, Term, stage_shares
from SemiSegLib.networks.ema import copy_statistics, hand_over, make_teacher, update_teacher
from SemiSegLib.schedules import Step


@dataclass
class MethodSettings:
    """Defaults are those of the paper and its code."""

    shares: tuple[float, ...] = setting(
        (1.0, 3.0), "shares of pre-training and self-training of all iterations", lengths=(2,), at_least=0
    )
    beta: float = setting(0.6666666666666666, "sides of the pasted box as a share of the patch's", above=0, at_most=1)
    pseudo: float = setting(0.5, "alpha, weight of the pseudo-labelled voxels", at_least=0)
    largest_component: bool = setting(True, "keep the largest connected part of each class of the pseudo labels")
    ema_decay: float = setting(0.99, "decay of the teacher's moving average", at_least=0, at_most=1)
    teacher_eval: bool = setting(False, "pseudo labels without dropout and with the student's batch statistics")


class Method(base.Method):
    """BCP."""

    settings: MethodSettings
    stages = {"pre-training": 1.0, "self-training": 3.0}  # noqa: RUF012 (base: a mapping that is not changed)
    constant_rate = ("pre-training",)

    def __init__(self, settings: MethodSettings, plan: Plan) -> None:
        super().__init__(settings, plan)
        self.stages = stage_shares(self.stages, settings.shares)
        self.student = plan.build_network()
        self.teacher = make_teacher(self.student)

    def enter_stage(self, stage: str, first: bool) -> None:
        """Self-training begins with the pre-trained network as the teacher."""
        if stage == "self-training" and first:
            hand_over(self.teacher, self.student)

    def losses(self, batch: Batch, step: Step) -> dict[str, Term]:
        """The terms of the stage."""
        if step.stage == "pre-training" or not len(batch.unlabelled):
            return self._pre_train(batch.labelled)
        return self._self_train(batch)

    def _pre_train(self, labelled: Patches) -> dict[str, Term]:
        image_a, image_b, mask_a, mask_b = self._halves(labelled.image, labelled.mask)
        box = random_box(image_a, self.settings.beta)
        image = torch.cat([paste(box, image_a, image_b), paste(box, image_b, image_a)])
        mask = torch.cat([paste(box, mask_a, mask_b), paste(box, mask_b, mask_a)])
        return {"supervised": Term(output_loss(self.student(image), mask, background=True))}

    def _self_train(self, batch: Batch) -> dict[str, Term]:
        labelled, unlabelled = batch.labelled, batch.unlabelled.image
        parts = (labelled.image, labelled.mask.long(), unlabelled, self._pseudo_labels(unlabelled))
        image_a, image_b, mask_a, mask_b, other_a, other_b, pseudo_a, pseudo_b = self._halves(*parts)
        pairs = len(image_a)
        box = random_box(image_a, self.settings.beta)
        output = self.student(torch.cat([paste(box, image_a, other_a), paste(box, other_b, image_b)]))
        inward, outward = output[:pairs], output[pairs:]
        nothing = torch.full_like(mask_a, IGNORE)
        annotated = (inward, paste(box, mask_a, nothing)), (outward, paste(box, nothing, mask_b))
        imagined = (inward, paste(box, nothing, pseudo_a)), (outward, paste(box, pseudo_b, nothing))
        supervised, pseudo = (
            torch.stack([output_loss(*half, background=True) for half in part]).sum() for part in (annotated, imagined)
        )
        return {"supervised": Term(supervised), "pseudo": Term(pseudo, self.settings.pseudo)}

    def _halves(self, *parts: torch.Tensor) -> list[torch.Tensor]:
        """Both halves of each of these parts of the batch, as many patches of each (pairs are made of all ranks')."""
        cut = [half for part in parts for half in halves(gather(part))]
        pairs = min(map(len, cut))
        return [share(half[:pairs]) for half in cut]

    @torch.no_grad()
    def _pseudo_labels(self, image: torch.Tensor) -> torch.Tensor:
        """(B, *S) the teacher's classes."""
        self.teacher.train(not self.settings.teacher_eval)
        labels = self.teacher(image).logits.argmax(1)
        if self.settings.largest_component:
            parts = [largest_components(patch, self.plan.classes - 1) for patch in labels.cpu().numpy()]
            labels = torch.stack([torch.from_numpy(patch) for patch in parts]).to(labels.device)
        return labels

    def after_step(self, step: Step) -> None:
        """Move the teacher towards the student, once there is one."""
        if step.stage == "self-training":
            update_teacher(self.teacher, self.student, self.settings.ema_decay, 10**6)  # no warm-up: it was copied
            if self.settings.teacher_eval:
                copy_statistics(self.teacher, self.student)


def halves(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two equally long parts of a batch; twice the same of a single patch, without the middle one of an odd count."""
    count = max(1, len(values) // 2)
    return values[:count], values[len(values) - count :]


def random_box(image: torch.Tensor, beta: float) -> torch.Tensor:
    """(*S) bool: a box of `beta` times the sides of patches (B, 1, *S) at a random place, one for the whole batch."""
    box = torch.zeros(image.shape[2:], dtype=torch.bool, device=image.device)
    lengths = [max(1, int(side * beta)) for side in box.shape]
    alike = generator("cpu")
    starts = [
        int(torch.randint(side - length + 1, (), generator=alike))
        for side, length in zip(box.shape, lengths, strict=True)
    ]
    box[tuple(slice(start, start + length) for start, length in zip(starts, lengths, strict=True))] = True
    return box


def paste(box: torch.Tensor, around: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """`inside` within the box, `around` elsewhere: M around + (1 - M) inside."""
    return torch.where(box, inside, around)
