"""The distillation gradient as a loss, and the noising before it: one fused pass each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from splatdistill.ops import _check, _library, reference
from splatdistill.ops.gradient import loss_with_gradient

MAX_TERMS = 8
FLOATS = frozenset((torch.float32, torch.float64, torch.float16, torch.bfloat16))
_residual = torch.ops.splatdistill.residual_forward.default
_noising = torch.ops.splatdistill.noising_forward.default


class ResidualLoss(NamedTuple):
    """loss: scalar whose gradient is the residual; it is 0, on the CPU. norms: [V]. num_nonfinite: int64."""

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

    x0: [V,...], of which no element is read. terms: 1 to 8 tensors like x0, treated as constants; none is copied if all
    are contiguous or all channels-last. Each of them may be float32, float64, float16 or
    bfloat16; all is computed in float32, or in float64 if x0 is. The gradient has the type of x0, the results that
    computed in. coef: [K,V]. weight: [V]. clamp: largest |element| of g, or None.
    total_views: views over all ranks, V when None: the loss is a mean over views of sums over elements.

    Returns the loss, norms [V] = ||g_v||_2 and the number of elements that were not finite. Those are set to 0, before
    the clamp. The loss has a gradient and no value: it stands for any linear one, such as <x0, g> / total_views. It is
    on the CPU wherever x0 is, so that an upstream gradient of 1 is seen to be 1 without a wait, and not multiplied in.
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
    terms = _in_one_order([_like(f"terms[{k}]", term, x0) for k, term in enumerate(terms)])
    coef = _constant("coef", coef, (len(terms), num_views), x0)
    weight = _constant("weight", weight, (num_views,), x0)
    if not _library.native(x0.device):
        return ResidualLoss(*reference.residual(x0, terms, coef, weight, clamp, total_views))
    with torch.no_grad():
        like = x0 if x0.stride() == terms[0].stride() else torch.empty_like(terms[0], dtype=x0.dtype)
        norms, num_nonfinite, grad = _residual(like, terms, coef, weight, clamp, total_views)
    return ResidualLoss(loss_with_gradient(x0, gradient=grad), norms, num_nonfinite)


def noising(x0: Tensor, *, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x_t = alpha_v x0_v + sigma_v eps_v, in x0's type and differentiable in x0.

    x0, eps: [V,...], each float32, float64, float16 or bfloat16; all is computed in float32, or in float64 if x0 is.
    alpha, sigma: [V].
    """
    num_views = _num_views(x0)
    eps = _like("eps", eps, x0).contiguous()
    alpha, sigma = _constant("alpha", alpha, (num_views,), x0), _constant("sigma", sigma, (num_views,), x0)
    if not _library.native(x0.device):
        return reference.noising(x0, eps, alpha, sigma)
    return _Noising.apply(x0.contiguous(), (eps, alpha, sigma))


# A function rather than a gradient registered with the operator: that would take longer than the kernel at 64x64. What
# is constant comes as a tuple, which autograd does not look into.
class _Noising(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x0, constants):
        ctx.save_for_backward(constants[1])
        return _noising(x0, *constants)

    @staticmethod
    def backward(ctx, v_noised):  # pyright: ignore[reportIncompatibleMethodOverride]
        (alpha,) = ctx.saved_tensors
        return (reference.per_view(alpha, v_noised) * v_noised).to(v_noised.dtype), None


def _num_views(x0: object) -> int:
    if not isinstance(x0, Tensor) or x0.dtype not in FLOATS or x0.dim() < 1:
        raise ValueError("x0 must be a floating-point tensor of shape [V,...].")
    return x0.shape[0]


def _like(name: str, value: Tensor, x0: Tensor) -> Tensor:
    """`value` if it is on x0's device, is like it [V,C,h,w] and a floating-point type."""
    known = isinstance(value, Tensor) and value.dtype in FLOATS
    if known and value.shape == x0.shape and value.device == x0.device:
        return value
    dtype = value.dtype if known else reference.compute_dtype(x0)
    return _check.tensor(name, value, shape=x0.shape, dtype=dtype, device=x0.device)


def _in_one_order(terms: list[Tensor]) -> list[Tensor]:
    """The terms [V,C,h,w], each like before, with their elements in one order of memory: the first one's, if that is
    contiguous or channels-last. Those in another are copied.
    """
    first = terms[0]
    if not first.is_contiguous() and not (first.dim() == 4 and first.is_contiguous(memory_format=torch.channels_last)):
        first = first.contiguous()
    return [first, *(x if x.stride() == first.stride() else _reordered(x, first) for x in terms[1:])]


def _reordered(x: Tensor, like: Tensor) -> Tensor:
    return torch.empty_like(like, dtype=x.dtype).copy_(x.detach())


def _constant(name: str, value: Tensor, shape: Sequence[int], x0: Tensor) -> Tensor:
    """`value` [V] or [K,V], contiguous, in the type computed in for x0 [V,C,h,w]."""
    dtype = torch.float64 if x0.dtype == torch.float64 else torch.float32
    if isinstance(value, Tensor) and value.dtype in FLOATS:
        value = value.to(dtype)
        if value.shape == shape and value.device == x0.device:
            return value.contiguous()
    return _check.tensor(name, value, shape=shape, dtype=dtype, device=x0.device)


@torch.library.register_fake("splatdistill::residual_forward")
def _residual_fake(like, terms, coef, weight, clamp, total_views) -> tuple[Tensor, ...]:
    return coef.new_empty(like.shape[0]), like.new_empty((), dtype=torch.int64), torch.empty_like(like)


@torch.library.register_fake("splatdistill::noising_forward")
def _noising_fake(x0, eps, alpha, sigma) -> Tensor:
    return torch.empty_like(x0)
