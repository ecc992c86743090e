"""Memory that does not suffice: how every device says so, and how what is not in use is given back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from SemiSegLib.errors import SemiSegError

# CUDA and MPS; CPU on POSIX; CPU on Windows; oneDNN, whose convolutions need room of their own; ITK.
_WORDS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "could not create a primitive",
    "Failed to allocate memory",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether something failed since memory did not suffice, that of a GPU or the machine's."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


@contextmanager
def told_of_memory(scan: Path) -> Iterator[None]:
    """Within it, memory that does not suffice becomes a SemiSegError that names the scan and says what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise SemiSegError(
            f"{scan}: memory does not suffice for this scan: close other programs, crop it, work at a coarser "
            "data.spacing, or choose --device cpu where a GPU is too small."
        ) from error


def give_back(device: torch.device) -> None:
    """Hand what PyTorch keeps in reserve on a GPU back to it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps" and torch.backends.mps.is_available():
        torch.mps.empty_cache()
