"""Checks shared by the ops: every complaint is a ValueError that names the argument."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def tensor(
    name: str, value: object, *, shape: Sequence[int | None], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """`value`, made contiguous, if it has this shape [any] (None: any size), dtype and device."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a tensor, got {type(value).__name__}.")
    if value.dtype != dtype:
        raise ValueError(f"{name} must be {_short(dtype)}, got {_short(value.dtype)}.")
    if value.device != device:
        raise ValueError(f"{name} must be on {device}, got {value.device}.")
    if value.dim() != len(shape) or any(want not in (None, got) for want, got in zip(shape, value.shape, strict=True)):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must have shape [{wanted}], got {list(value.shape)}.")
    return value.contiguous()


def finite(name: str, value: Tensor) -> None:
    """Refuses NaN and infinity in a tensor of any shape."""
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} must be finite.")


def integer(name: str, value: object, *, low: int, high: int) -> int:
    """`value` if it is an int within [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}, got {value!r}.")
    return value


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
