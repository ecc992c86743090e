"""What every method answers; the training loop knows no method by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from SemiSegLib.config import NetworkSettings
from SemiSegLib.data.batch import Batch
from SemiSegLib.errors import SemiSegError
from SemiSegLib.networks import Network, build_network
from SemiSegLib.schedules import Step


@dataclass(frozen=True)
class Plan:
    """What a method must know of the task to build its networks."""

    dimensions: int
    classes: int  # with background
    patch_size: tuple[int, ...]  # voxels
    iterations: int
    network: NetworkSettings = field(default_factory=NetworkSettings)

    def build_network(self, sdm: bool = False) -> Network:
        """A new network for the task, with a distance-map head where wanted."""
        return build_network(self.dimensions, self.classes, sdm, self.network)


@dataclass(frozen=True)
class Term:
    """One named loss term: the total is the sum of weight * value."""

    value: torch.Tensor
    weight: float = 1.0


@dataclass(frozen=True)
class Labelling:
    """How a training labels its unlabelled scans before a stage: voxels whose mean confidence over mirrored views is
    below `confidence` are left out, so is the share `dropped` of the scans, those whose views differ most."""

    confidence: float
    dropped: float


class Method(nn.Module):
    """A training method: owns its networks and extra state, composes its loss.

    A subclass names its settings' dataclass (`MethodSettings`), builds its networks as attributes and implements
    `losses`; it may implement `after_step`, and `enter_stage` if it trains in several stages. It may say which views
    of unlabelled patches it wants (`unlabelled_views`), how many patches a stage has (`patches`), before which stages
    the training labels its own scans (`labelling`) and with which networks (`fresh`); the loop makes all of that. All
    tensors it must remember are parameters or buffers, so that `state_dict` holds the whole method. On several ranks
    each sees its part of the batch and computes the loss of the whole: see SemiSegLib.compute.distributed.
    """

    needs_sdm = False  # whether labelled patches come with true distance maps
    needs_unlabelled = True
    unlabelled_views: Sequence[str] = ("strong",)  # of an unlabelled patch, weak or strong: `image`, then `views`
    idle_parameters = False  # whether some trained parameters take no part in some iterations with unlabelled patches
    stages: Mapping[str, float] = {"main": 1.0}  # in order, with their shares of all iterations
    labelling: Mapping[str, Labelling] = {}  # by stage: before which the training labels its unlabelled scans itself
    fresh: Sequence[str] = ()  # stages that begin with new weights, while the network so far is kept to label with
    constant_rate: Sequence[str] = ()  # stages whose learning rate stays what it is at the start
    student: nn.Module

    def __init__(self, settings: Any, plan: Plan) -> None:
        super().__init__()
        self.settings = settings
        self.plan = plan

    def losses(self, batch: Batch, step: Step) -> dict[str, Term]:
        """Named terms of the loss of one batch."""
        raise NotImplementedError

    def enter_stage(self, stage: str, first: bool) -> None:
        """Called when a stage begins (`first`) and when training resumes within it: freeze, hand weights over.

        The optimiser is made anew after it for the parameters that then require gradients.
        """

    def patches(self, stage: str, labelled: int, unlabelled: int) -> tuple[int, int]:
        """How many labelled and unlabelled patches a batch has in a stage, of what the settings give."""
        return labelled, unlabelled

    def after_step(self, step: Step) -> None:
        """Called after each optimiser step (an EMA teacher is updated here)."""

    def predictors(self) -> dict[str, nn.Module]:
        """Networks that can predict; 'student' always, 'teacher' where there is one (`update_teacher` sees to it)."""
        networks = {"student": self.student}
        if isinstance(getattr(self, "teacher", None), nn.Module):
            networks["teacher"] = self.teacher  # type: ignore[assignment]
        return networks

    def further_networks(self) -> dict[str, nn.Module]:
        """Networks that do not predict but begin like the student where training starts from a model."""
        return {}

    def trained_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that the optimiser changes."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)


def stage_shares(names: Iterable[str], shares: Sequence[float]) -> dict[str, float]:
    """Stages with their shares of all iterations; raises SemiSegError where these do not fit."""
    names = list(names)
    if len(shares) != len(names) or min(shares) < 0 or sum(shares) <= 0:
        raise SemiSegError(
            f"The setting 'method_settings.shares' is {list(shares)}; it needs one number for each of the stages "
            f"{', '.join(names)}, none negative and not all 0."
        )
    return dict(zip(names, shares, strict=True))
