"""The distillation gradient as a loss: one fused pass over all score terms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from splatdistill.ops import _check, _library, reference  # noqa: F401  _library registers the ops

MAX_TERMS = 8


class ResidualLoss(NamedTuple):
    """loss: scalar, its gradient is the residual and its value measures nothing. norms: [V]. num_nonfinite: int64."""

    loss: Tensor
    norms: Tensor
    num_nonfinite: Tensor


def residual(
    x0: Tensor,
    *,
    terms: Sequence[Tensor],
    coef: Tensor,
    weight: Tensor,
    clamp: float | None = None,
    total_views: int | None = None,
) -> ResidualLoss:
    """A loss with d loss / d x0_v = g_v / total_views, where g_v = clamp(nan0(weight_v * sum_k coef_kv * terms_kv)).

    x0: [V,...] float32 or float64 (float16 and bfloat16 are computed in float32). terms: 1 to 8 tensors like x0, any of
    these dtypes, treated as constants. coef: [K,V]. weight: [V]. clamp: largest |element| of g, or None.
    total_views: views over all ranks, V when None: the loss is a mean over views of sums over elements.

    Returns the loss, norms [V] = ||g_v||_2 and the number of elements that were not finite. Those are set to 0, before
    the clamp. The loss is sum_v <x0_v, g_v> / total_views, a linear surrogate: it is not a measure of quality.
    """
    if not isinstance(x0, Tensor) or x0.dim() < 1 or not x0.is_floating_point():
        raise ValueError("x0 must be a floating-point tensor of shape [V,...].")
    if not 1 <= len(terms) <= MAX_TERMS:
        raise ValueError(f"terms must hold 1 to {MAX_TERMS} tensors, got {len(terms)}.")
    if clamp is not None and not 0 < clamp < math.inf:
        raise ValueError(f"clamp must be positive and finite, or None, got {clamp}.")
    num_views = x0.shape[0]
    if total_views is None:
        total_views = max(num_views, 1)
    _check.integer("total_views", total_views, low=max(num_views, 1), high=2**31)

    dtype = torch.float64 if x0.dtype == torch.float64 else torch.float32

    def constant(name: str, value: Tensor, shape: Sequence[int]) -> Tensor:
        if isinstance(value, Tensor) and value.is_floating_point():
            value = value.detach().to(dtype)
        return _check.tensor(name, value, shape=shape, dtype=dtype, device=x0.device)

    x0 = x0.to(dtype).contiguous()
    constants = [constant(f"terms[{k}]", term, x0.shape) for k, term in enumerate(terms)]
    coef = constant("coef", coef, (len(terms), num_views))
    weight = constant("weight", weight, (num_views,))
    if x0.device.type != "cpu":
        return ResidualLoss(*reference.residual(x0, constants, coef, weight, clamp, total_views))
    loss, norms, num_nonfinite, _grad = torch.ops.splatdistill.residual_forward(
        x0, constants, coef, weight, clamp, total_views
    )
    return ResidualLoss(loss, norms, num_nonfinite)


def noising(x0: Tensor, *, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x_t = alpha_v x0_v + sigma_v eps_v, in x0's dtype and differentiable in x0.

    x0, eps: [V,...] float32, float64, or float16 and bfloat16 (computed in float32). alpha, sigma: [V].
    """
    return reference.noising(x0, eps, alpha, sigma)


@torch.library.register_fake("splatdistill::residual_forward")
def _fake(x0, terms, coef, weight, clamp, total_views) -> tuple[Tensor, ...]:
    views = x0.shape[0]
    return x0.new_empty(()), x0.new_empty(views), x0.new_empty((), dtype=torch.int64), torch.empty_like(x0)


def _setup_context(ctx, inputs, output) -> None:
    _loss, norms, num_nonfinite, grad = output
    ctx.num_terms = len(inputs[1])
    ctx.save_for_backward(grad)
    ctx.mark_non_differentiable(norms, num_nonfinite, grad)


def _backward(ctx, v_loss, *_):
    (grad,) = ctx.saved_tensors
    return v_loss * grad, [None] * ctx.num_terms, None, None, None, None


torch.library.register_autograd("splatdistill::residual_forward", _backward, setup_context=_setup_context)
