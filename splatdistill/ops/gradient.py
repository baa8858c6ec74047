"""A loss that is given by its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def loss_with_gradient(x: Tensor, *, gradient: Tensor) -> Tensor:
    """A scalar [] whose gradient with respect to x is `gradient`, a constant; its value is 0 and measures nothing.

    x, gradient: of any shape, both alike in it, in type and device. An upstream gradient is multiplied in. The scalar
    is on the CPU wherever x is, so that an upstream gradient of 1 is seen to be 1 without a wait for the device: then
    nothing is launched. Add nothing on a device to it, but hand `torch.autograd.backward` both: the gradient of a sum
    would come from there. ValueError for a gradient that does not fit x.
    """
    for name in ("shape", "dtype", "device"):
        if getattr(gradient, name) != getattr(x, name):
            raise ValueError(f"gradient must have the {name} of x, {getattr(x, name)}, not {getattr(gradient, name)}.")
    # In a tuple, which autograd does not look into.
    return _GivenGradient.apply(x, (gradient,))  # type: ignore[return-value]


class _GivenGradient(torch.autograd.Function):
    """Rather than a gradient handed to `backward`: torch loads sympy to check the shape of that one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, constants: tuple[Tensor]) -> Tensor:
        """x: of any shape. constants: the gradient, like x."""
        ctx.save_for_backward(*constants)
        return torch.zeros(())

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The gradient, like x, times upstream []."""
        (gradient,), factor = ctx.saved_tensors, upstream.item()
        return gradient if factor == 1 else factor * gradient, None
