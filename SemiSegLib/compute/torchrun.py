"""What torchrun says about this process; known before PyTorch is imported."""

from __future__ import annotations

import os


def rank_and_world_size() -> tuple[int, int]:
    """Rank of this process and number of those that torchrun started together; (0, 1) for a process of its own."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    return (int(os.environ.get("RANK", "0")), size) if size > 1 else (0, 1)
