"""The distillation gradient as a loss, and the noising before it: one fused pass each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from splatdistill.ops import _check, _library, reference

MAX_TERMS = 8
FLOATS = frozenset((torch.float32, torch.float64, torch.float16, torch.bfloat16))
_residual = torch.ops.splatdistill.residual_forward.default
_noising = torch.ops.splatdistill.noising_forward.default


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

    x0: [V,...]. terms: 1 to 8 tensors like x0, treated as constants. Each of them may be float32, float64, float16 or
    bfloat16; all is computed in float32, or in float64 if x0 is. The gradient has the type of x0, the results that
    computed in. coef: [K,V]. weight: [V]. clamp: largest |element| of g, or None.
    total_views: views over all ranks, V when None: the loss is a mean over views of sums over elements.

    Returns the loss, norms [V] = ||g_v||_2 and the number of elements that were not finite. Those are set to 0, before
    the clamp. The loss is sum_v <x0_v, g_v> / total_views, a linear surrogate: it is not a measure of quality.
    """
    num_views = _num_views(x0)
    if not 1 <= len(terms) <= MAX_TERMS:
        raise ValueError(f"terms must hold 1 to {MAX_TERMS} tensors, got {len(terms)}.")
    if clamp is not None and not 0 < clamp < math.inf:
        raise ValueError(f"clamp must be positive and finite, or None, got {clamp}.")
    if total_views is None:
        total_views = max(num_views, 1)
    else:
        _check.integer("total_views", total_views, low=max(num_views, 1), high=2**31)
    terms = [_like(f"terms[{k}]", term, x0) for k, term in enumerate(terms)]
    coef = _constant("coef", coef, (len(terms), num_views), x0)
    weight = _constant("weight", weight, (num_views,), x0)
    if not _library.native(x0.device):
        return ResidualLoss(*reference.residual(x0, terms, coef, weight, clamp, total_views))
    return ResidualLoss(*_Residual.apply(x0.contiguous(), (terms, coef, weight, clamp, total_views)))


def noising(x0: Tensor, *, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x_t = alpha_v x0_v + sigma_v eps_v, in x0's type and differentiable in x0.

    x0, eps: [V,...], each float32, float64, float16 or bfloat16; all is computed in float32, or in float64 if x0 is.
    alpha, sigma: [V].
    """
    num_views = _num_views(x0)
    eps = _like("eps", eps, x0)
    alpha, sigma = _constant("alpha", alpha, (num_views,), x0), _constant("sigma", sigma, (num_views,), x0)
    if not _library.native(x0.device):
        return reference.noising(x0, eps, alpha, sigma)
    return _Noising.apply(x0.contiguous(), (eps, alpha, sigma))


# Functions rather than gradients registered with the operators: those would take longer than the kernels at 64x64. What
# is constant comes as a tuple, which autograd does not look into.
class _Residual(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x0, constants):
        loss, norms, num_nonfinite, grad = _residual(x0, *constants)
        ctx.save_for_backward(grad)
        ctx.mark_non_differentiable(norms, num_nonfinite)
        ctx.set_materialize_grads(False)
        return loss, norms, num_nonfinite

    @staticmethod
    def backward(ctx, v_loss, *_):
        return None if v_loss is None else v_loss * ctx.saved_tensors[0], None


class _Noising(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x0, constants):
        ctx.save_for_backward(constants[1])
        return _noising(x0, *constants)

    @staticmethod
    def backward(ctx, v_noised):
        (alpha,) = ctx.saved_tensors
        return (reference.per_view(alpha, v_noised) * v_noised).to(v_noised.dtype), None


def _num_views(x0: object) -> int:
    if not isinstance(x0, Tensor) or x0.dtype not in FLOATS or x0.dim() < 1:
        raise ValueError("x0 must be a floating-point tensor of shape [V,...].")
    return x0.shape[0]


def _like(name: str, value: Tensor, x0: Tensor) -> Tensor:
    """`value`, contiguous, if it is on x0's device, has its shape and a floating-point type."""
    known = isinstance(value, Tensor) and value.dtype in FLOATS
    if known and value.shape == x0.shape and value.device == x0.device:
        return value.contiguous()
    dtype = value.dtype if known else reference.compute_dtype(x0)
    return _check.tensor(name, value, shape=x0.shape, dtype=dtype, device=x0.device)


def _constant(name: str, value: Tensor, shape: Sequence[int], x0: Tensor) -> Tensor:
    """`value` [V] or [K,V], contiguous, in the type computed in."""
    dtype = torch.float64 if x0.dtype == torch.float64 else torch.float32
    if isinstance(value, Tensor) and value.dtype in FLOATS:
        value = value.to(dtype)
        if value.shape == shape and value.device == x0.device:
            return value.contiguous()
    return _check.tensor(name, value, shape=shape, dtype=dtype, device=x0.device)


@torch.library.register_fake("splatdistill::residual_forward")
def _residual_fake(x0, terms, coef, weight, clamp, total_views) -> tuple[Tensor, ...]:
    count = x0.new_empty((), dtype=torch.int64)
    return coef.new_empty(()), coef.new_empty(x0.shape[0]), count, torch.empty_like(x0)


@torch.library.register_fake("splatdistill::noising_forward")
def _noising_fake(x0, eps, alpha, sigma) -> Tensor:
    return torch.empty_like(x0)
