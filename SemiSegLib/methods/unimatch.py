"""What the network is sure of on a patch must hold when it is strongly changed (weak to strong; Yang et al. 2023).

Yang, Qi, Feng, Zhang, Shi: "Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic Segmentation", CVPR 2023
(arXiv 2208.09910), with the medical part of its code (LiheYoung/UniMatch, more-scenarios/medical/unimatch.py).

    label     argmax of the labelling network on the weak view u_w, without gradient, in eval() mode
              voxels below the confidence threshold take part in no loss on unlabelled scans
    strong    views u_s of the same geometry with changed intensities, and CutMix: inside a box each shows the next
              patch of the batch, its label likewise
    features  the weak view once more through the decoder with half of the feature maps' channels dropped
    L = [L_x + r (sum_i w_s / n L_s_i + w_f L_f)] / (1 + r (w_s + w_f)), each L = (CE + Dice) / 2

Choices: the labelling network is by default an average of the student's weights (EMA) instead of the student itself,
since its labels are steadier (`ema_decay=0` is the paper's single network); CE besides Dice on unlabelled voxels (the
medical code has Dice alone); a CutMix box of half the patch's area through all slices (the code: a random rectangle of
2 to 40 % in half of the patches); r (the paper: 1) rises to 1 within a tenth of the training. Under `published` the
strong views differ in intensity, too (`augmentation.intensity`), since the paper has no other geometry. Under `strong`
the labels say nothing about classes that are not learnt yet (`learnt`; losses.learnt says why), and r is smaller by the
share of these; half of the training goes before with annotated patches alone, at the schedule's first rate: without,
half a point of DSC is lost on the left atrium with eight masks, none on cardiac cine with three patients, where at a
small size 2.4 are won (Testing/Benchmarks). The network normalises by batch, which is better than by instance, or as
good, and stands scans with more around the organ than those learnt from; it labels with the statistics of the weak
views themselves (`batch_statistics`): with the running ones it taught itself what it got wrong, 13 points of DSC on
cardiac cine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from SemiSegLib.config import setting
from SemiSegLib.constants import IGNORE
from SemiSegLib.data.batch import Patches
from SemiSegLib.data.views import half_boxes, mix_with_next
from SemiSegLib.losses.learnt import LearntClasses
from SemiSegLib.losses.segmentation import output_loss
from SemiSegLib.methods import base
from SemiSegLib.methods.base import Batch, Plan, Term, stage_shares
from SemiSegLib.networks import Network
from SemiSegLib.networks.ema import copy_statistics, make_teacher, update_teacher, use_batch_statistics
from SemiSegLib.schedules import Step, gaussian_ramp

TRAINING_DEFAULTS = {"training.schedule": "poly", "augmentation.intensity": 1.0}
STRONG_DEFAULTS = {
    "network.normalisation": "batch",
    "method_settings.views": 1,
    "method_settings.features": 0.0,
    "method_settings.strong": 1.0,
    "method_settings.learnt": 0.5,
    "method_settings.batch_statistics": True,
    "method_settings.shares": (1.0, 1.0),
}


@dataclass
class MethodSettings:
    """Weights and threshold are the paper's, the rest choices."""

    threshold: float = setting(0.95, "confidence from which a voxel's label is used", at_least=0, at_most=1)
    strong: float = setting(0.5, "w_s, weight of the strong views together", at_least=0)
    features: float = setting(0.5, "w_f, weight of the pass with dropped features; 0: without it", at_least=0)
    views: int = setting(2, "n, strong views of an unlabelled patch", at_least=1)
    cutmix: float = setting(1.0, "share of the strong views that are mixed", at_least=0, at_most=1)
    ema_decay: float = setting(
        0.99, "decay of the labelling network's average; 0: the student labels", at_least=0, below=1
    )
    learnt: float = setting(
        0.0,
        "DSC on annotated patches from which a class counts as learnt; the network's labels say nothing about the "
        "others; 0: about all from the start, as in the paper",
        at_least=0,
        below=1,
    )
    shares: tuple[float, ...] = setting(
        (0.0, 1.0), "shares of training with annotated patches alone and of weak to strong", lengths=(2,), at_least=0
    )
    batch_statistics: bool = setting(
        False,
        "label with the batch statistics of the weak views instead of the running ones, where the network normalises "
        "by batch",
    )
    ramp: float = setting(
        0.1, "share of weak to strong after which the unlabelled terms have their full weight", at_least=0, at_most=1
    )


