"""Checkpoints: everything a run needs to go on, written whole, loaded without executing code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from SemiSegLib.files import whole
from SemiSegLib.runs import RunError


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values; a crash in between leaves the old file as it was."""
    with whole(path) as temporary, temporary.open("wb") as stream:
        torch.save(content, stream)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read on the CPU with weights_only=True; raises RunError naming the file."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RunError(f"There is no checkpoint {path}; the run ended before its first one. Start it anew.") from error
    except Exception as error:
        raise RunError(f"The checkpoint {path} is damaged or not a checkpoint ({error}).") from error
