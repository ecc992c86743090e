"""Checkpoints: everything a run needs to go on, written whole, loaded without executing code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from SemiSegLib.runs import RunError, replace


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values; a crash in between leaves the old file as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read on the CPU with weights_only=True; raises RunError naming the file."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RunError(f"There is no checkpoint {path}; the run ended before its first one. Start it anew.") from error
    except Exception as error:
        raise RunError(f"The checkpoint {path} is damaged or not a checkpoint ({error}).") from error
