"""ACTION: soft contrast with a bank of images, then of windows, then anatomical contrast (You et al. 2023).

You, Dai, Min, Staib, Duncan: "Bootstrapping Semi-supervised Medical Image Segmentation with Anatomical-aware
Contrastive Distillation", IPMI 2023 (arXiv 2206.02307). Three stages, trained one after the other as one training;
each has its own optimiser and runs the learning-rate schedule once. z are embeddings, a_n those of other images in
a bank (first in, first out), s the student, t the teacher (EMA of the student), without gradient.

    global       L = L_g       L_g = KL( p(z_t) || p(pred z_s) ),  p(z) = softmax_n( cos(z, a_n) / tau )
                               z = head(mean of the bottleneck); the decoder is not trained
    local        L = L_sup + L_g + L_l
                               L_l = the same for each of the half-overlapping windows of the logits, whose bank
                               holds the same window of other images
    anatomical   L = L_sup + L_unsup + k L_anco
                               L_unsup = eta * CE(student(augmented CutMix of x), teacher's labels of x), eta the
                               share of a patch's voxels that the teacher is sure of (confidence >= 0.97)
                               L_anco = 256 hard voxels of each class (probability below 0.97) against their class
                               mean and 512 voxels of other classes, confusable classes more often (ReCo's loss)

L_sup = (CE + Dice) / 2 with the background among Dice's classes. In the first two stages the student sees a jittered
and blurred patch, the teacher the patch itself; the third starts with the teacher a copy of the student. All images
of a batch are distilled, the labelled ones too, as in the code. In the third stage labelled and mixed patches pass the
student apart, each with its own batch statistics, as in the code. At test time only the student is used.

Where the official code differs from the paper's words, the words are followed. `as_released` brings back, of those
differences: the teacher's heads as free parameters that the KL's target trains (words: EMA of the student's, no
gradient); banks that start with random vectors (here: only real entries count); windows mixed up with embedding
values by a reshape without transpose in L_l; the last row and column of windows left out; two EMA updates in each
iteration of the third stage. `linear_heads` drops the heads' non-linearity, as the code does. Not brought back:
images as 8-bit colours, the image-only elastic warp, and a CutMix partner that is the image itself (3D code).

The teacher's temperature is 0.1, the released code's own default; the paper and the code's scripts have 0.01. A
teacher ten times sharper than the student drives whole images apart, and a training of a few thousand steps does not
get over it: its masks stay below those of supervised training (Testing/Benchmarks/Published.md). In the code, whose
heads solve the first stage by themselves, that does not show; its scripts are `as_released` and `linear_heads` with
`teacher_temperature=0.01`.

Choices: LeakyReLU in the heads (the words say non-linear); windows of a quarter of the patch's shortest side, which
is the code's 64 of 256 voxels in 2D and 20 of 80 in 3D; grey-value jitter for colour jitter; CutMix boxes run through
all slices; 3D pixel embeddings of the decoder's maps without the bottleneck, 128 channels wide as the 3D code's.

Memory: the code embeds every voxel (about 1 GB for each activation); here voxels are drawn first and then embedded:
per class 256 queries and `keys` voxels, from which the class mean and all negatives come. With 4 classes in 2D the
3 x 3 neighbourhoods of 3,072 voxels take 55 MB, with 2 classes in 3D those of 1,536 voxels 40 MB; during backward
the third of them that are queries are kept. The banks take 2 MB (2D) or 13 MB (3D).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from SemiSegLib.compute.distributed import all_sum, gather, generator, rank, size
from SemiSegLib.config import setting
from SemiSegLib.constants import IGNORE
from SemiSegLib.data.views import blur, half_boxes, jitter, mix_with_next
from SemiSegLib.losses.anatomical import anatomical_contrast
from SemiSegLib.losses.distillation import bank_distillation
from SemiSegLib.losses.segmentation import output_loss, pseudo_label_loss
from SemiSegLib.methods import base
from SemiSegLib.methods.base import Batch, Plan, Term, stage_shares
from SemiSegLib.networks import Network
from SemiSegLib.networks.bank import FeatureBank
from SemiSegLib.networks.ema import copy_statistics, hand_over, make_teacher, update_teacher
from SemiSegLib.networks.output import NetworkOutput
from SemiSegLib.networks.points import neighbourhoods
from SemiSegLib.schedules import Step

TRAINING_DEFAULTS = {"training.schedule": "poly"}  # the released code's, in every stage

_BOTTLENECK, _LATENT = 256, 512  # channels of the deepest features, length of the global embedding
_POOL = {2: 8, 3: 4}  # cells along the side of a window
_PIXEL_WIDTH = {2: 512, 3: 128}


@dataclass
class MethodSettings:
    """Defaults are those of the paper, and of the released 2D code where the paper gives none.

    The teacher's temperature is the released code's, not the paper's (see above).
    """

    shares: tuple[float, ...] = setting(
        (1.0, 1.0, 2.0),
        "shares of the three stages of all iterations; 0 skips one: trainings of a few thousand do well with 0, 0, 1",
        lengths=(3,),
        at_least=0,
    )
    global_weight: float = setting(1.0, "k1, weight of the global distillation in the second stage", at_least=0)
    local_weight: float = setting(1.0, "k2, weight of the local distillation", at_least=0)
    pseudo: float = setting(1.0, "weight of the cross-entropy with pseudo labels", at_least=0)
    anatomical: float = setting(0.01, "k, weight of the anatomical contrast", at_least=0)
    student_temperature: float = setting(0.1, "tau of the student's likenesses to the bank", above=0)
    teacher_temperature: float = setting(
        0.1, "tau of the teacher's likenesses to the bank: the released code's default; the paper's is 0.01", above=0
    )
    bank: int = setting(36, "images in the bank", at_least=1)
    queries: int = setting(256, "hard voxels of each class", at_least=1)
    negatives: int = setting(512, "negatives of each query", at_least=1)
    keys: int = setting(
        512, "voxels of each class that class means and negatives are taken from (choice: memory)", at_least=1
    )
    temperature: float = setting(0.5, "tau of the anatomical contrast and of the choice of confusable classes", above=0)
    certain: float = setting(
        0.97, "confidence that counts for eta, and probability below which a voxel is hard", at_least=0, at_most=1
    )
    plausible: float = setting(
        0.7, "confidence from which unlabelled voxels take part in the anatomical contrast", at_least=0, at_most=1
    )
    ema_decay: float = setting(0.99, "decay of the teacher's moving average", at_least=0, at_most=1)
    teacher_eval: bool = setting(False, "pseudo labels without dropout and with the student's batch statistics")
    linear_heads: bool = setting(False, "heads without non-linearity, as in the released code")
    as_released: bool = setting(False, "what the released code does differently, see the description of the method")


class PixelHead(nn.Module):
    """A 3 x 3 (x 3) convolution without bias and a 1 x 1 one, for sampled voxels; 2,548,224 parameters in 2D."""

    def __init__(self, dimensions: int, channels: int, width: int, linear: bool) -> None:
        super().__init__()
        self.around = nn.Linear(3**dimensions * channels, width, bias=False)
        self.between = _activation(linear)
        self.point = nn.Linear(width, width)

    def forward(self, around: torch.Tensor) -> torch.Tensor:
        """(N, 3^d, channels) to (N, width)."""
        return self.point(self.between(self.around(around.flatten(1))))


class Method(base.Method):
    """ACTION."""

    idle_parameters = True
    settings: MethodSettings
    student: Network
    stages = {"global": 1.0, "local": 1.0, "anatomical": 2.0}  # noqa: RUF012 (base: a mapping that is not changed)

    def __init__(self, settings: MethodSettings, plan: Plan) -> None:
        super().__init__(settings, plan)
        self.stages = stage_shares(self.stages, settings.shares)
        dimensions, classes, linear = plan.dimensions, plan.classes, settings.linear_heads
        self.student = plan.build_network()
        self.student_head = _perceptron(_BOTTLENECK, _BOTTLENECK, _LATENT, linear)
        self.predictor = _perceptron(_LATENT, _LATENT, _LATENT, linear)
        self.student_local_head = _pointwise(dimensions, classes, 2 * classes, classes, linear)
        self.local_predictor = _pointwise(dimensions, classes, classes, classes, linear)
        channels = (128, 64, 32, 16) if dimensions == 3 else (_BOTTLENECK, 128, 64, 32, 16)
        self.pixel_head = PixelHead(dimensions, sum(channels), _PIXEL_WIDTH[dimensions], linear)
        self.teacher = make_teacher(self.student)
        if settings.as_released:
            self.teacher_head = _perceptron(_BOTTLENECK, _BOTTLENECK, _LATENT, linear)
            self.teacher_local_head = _pointwise(dimensions, classes, 2 * classes, classes, linear)
        else:
            self.teacher_head = make_teacher(self.student_head)
            self.teacher_local_head = make_teacher(self.student_local_head)
        self._build_banks()

    def _build_banks(self) -> None:
        s, pool, classes = self.settings, _POOL[self.plan.dimensions], self.plan.classes
        self.cell = max(1, min(self.plan.patch_size) // 4 // pool)  # voxels
        lengths = [side // self.cell for side in self.plan.patch_size]
        windows = math.prod((length - pool) // (pool // 2) + (0 if s.as_released else 1) for length in lengths)
        embedding = classes * pool**self.plan.dimensions
        size, shape = (s.bank * embedding, (1, windows)) if s.as_released else (s.bank, (windows, embedding))
        self.bank = FeatureBank(s.bank, (1, _LATENT), random=s.as_released)
        self.local_bank = FeatureBank(size, shape, random=s.as_released)

    def enter_stage(self, stage: str, first: bool) -> None:
        """The anatomical stage begins with the student's weights in both networks."""
        if stage == "anatomical" and first:
            hand_over(self.teacher, self.student)

    def losses(self, batch: Batch, step: Step) -> dict[str, Term]:
        """The terms of the stage."""
        if step.stage == "global":
            return self._global_stage(batch)
        return self._local_stage(batch) if step.stage == "local" else self._anatomical_stage(batch)

    # Stages i and ii: distillation with banks

    def _views(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The student's and the teacher's images."""
        return blur(jitter(batch.images)), batch.images

    def _global_stage(self, batch: Batch) -> dict[str, Term]:
        ours, theirs = self._views(batch)
        student = self.student.encode(ours)[-1]
        with torch.no_grad():
            teacher = self.teacher.encode(theirs)[-1]
        return {"global": Term(self._global_distillation(student, teacher))}

    def _local_stage(self, batch: Batch) -> dict[str, Term]:
        s, labelled = self.settings, len(batch.labelled)
        ours, theirs = self._views(batch)
        student = self.student(ours)
        with torch.no_grad():
            teacher = self.teacher(theirs)
        return {
            "supervised": Term(output_loss(student[:labelled], batch.labelled.mask, background=True)),
            "global": Term(self._global_distillation(student.bottleneck, teacher.bottleneck), s.global_weight),
            "local": Term(self._local_distillation(student.logits, teacher.logits), s.local_weight),
        }

    def _global_distillation(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        ours = self.predictor(self.student_head(student.flatten(2).mean(2)))
        theirs = self.teacher_head(teacher.flatten(2).mean(2))
        return self._distil(ours.unsqueeze(1), theirs.unsqueeze(1), self.bank)

    def _local_distillation(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        # The heads are pointwise, so that pooling and heads come before the windows overlap.
        pooling = functional.avg_pool2d if self.plan.dimensions == 2 else functional.avg_pool3d
        ours = self.local_predictor(self.student_local_head(pooling(student, self.cell)))
        theirs = self.teacher_local_head(pooling(teacher, self.cell))
        cut = [cut_windows(maps, _POOL[self.plan.dimensions], self.settings.as_released) for maps in (ours, theirs)]
        if self.settings.as_released:
            cut = [maps.transpose(0, 1).reshape(-1, 1, maps.shape[1]) for maps in cut]
        return self._distil(cut[0], cut[1], self.local_bank)

    def _distil(self, student: torch.Tensor, teacher: torch.Tensor, bank: FeatureBank) -> torch.Tensor:
        s = self.settings
        temperatures = s.student_temperature, s.teacher_temperature
        loss = bank_distillation(student, teacher, bank.entries, bank.filled, *temperatures, detach=not s.as_released)
        bank.push(gather(teacher))
        return loss

    # Stage iii: pseudo labels and anatomical contrast

    def _anatomical_stage(self, batch: Batch) -> dict[str, Term]:
        s, labelled = self.settings, len(batch.labelled)
        image, target, confidence = self._mixed(batch.unlabelled.image)
        # As in the code, each kind of patch has a pass and batch statistics of its own.
        student = NetworkOutput.joined([self.student(part) for part in (batch.labelled.image, image) if len(part)])
        terms = {"supervised": Term(output_loss(student[:labelled], batch.labelled.mask, background=True))}
        if len(image):
            loss = pseudo_label_loss(student.logits[labelled:], target, confidence, s.certain)
            terms["pseudo"] = Term(loss, s.pseudo)
        plausible = target.masked_fill(confidence < s.plausible, IGNORE)
        contrast = self._anatomical_contrast(student, torch.cat([batch.labelled.mask.long(), plausible]))
        return {**terms, "anatomical": Term(contrast, s.anatomical)}

    @torch.no_grad()
    def _mixed(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Unlabelled patches after CutMix, jitter and blur, with the teacher's labels and its confidence."""
        if not len(image):
            return image, image[:, 0].long(), image[:, 0]
        self.teacher.train(not self.settings.teacher_eval)
        confidence, target = self.teacher(image).probabilities.max(1)
        boxes = half_boxes(image)
        image, target, confidence = (mix_with_next(boxes, values) for values in (image, target, confidence))
        return blur(jitter(image, 0.25)), target, confidence

    def _anatomical_contrast(self, student: NetworkOutput, target: torch.Tensor) -> torch.Tensor:
        s, sides = self.settings, target.shape[1:]
        probabilities = student.probabilities.detach()
        queries, keys, active = [], [], []
        for index in range(self.plan.classes):
            mine = gather(target == index)
            hard = draw_voxels(mine & gather(probabilities[:, index] < s.certain), s.queries)
            any_of_class = draw_voxels(mine, s.keys)
            if any_of_class is not None:
                keys.append(any_of_class)
                active.append(hard is not None)
                queries.append(any_of_class[:1].expand(s.queries, -1) if hard is None else hard)
        if len(keys) < 2 or not any(active):
            return student.logits.new_zeros((), dtype=torch.float32)
        maps = student.decoder if self.plan.dimensions == 3 else [student.bottleneck, *student.decoder]
        with torch.no_grad():
            embedded_keys = self._embed(maps, torch.cat(keys), sides)
        embedded_queries = self._embed(maps, torch.cat(queries), sides)
        return anatomical_contrast(
            embedded_queries.unflatten(0, (len(keys), -1)),
            torch.tensor(active, device=target.device),
            embedded_keys.unflatten(0, (len(keys), -1)),
            s.temperature,
            s.negatives,
        )

    def _embed(self, maps: Sequence[torch.Tensor], voxels: torch.Tensor, sides: Sequence[int]) -> torch.Tensor:
        """(N, width) embeddings of voxels (patch, *voxel) of the whole batch; each rank embeds those it has."""
        if size() == 1:
            return self.pixel_head(neighbourhoods(maps, voxels, sides))
        patches = len(maps[0])
        own = (voxels[:, 0] // patches == rank()).nonzero().flatten()
        mine = torch.cat([voxels[own, :1] - rank() * patches, voxels[own, 1:]], 1)
        embedded = self.pixel_head(neighbourhoods(maps, mine, sides)).float()
        return all_sum(embedded.new_zeros(len(voxels), embedded.shape[1]).index_copy(0, own, embedded))

    def after_step(self, step: Step) -> None:
        """Move the teacher and its heads towards the student's."""
        s = self.settings
        # The second stage goes on with both networks of the first; only a copied teacher warms up again.
        iteration = step.iteration + (10**6 if step.stage == "local" else 0)
        for _ in range(2 if s.as_released and step.stage == "anatomical" else 1):
            update_teacher(self.teacher, self.student, s.ema_decay, iteration)
        if not s.as_released:
            update_teacher(self.teacher_head, self.student_head, s.ema_decay, iteration)
            update_teacher(self.teacher_local_head, self.student_local_head, s.ema_decay, iteration)
        if s.teacher_eval:
            copy_statistics(self.teacher, self.student)


def cut_windows(maps: torch.Tensor, side: int, leave_last: bool = False) -> torch.Tensor:
    """Half-overlapping windows of `side` cells of maps (B, C, *S), each flattened: (B, windows, C * side^d).

    `leave_last`: without the last start along each axis.
    """
    dimensions = maps.dim() - 2
    for axis in range(2, 2 + dimensions):
        maps = maps.unfold(axis, side, side // 2)
    if leave_last:
        starts, whole = [slice(0, -1)] * dimensions, [slice(None)] * dimensions
        maps = maps[tuple([slice(None), slice(None), *starts, *whole])]
    order = [0, *range(2, 2 + dimensions), 1, *range(2 + dimensions, 2 + 2 * dimensions)]
    return maps.permute(order).flatten(1 + dimensions).flatten(1, dimensions)


def draw_voxels(mask: torch.Tensor, count: int) -> torch.Tensor | None:
    """`count` voxels (patch, *voxel) of a mask (B, *S), drawn evenly with replacement; None where it is empty."""
    voxels = mask.nonzero()
    if not len(voxels):
        return None
    return voxels[torch.randint(len(voxels), (count,), device=voxels.device, generator=generator(voxels.device))]


def _activation(linear: bool) -> nn.Module:
    return nn.Identity() if linear else nn.LeakyReLU()


def _perceptron(channels_in: int, hidden: int, channels: int, linear: bool) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels_in, hidden), _activation(linear), nn.Linear(hidden, channels))


def _pointwise(dimensions: int, channels_in: int, hidden: int, channels: int, linear: bool) -> nn.Sequential:
    convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
    layers: Sequence[nn.Module] = (convolution(channels_in, hidden, 1), convolution(hidden, channels, 1))
    return nn.Sequential(layers[0], _activation(linear), layers[1])