class Method(base.Method):
    """UniMatch."""

    settings: MethodSettings
    student: Network
    teacher: Network
    learnt: LearntClasses
    unlabelled_views: Sequence[str] = ("weak", "strong", "strong")
    stages = {"supervised": 0.0, "weak to strong": 1.0}  # noqa: RUF012 (base: a mapping that is not changed)
    constant_rate = ("supervised",)

    def __init__(self, settings: MethodSettings, plan: Plan) -> None:
        super().__init__(settings, plan)
        self.unlabelled_views = ("weak", *["strong"] * settings.views)
        self.stages = stage_shares(self.stages, settings.shares)
        self.student = plan.build_network()
        self.teacher = make_teacher(self.student)
        self.learnt = LearntClasses(plan.classes, settings.learnt)

    def patches(self, stage: str, labelled: int, unlabelled: int) -> tuple[int, int]:
        """The supervised stage fills the batch with labelled patches."""
        return (labelled + unlabelled, 0) if stage == "supervised" else (labelled, unlabelled)

    def losses(self, batch: Batch, step: Step) -> dict[str, Term]:
        """Supervised term, strong views, dropped features."""
        s, labelled = self.settings, len(batch.labelled)
        if not len(batch.unlabelled):
            output = self.student(batch.labelled.image)
            self.learnt.update(output.logits, batch.labelled.mask)
            return {"supervised": Term(output_loss(output, batch.labelled.mask))}
        target = self._labels(batch.unlabelled.image)
        strong, targets = self._strong_views(batch.unlabelled, target)
        weak = [batch.unlabelled.image] if s.features > 0 else []
        features = self.student.encode(torch.cat([batch.labelled.image, *strong, *weak]))
        if weak:
            features = [_drop_channels(level, len(weak[0])) for level in features]
        output = self.student.decode(features)
        parts = [output[rows] for rows in _rows([labelled, *map(len, strong), *map(len, weak)])]
        learnt = self.learnt.update(parts[0].logits, batch.labelled.mask)
        rise = gaussian_ramp(step.fraction / s.ramp if s.ramp > 0 else 1.0) * learnt[1:].float().mean().item()
        whole = 1 + rise * (s.strong + s.features)
        terms = {"supervised": Term(output_loss(parts[0], batch.labelled.mask), 1 / whole)}
        losses = [output_loss(part, wanted, learnt=learnt) for part, wanted in zip(parts[1:], targets, strict=False)]
        terms["strong"] = Term(torch.stack(losses).mean(), rise * s.strong / whole)
        if weak:
            terms["features"] = Term(output_loss(parts[-1], target, learnt=learnt), rise * s.features / whole)
        return terms

    @torch.no_grad()
    def _labels(self, weak: torch.Tensor) -> torch.Tensor:
        """(B, *S) classes of the labelling network, IGNORE where it is not sure."""
        network = self.teacher if self.settings.ema_decay > 0 else self.student
        training = network.training
        network.eval()
        if self.settings.batch_statistics and (len(weak) > 1 or max(weak.shape[2:]) >= 32):  # else of single values
            use_batch_statistics(network)
        confidence, label = network(weak).probabilities.max(1)
        network.train(training)
        return torch.where(confidence >= self.settings.threshold, label, IGNORE)

    def _strong_views(self, patches: Patches, target: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        views, targets = [], []
        for index in range(self.settings.views):
            view = patches.views[:, index]
            boxes = half_boxes(view, self.settings.cutmix)
            views.append(mix_with_next(boxes, view))
            targets.append(mix_with_next(boxes, target))
        return views, targets

    def after_step(self, step: Step) -> None:
        """Move the labelling network towards the student."""
        update_teacher(self.teacher, self.student, self.settings.ema_decay, step.iteration)
        copy_statistics(self.teacher, self.student)


def _rows(lengths: Sequence[int]) -> Iterator[slice]:
    """The rows of each part of a batch."""
    end = 0
    for length in lengths:
        yield slice(end, end := end + length)


def _drop_channels(features: torch.Tensor, last: int) -> torch.Tensor:
    """Half of the channels of the last so many patches' feature maps set to 0, the others doubled."""
    kept, dropped = features[:-last], features[-last:]
    mask = (torch.rand(dropped.shape[:2], device=features.device) < 0.5).to(features.dtype) * 2
    return torch.cat([kept, dropped * mask.reshape(*mask.shape, *[1] * (features.dim() - 2))])
