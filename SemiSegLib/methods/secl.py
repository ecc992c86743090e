"""Self-ensembling contrastive learning: regions or organs look alike in all scans (abstract of Xiang et al. 2021).

Xiang, Li, Wang, Xia, Zhang: "Self-Ensembling Contrastive Learning for Semi-Supervised Medical Image Segmentation"
(arXiv 2105.12924). Of this paper only the abstract was at hand, and there is no public code: this is a
re-implementation, not the authors' method to the letter. The abstract says that an encoder-decoder is trained on the
labelled images while a contrastive loss on unlabelled images shapes the latent features directly; that the encoder
alone is doubled, the teacher encoder being the EMA of the student encoder; and that contrastive samples are chosen
region-aware (the same place of the body looks alike) or anatomical-aware (by pseudo labels made on the fly), the
latter being the better. What follows from that, and everything else, is this:

    labelled     L_sup = (CE + Dice) / 2 of decoder(student encoder(x))
    unlabelled   view a -> student encoder, projector   -> z   (features at 1/8 of the resolution, 128 channels)
                 view b -> teacher encoder, EMA projector -> z'  (no gradient)
                 anchors q from z, positives P and negatives N from z', all of unit length:
                 L_con = mean_q 1/|P| sum_{p in P} -log( e^{q.p/tau} / (e^{q.p/tau} + sum_{n in N} e^{q.n/tau}) )
    L = L_sup + lambda(t) L_con,  lambda(t) = lambda exp(-5 (1 - t/T)^2)

    region       scans are divided into 4 parts along z and each part into 4 x 4 cells in x and y (Chaitanya et al.
                 2020, whom the abstract follows); q is the mean of z over a cell, P the same cell of any image of
                 the batch, N the other cells of the same part. Patches know their frame in the scan, so crops, turns
                 and flips do not matter. No labels are needed.
    anatomical   classes by argmax decoder(teacher encoder(view b)) where its probability is at least 0.9; q is the
                 mean of z over a class (if it fills at least one cell of the features), or with `dense` single cells,
                 P that class in any image of the batch, N the other classes there and in a bank of 256 past means
                 of each class. In the first tenth of the training pseudo labels are noise, and the loss is off.
    none         the supervised loss alone

All numbers, the projector and the place of the features are choices, each a setting. At test time the student is
used; 'teacher' is the teacher encoder with the same decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from SemiSegLib.compute.distributed import gather, gather_uneven, size
from SemiSegLib.config import setting
from SemiSegLib.data.batch import Patches
from SemiSegLib.data.views import jitter, noisy
from SemiSegLib.losses.anatomical import weighted_means
from SemiSegLib.losses.contrastive import grouped_info_nce
from SemiSegLib.losses.segmentation import output_loss
from SemiSegLib.methods import base
from SemiSegLib.methods.base import Batch, Plan, Term
from SemiSegLib.networks import Network
from SemiSegLib.networks.bank import FeatureBank
from SemiSegLib.networks.ema import make_teacher, update_teacher
from SemiSegLib.schedules import Step

_CHANNELS = (16, 32, 64, 128, 256)  # of the encoder's resolutions


@dataclass
class MethodSettings:
    """All defaults are choices: the abstract gives no numbers."""

    sampling: str = setting(
        "anatomical",
        "how contrastive samples are chosen: anatomical, region or none",
        choices=("anatomical", "region", "none"),
    )
    contrast: float = setting(0.1, "lambda, weight of the contrast at the end of its ramp", at_least=0)
    temperature: float = setting(0.1, "tau of the contrast", above=0)
    level: int = setting(
        3, "encoder features that are contrasted: 3 at 1/8, 4 at 1/16 of the resolution", choices=(3, 4)
    )
    embedding: int = setting(128, "features that they are projected to", at_least=1)
    parts: int = setting(4, "region: parts of a scan along z", at_least=1)
    cells: int = setting(4, "region: cells of a part along x and along y", at_least=1)
    confidence: float = setting(0.9, "anatomical: probability from which a pseudo label counts", at_least=0, at_most=1)
    bank: int = setting(256, "anatomical: past means of each class that serve as negatives", at_least=1)
    dense: int = setting(
        0, "anatomical: up to so many single cells of each class are the anchors; 0: class means", at_least=0
    )
    warm_up: float = setting(0.1, "anatomical: share of the training without the contrast", at_least=0, at_most=1)
    noise: float = setting(0.1, "sd of the views' noise (clipped at twice that), in sd of the intensities", at_least=0)
    jitter: float = setting(0.2, "largest random change of a view's contrast and brightness", at_least=0)
    ema_decay: float = setting(0.99, "decay of the teacher encoder's moving average", at_least=0, at_most=1)


class Method(base.Method):
    """Self-ensembling contrastive learning."""

    idle_parameters = True
    settings: MethodSettings
    student: Network

    def __init__(self, settings: MethodSettings, plan: Plan) -> None:
        super().__init__(settings, plan)
        self.needs_unlabelled = settings.sampling != "none"
        self.student = plan.build_network()
        self.student_head = nn.Sequential(
            nn.Linear(_CHANNELS[settings.level], 256), nn.ReLU(), nn.Linear(256, settings.embedding)
        )
        self.teacher = make_teacher(self.student)  # its decoder is kept equal to the student's
        self.teacher_head = make_teacher(self.student_head)
        self.banks = nn.ModuleList(FeatureBank(settings.bank, (settings.embedding,)) for _ in range(plan.classes))

    def losses(self, batch: Batch, step: Step) -> dict[str, Term]:
        """Supervised term and contrast."""
        s, labelled = self.settings, len(batch.labelled)
        contrasted = s.sampling != "none" and len(batch.unlabelled) > 0
        images = [batch.labelled.image, self._view(batch.unlabelled.image)] if contrasted else [batch.labelled.image]
        features = self.student.encode(torch.cat(images))
        output = self.student.decode([level[:labelled] for level in features])
        terms = {"supervised": Term(output_loss(output, batch.labelled.mask))}
        if not contrasted:
            return terms
        student = _project(self.student_head, features[s.level][labelled:])
        contrast = self._region_aware if s.sampling == "region" else self._anatomical_aware
        if s.sampling == "anatomical" and step.fraction < s.warm_up:
            value = output.logits.new_zeros((), dtype=torch.float32)
        else:
            value = contrast(student, batch.unlabelled)
        return {**terms, s.sampling: Term(value, s.contrast * step.ramp)}

    def _view(self, image: torch.Tensor) -> torch.Tensor:
        return noisy(jitter(image, self.settings.jitter, 1.0), self.settings.noise, 2 * self.settings.noise)

    def _region_aware(self, student: torch.Tensor, patches: Patches) -> torch.Tensor:
        with torch.no_grad():
            teacher = _project(self.teacher_head, self.teacher.encode(self._view(patches.image))[self.settings.level])
        weights = region_weights(patches, student.shape[2:], self.settings.parts, self.settings.cells)
        present = gather(weights.flatten(2).any(2))
        region = torch.arange(weights.shape[1], device=student.device).expand(len(present), -1)[present]
        part = region // self.settings.cells**2
        anchors, keys = (gather(weighted_means(z, weights))[present] for z in (student, teacher))
        same, together = region[:, None] == region, part[:, None] == part
        return grouped_info_nce(anchors, keys, same, together & ~same, self.settings.temperature)

    def _anatomical_aware(self, student: torch.Tensor, patches: Patches) -> torch.Tensor:
        s = self.settings
        with torch.no_grad():
            features = self.teacher.encode(self._view(patches.image))
            teacher = _project(self.teacher_head, features[s.level])
            weights = class_weights(self.teacher.decode(features).probabilities, s.confidence, student.shape[2:])
        present = gather(weights.flatten(2).sum(2) >= 1)
        classes = torch.arange(weights.shape[1], device=student.device).expand(len(present), -1)[present]
        keys = gather(weighted_means(teacher, weights))[present]
        if s.dense:
            anchors, anchor_classes = map(gather_uneven, self._cells(student, weights))
        else:
            anchors, anchor_classes = gather(weighted_means(student, weights))[present], classes
        banks = [bank for bank in self.banks if isinstance(bank, FeatureBank)]
        entries = torch.cat([bank.entries for bank in banks])
        filled = torch.cat([bank.filled for bank in banks])
        owner = torch.arange(len(banks), device=student.device).repeat_interleave(s.bank)
        positive = torch.cat([anchor_classes[:, None] == classes, owner.new_zeros(len(anchors), len(owner)).bool()], 1)
        negative = torch.cat([anchor_classes[:, None] != classes, (anchor_classes[:, None] != owner) & filled], 1)
        loss = grouped_info_nce(anchors, torch.cat([keys, entries]), positive, negative, s.temperature)
        for index, bank in enumerate(banks):
            bank.push(keys[classes == index])
        return loss

    def _cells(self, student: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings and classes of up to `dense` random cells of each class (of all ranks together)."""
        cells = student.movedim(1, -1)
        chosen, classes = [], []
        for index in range(weights.shape[1]):
            voxels = (weights[:, index] > 0.5).nonzero()
            voxels = voxels[torch.randperm(len(voxels), device=voxels.device)[: -(-self.settings.dense // size())]]
            chosen.append(cells[tuple(voxels.T)])
            classes.append(voxels.new_full((len(voxels),), index))
        return torch.cat(chosen), torch.cat(classes)

    def after_step(self, step: Step) -> None:
        """Move the teacher's encoder and projector towards the student's; there is one decoder."""
        update_teacher(self.teacher, self.student, self.settings.ema_decay, step.iteration)
        update_teacher(self.teacher_head, self.student_head, self.settings.ema_decay, step.iteration)
        for name in ("up", "decoder", "mask_head"):
            if not hasattr(self.student, name):  # a DynUNet's way up is in its decoder
                continue
            update_teacher(getattr(self.teacher, name), getattr(self.student, name), 0.0, step.iteration)


def region_weights(patches: Patches, sides: tuple[int, ...], parts: int, cells: int) -> torch.Tensor:
    """(B, parts * cells^2, *sides), 0 or 1: the region of the scan that each cell of a feature map lies in.

    Regions are counted part by part along z, and in a part along x, then y; cells outside the scan are in none.
    """
    places = patches.places(sides)
    count = torch.tensor([cells, cells, parts], device=places.device).reshape(1, 3, *[1] * len(sides))
    x, y, z = (places * count).floor().long().clamp_(torch.zeros_like(count), count - 1).unbind(1)
    region = (z * cells + x) * cells + y
    inside = ((places >= 0) & (places <= 1)).all(1)
    numbers = torch.arange(parts * cells**2, device=places.device).reshape(1, -1, *[1] * len(sides))
    return ((region.unsqueeze(1) == numbers) & inside.unsqueeze(1)).float()


def class_weights(probabilities: torch.Tensor, confidence: float, sides: tuple[int, ...]) -> torch.Tensor:
    """(B, C, *sides): the share of each cell of a feature map that is surely of each class."""
    highest, index = probabilities.max(1, keepdim=True)
    sure = torch.zeros_like(probabilities).scatter_(1, index, (highest >= confidence).to(probabilities.dtype))
    pooling: Any = functional.adaptive_avg_pool2d if len(sides) == 2 else functional.adaptive_avg_pool3d
    return pooling(sure, sides)


def _project(head: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """(B, C, *S) to (B, D, *S), cell by cell."""
    return head(features.movedim(1, -1)).movedim(-1, 1)
