"""Losses are computed in single precision, whatever precision the networks run in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


def single_precision(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Call `function` with its half-precision tensors cast to float32 and autocast switched off."""

    def cast(value: Any) -> Any:
        half = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
        return value.float() if half else value

    @functools.wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> torch.Tensor:
        device = next(a.device.type for a in (*arguments, *named.values()) if isinstance(a, torch.Tensor))
        with torch.autocast(device, enabled=False):
            return function(*map(cast, arguments), **{key: cast(value) for key, value in named.items()})

    return wrapped
