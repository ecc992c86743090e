"""Training on several processes (ranks) that torchrun started, as if it were one with the whole batch.

Three rules make N ranks compute what one process computes with the same batch:

* A setting's batch is the global one; each rank builds and sees its part of it (`rank_slice`).
* Every rank computes the same loss, that of the global batch: sums pass `all_sum`, embeddings `gather`. Going
  backward, both hand a rank the gradient with respect to its own patches, without communication.
* So the gradient of the global loss is the sum of the ranks' gradients; DistributedDataParallel takes their mean,
  which `share_of_loss` makes up for.

Losses do this by themselves, and views draw for all; only methods that combine patches across the batch in ways of
their own (pasting, class means, chosen voxels) call it. Modules with parameters come before `gather`, never after it:
there every rank would count their gradient.

Random numbers that belong to patches (noise, views) are drawn for the global batch by a generator that is the same on
all ranks; dropout differs from rank to rank. In a process of its own every function here returns what it was given.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from SemiSegLib.compute.torchrun import rank_and_world_size
from SemiSegLib.errors import SemiSegError

Item = TypeVar("Item")

_PATIENCE = timedelta(hours=6)  # a rank may validate or prepare a large case while the others wait
HALF = (torch.bfloat16, torch.float16)
_RANK_SEED = 10**12  # far from the seeds of any other iteration
_generators: dict[torch.device, torch.Generator] = {}
_seed = 0


class RankError(SemiSegError):
    """The processes of a run cannot work together; the message says why."""


# The group


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started, gloo on CPUs and NCCL on CUDA GPUs; alone there is nothing to join.

    A group that the calling program has made is used as it is.
    """
    if rank_and_world_size()[1] == 1 or distributed.is_initialized():
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and distributed.is_nccl_available() else "gloo"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    yield
    distributed.destroy_process_group()  # after an error the end of the process does it: others may be gone


def size() -> int:
    """Number of ranks that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process among them; 0 writes the run folder."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def rank_device(setting: str) -> str:
    """The device of this rank for training.device: GPUs are dealt out, one each. Raises RankError."""
    ranks = rank_and_world_size()[1]
    if ranks == 1 or setting == "cpu":
        return setting
    if setting not in ("auto", "cuda"):
        raise RankError(f"The setting 'training.device' is {setting}, one GPU for {ranks} processes: use auto.")
    if not torch.cuda.is_available():
        return "cpu" if setting == "auto" and torch.backends.mps.is_available() else setting
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise RankError(
            f"There are {torch.cuda.device_count()} GPUs for more processes on this machine: lower --nproc_per_node."
        )
    torch.cuda.set_device(local)
    return f"cuda:{local}"


def lost(error: BaseException) -> bool:
    """Whether `error` came of another rank's end: what collectives raise when a connection breaks."""
    words = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")
    return size() > 1 and isinstance(error, RuntimeError) and any(word in str(error) for word in words)


# Parts of a batch


def rank_slice(count: int) -> slice:
    """Which of `count` patches of a global batch are this rank's; raises RankError if they do not divide evenly."""
    part, rest = divmod(count, size())
    if rest:
        raise RankError(
            f"{count} patches cannot be divided among {size()} processes: choose 'training.labelled_batch' and "
            f"'training.unlabelled_batch' as multiples of {size()} (of {2 * size()} for methods that pair patches)."
        )
    return slice(rank() * part, (rank() + 1) * part)


def check_batch(labelled: int, unlabelled: int) -> None:
    """Raise RankError naming the setting whose patches do not divide among the ranks."""
    for name, count in (("labelled_batch", labelled), ("unlabelled_batch", unlabelled)):
        if count % size():
            raise RankError(
                f"The setting 'training.{name}' is {count}, which {size()} processes cannot divide: it counts the "
                f"patches of all processes together. Choose a multiple of {size()}, or another --nproc_per_node."
            )


def share(values: torch.Tensor) -> torch.Tensor:
    """This rank's rows of a tensor of the global batch."""
    return values[rank_slice(len(values))]


# What losses are made of


def all_sum(value: torch.Tensor) -> torch.Tensor:
    """Sum over all ranks."""
    return value if size() == 1 else _Sum.apply(value)


