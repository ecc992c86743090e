"""Memory that does not suffice: how every device says so, and how what is not in use is given back."""

from __future__ import annotations

import torch

# CUDA and MPS; CPU on POSIX; CPU on Windows; oneDNN, whose convolutions need room of their own.
_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "could not create a primitive")


def out_of_memory(error: BaseException) -> bool:
    """Whether something failed since memory did not suffice, that of a GPU or the machine's."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def give_back(device: torch.device) -> None:
    """Hand what PyTorch keeps in reserve on a GPU back to it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps" and torch.backends.mps.is_available():
        torch.mps.empty_cache()
