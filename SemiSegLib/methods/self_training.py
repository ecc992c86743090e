"""The network labels the unlabelled scans itself and learns from the stable labels, in rounds.

What many winners of segmentation challenges do (FLARE 2022: Huang et al., "Revisiting nnU-Net for iterative pseudo
labeling and efficient sliding window inference"). Stages, each with a schedule of its own:

    supervised    L = (CE + Dice) / 2 on labelled patches, the whole batch
    round 1, 2..  all unlabelled scans are predicted as a whole in mirrored views; voxels of low confidence and the
                  scans whose views differ most are left out; then
                  L = [L(annotated voxels) + w L(self-labelled voxels)] / (1 + w), each (CE + Dice) / 2,
                  where with CutMix labelled and unlabelled patches are pasted into each other

Choices: stages go on from the last one's weights (`restart=false`) at the schedule's first learning rate; confidence,
share of scans left out and lengths of the stages; CutMix between the halves (after BCP, Bai et al. 2023); labels that
say nothing about classes which are not learnt yet (losses.learnt). With several `members` the supervised stage is gone
through by as many networks, each from weights of its own; their mean labels.

The labels of a network that has learnt too little do harm: on the left atrium a round after 1,500 iterations lost 1.4
points of DSC against going on with the annotated scans, one after 3,600 lost nothing (Testing/Benchmarks). So the
supervised stage has SUPERVISED of all iterations and LEAST at least; a training no longer than LEAST is supervised.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from SemiSegLib.config import setting
from SemiSegLib.constants import IGNORE
from SemiSegLib.data.views import half_boxes, mix_with_next
from SemiSegLib.errors import SemiSegError
from SemiSegLib.losses.learnt import LearntClasses
from SemiSegLib.losses.segmentation import output_loss
from SemiSegLib.methods import base
from SemiSegLib.methods.base import Batch, Labelling, Plan, Term
from SemiSegLib.schedules import Step

SUPERVISED = 0.6  # of all iterations
LEAST = 3000  # iterations


@dataclass
class MethodSettings:
    """No source gives these: choices."""

    members: int = setting(
        1,
        "networks that are trained with the annotated scans, one after the other from different weights; their mean "
        "labels, and the last one is trained on; fewer where there is no time for 3000 iterations of each",
        at_least=1,
    )
    shares: tuple[float, ...] = setting(
        (),
        "shares of the supervised stage (of each member) and of each round of all iterations; none: one round of two "
        "fifths, less where the supervised stage would have fewer than 3000 iterations",
        above=0,
    )
    confidence: float = setting(
        0.9, "mean confidence of the views from which a voxel's label is used", at_least=0, at_most=1
    )
    dropped: float = setting(
        0.2, "share of the unlabelled scans left out of a round, those whose views differ most", at_least=0, below=1
    )
    weight: float = setting(1.0, "w, weight of the self-labelled voxels", at_least=0)
    learnt: float = setting(
        0.5,
        "DSC on annotated patches from which a class counts as learnt; the network's labels say nothing about the "
        "others; 0: about all",
        at_least=0,
        below=1,
    )
    cutmix: float = setting(0.5, "share of patches into which the next of the batch is pasted", at_least=0, at_most=1)
    restart: bool = setting(False, "each round starts from new weights")


class Method(base.Method):
    """Self-training."""

    settings: MethodSettings

    def __init__(self, settings: MethodSettings, plan: Plan) -> None:
        super().__init__(settings, plan)
        members, shares = settings.members, settings.shares
        if not shares:
            members, shares = _lengths(plan.iterations, members)
        if settings.shares and (len(shares) < 2 or min(shares) <= 0):
            raise SemiSegError(
                f"The setting 'method_settings.shares' is {list(shares)}; it needs a positive number for the "
                "supervised stage and one for each round, at least one."
            )
        self.fresh = [f"supervised {index}" for index in range(2, members + 1)]
        rounds = [f"round {index}" for index in range(1, len(shares))]
        self.stages = {
            **dict.fromkeys(["supervised", *self.fresh], shares[0]),
            **dict(zip(rounds, shares[1:], strict=True)),
        }
        self.labelling = dict.fromkeys(rounds, Labelling(settings.confidence, settings.dropped))
        self.student = plan.build_network()
        self.learnt = LearntClasses(plan.classes, settings.learnt)

    def patches(self, stage: str, labelled: int, unlabelled: int) -> tuple[int, int]:
        """The supervised stage fills the batch with labelled patches."""
        return (labelled, unlabelled) if stage in self.labelling else (labelled + unlabelled, 0)

    def enter_stage(self, stage: str, first: bool) -> None:
        """A member begins anew, and a round may (the labels have been made by then)."""
        anew = stage in self.fresh or (stage in self.labelling and self.settings.restart)
        if anew and first:
            fresh = self.plan.build_network()
            self.student.load_state_dict(fresh.state_dict())

    def losses(self, batch: Batch, step: Step) -> dict[str, Term]:
        """Annotated and self-labelled voxels, each with a term of its own."""
        annotated = batch.labelled.mask.long()
        if not len(batch.unlabelled) or not batch.unlabelled.mask.numel():
            output = self.student(batch.labelled.image)
            self.learnt.update(output.logits, annotated)
            return {"supervised": Term(output_loss(output, annotated))}
        own = batch.unlabelled.mask.long()
        image = batch.images
        drawn = torch.cat([annotated, torch.full_like(own, IGNORE)])
        imagined = torch.cat([torch.full_like(annotated, IGNORE), own])
        boxes = half_boxes(image, self.settings.cutmix)
        output = self.student(mix_with_next(boxes, image))
        drawn, imagined = mix_with_next(boxes, drawn), mix_with_next(boxes, imagined)
        learnt = self.learnt.update(output.logits, drawn)
        whole = 1 + self.settings.weight
        return {
            "supervised": Term(output_loss(output, drawn), 1 / whole),
            "pseudo": Term(output_loss(output, imagined, learnt=learnt), self.settings.weight / whole),
        }


def _lengths(iterations: int, members: int) -> tuple[int, tuple[float, ...]]:
    """(members, iterations of the supervised stage of each and of one round): as many as there is time for."""
    for count in range(members, 0, -1):
        supervised = max(round(SUPERVISED * iterations / count), LEAST)
        if count * supervised < iterations:
            return count, (supervised, iterations - count * supervised)
    return 1, (iterations,)