def all_mean(values: torch.Tensor) -> torch.Tensor:
    """Mean of the values of all ranks, which have equally many."""
    return values.mean() if size() == 1 else _Sum.apply(values.mean()) / size()


def gather(rows: torch.Tensor) -> torch.Tensor:
    """The rows of all ranks, which have equally many, in their order; half precision becomes single."""
    return rows if size() == 1 else _Gather.apply(rows.float() if rows.dtype in HALF else rows)


def gather_uneven(rows: torch.Tensor) -> torch.Tensor:
    """The same where each rank may have another number of rows, or none."""
    if size() == 1:
        return rows
    counts = [int(count) for count in gather(torch.tensor([len(rows)], device=rows.device))]
    padding = rows.new_zeros(max(counts) - len(rows), *rows.shape[1:])
    parts = gather(torch.cat([rows, padding])).split(max(counts)) if max(counts) else [rows]
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=False)])


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: torch.Tensor) -> torch.Tensor:
        return reduced(value)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


def reduced(value: torch.Tensor) -> torch.Tensor:
    """Sum over all ranks, without gradient."""
    result = value.detach().clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(result)
    return result


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(size())]
        distributed.all_gather(parts, rows.detach().contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return share(gradient)


# Random numbers


def seed(value: int) -> None:
    """Seed an iteration: dropout apart on every rank, `rank_random` as parts of one draw."""
    global _seed
    torch.manual_seed(value if size() == 1 else value + _RANK_SEED * (rank() + 1))
    _generators.clear()
    _seed = value


def generator(device: torch.device | str) -> torch.Generator | None:
    """The generator that is in the same state on all ranks; None, PyTorch's own, in a single process."""
    if size() == 1:
        return None
    device = torch.device(device)
    if device not in _generators:
        _generators[device] = torch.Generator(device).manual_seed(_seed)
    return _generators[device]


def rank_random(
    sample: Callable[..., torch.Tensor], shape: Sequence[int], device: torch.device, axis: int = 0
) -> torch.Tensor:
    """This rank's part of random numbers of the global batch: `sample` is torch.rand or torch.randn.

    `shape` is that of this rank's part, `axis` the one that counts patches.
    """
    count = shape[axis]
    whole = [*shape[:axis], count * size(), *shape[axis + 1 :]]
    return sample(whole, device=device, generator=generator(device)).narrow(axis, rank() * count, count)


# Training steps


def parallel(module: nn.Module, idle: bool) -> nn.Module:
    """`module`, its gradients averaged over the ranks. `idle`: some parameters may take no part in an iteration."""
    if size() == 1:
        return module
    # The 1 x 1 x 1 convolutions' channels-last strides are a formality; the new name of broadcast_buffers is too new.
    warnings.filterwarnings("ignore", "Grad strides do not match", UserWarning)
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
    return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False, find_unused_parameters=idle)


def share_of_loss(loss: torch.Tensor) -> torch.Tensor:
    """What to call backward() on, so that the mean of the ranks' gradients is the gradient of the global loss."""
    return loss if size() == 1 else loss * size()


# Agreement


def any_rank(*flags: bool) -> tuple[bool, ...]:
    """For each flag, whether some rank raised it."""
    if size() == 1:
        return flags
    raised = torch.tensor(flags, dtype=torch.int32)
    distributed.all_reduce(raised, distributed.ReduceOp.MAX)
    return tuple(bool(flag) for flag in raised)


def from_all(item: Item) -> list[Item]:
    """The items of all ranks, in their order."""
    if size() == 1:
        return [item]
    items: list[Any] = [None] * size()
    distributed.all_gather_object(items, item)
    return items


@contextmanager
def agreement() -> Iterator[None]:
    """A SemiSegError of one rank becomes one of all, so that nobody waits for a rank that gave up."""
    failure: SemiSegError | None = None
    try:
        yield
    except SemiSegError as error:
        failure = error
    messages = [message for message in from_all(None if failure is None else str(failure)) if message]
    if failure:
        raise failure
    if messages:
        raise RankError(messages[0])
