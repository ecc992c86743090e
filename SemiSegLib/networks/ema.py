"""The teacher: an exponential moving average of the student."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def make_teacher(student: AnyModule) -> AnyModule:
    """A copy of `student` that never receives gradients."""
    teacher = copy.deepcopy(student)
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    return teacher


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, decay: float, iteration: int) -> None:
    """teacher = a * teacher + (1 - a) * student with a = min(1 - 1/(t+1), decay), t = 0, 1, ...

    At t = 0 the student is copied. Parameters only: batch-norm statistics are not averaged, the teacher gathers its
    own in train() mode (UA-MT, train_LA_meanteacher_certainty_unlabel.py:68-72). Layers that have not seen a batch
    (no unlabelled patches, only the encoder in use) have none: they take the student's, so that a teacher can predict
    whichever part of it a training runs.
    """
    current = min(1.0 - 1.0 / (iteration + 1), decay)
    ours: list[torch.Tensor] = list(teacher.parameters())
    theirs: list[torch.Tensor] = list(student.parameters())
    torch._foreach_lerp_(ours, theirs, 1.0 - current)
    for mine, other in zip(_norms(teacher), _norms(student), strict=True):
        unseen = (mine.num_batches_tracked == 0).to(mine.running_mean.dtype)  # 0 or 1, without asking the device
        mine.running_mean.lerp_(other.running_mean, unseen)
        mine.running_var.lerp_(other.running_var, unseen)


def hand_over(teacher: nn.Module, student: nn.Module) -> None:
    """Make the teacher the student as it is; from there it gathers statistics of its own, see `update_teacher`."""
    teacher.load_state_dict(student.state_dict())
    for norm in _norms(teacher):
        norm.num_batches_tracked.zero_()


def _norms(network: nn.Module) -> list[Any]:
    norms = (module for module in network.modules() if isinstance(module, _BatchNorm))
    return [norm for norm in norms if norm.num_batches_tracked is not None]


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, iteration: int) -> None:
    """The same for parameters and batch statistics both, so that the average predicts in eval() mode at any time."""
    current = min(1.0 - 1.0 / (iteration + 1), decay)
    for mine, other in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(other, 1.0 - current)
        else:
            mine.copy_(other)


@torch.no_grad()
def copy_statistics(teacher: nn.Module, student: nn.Module) -> None:
    """Give the teacher the student's batch-norm statistics, for a teacher that works in eval() mode."""
    for ours, theirs in zip(teacher.buffers(), student.buffers(), strict=True):
        ours.copy_(theirs)


def use_batch_statistics(network: nn.Module) -> None:
    """Let a network in eval() mode normalise by the batch that it sees, until its mode is set again."""
    for norm in _norms(network):
        norm.train()
