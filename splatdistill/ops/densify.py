"""Densification: statistics at every step, classify with a ranked budget and scatter at an event.

Order of the result: the input's order, each splat followed by its child. Classify compares logits and log scales with
thresholds made by the caller and ranks by (gradient descending, index ascending), so that masks are equal on every
device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from splatdistill.ops import _check, _library, reference
from splatdistill.ops.reference import CLONE, KEEP, PRUNE, SPLIT

__all__ = ["CLONE", "KEEP", "PRUNE", "SPLIT", "Moments", "Plan", "accumulate", "classify", "scatter"]

Moments = dict[str, dict[str, Tensor]]
# What scatter computes with; every other tensor is copied as bytes.
_SPLATS: dict[str, tuple[int, ...]] = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": ()}


class Plan(NamedTuple):
    """kind: [N] int8, one of KEEP, CLONE, SPLIT, PRUNE for each splat. counts: [4] int64 on the CPU, splats of each."""

    kind: Tensor
    counts: Tensor


def accumulate(grad_sum: Tensor, count: Tensor, *, probe_grad: Tensor, radii: Tensor) -> None:
    """Add one render to the statistics, in place.

    grad_sum: [N] float32, sum over views of the norm of dL/dmeans2d (px); count: [N] int64, views that saw the splat.
    probe_grad: [V,N,2] float32; radii: [V,N,2] int32, both > 0 where seen. Norms are summed per view, so opposing views
    do not cancel; one that is not finite counts as 0.
    """
    device = _device("grad_sum", grad_sum)
    _check.tensor("grad_sum", grad_sum, shape=(None,), dtype=torch.float32, device=device)
    n = len(grad_sum)
    _check.tensor("count", count, shape=(n,), dtype=torch.int64, device=device)
    for name, value in (("grad_sum", grad_sum), ("count", count)):
        if not value.is_contiguous():
            raise ValueError(f"{name} must be contiguous, it is written in place.")
    probe_grad = _check.tensor("probe_grad", probe_grad, shape=(None, n, 2), dtype=torch.float32, device=device)
    radii = _check.tensor("radii", radii, shape=(len(probe_grad), n, 2), dtype=torch.int32, device=device)
    op = torch.ops.splatdistill.densify_accumulate if _library.native(device) else reference.densify_accumulate
    op(grad_sum, count, probe_grad, radii)


def classify(
    mean_grad: Tensor,
    *,
    scales: Tensor,
    opacities: Tensor,
    grow_gradient: float | Tensor,
    split_scale: float,
    prune_scale: float,
    prune_opacity: float,
    max_splats: int,
) -> Plan:
    """What becomes of each splat.

    mean_grad: [N] >= 0. scales: [N,3] log; opacities: [N] logit; all float32. split_scale and prune_scale: log;
    prune_opacity: logit; grow_gradient: a number, or a tensor [] that need not leave its device; rounded to float32.
    A splat is pruned if it is fainter or its largest scale is larger. Else it grows if its gradient is positive and at
    least grow_gradient, by a split if its largest scale is above split_scale and by a clone if not. Growth stops at
    max_splats survivors, the largest gradients first, the lowest index among equal ones.
    """
    device = _device("mean_grad", mean_grad)
    mean_grad = _check.tensor("mean_grad", mean_grad, shape=(None,), dtype=torch.float32, device=device)
    n = len(mean_grad)
    scales = _check.tensor("scales", scales, shape=(n, 3), dtype=torch.float32, device=device)
    opacities = _check.tensor("opacities", opacities, shape=(n,), dtype=torch.float32, device=device)
    _check.integer("max_splats", max_splats, low=0, high=2**63 - 1)
    if isinstance(grow_gradient, Tensor):
        _check.tensor("grow_gradient", grow_gradient, shape=(), dtype=torch.float32, device=device)
    else:
        grow_gradient = torch.tensor(grow_gradient, dtype=torch.float32)
    if _library.native(device):
        kind, counts = torch.ops.splatdistill.densify_classify(
            mean_grad, scales, opacities, grow_gradient, split_scale, prune_scale, prune_opacity, max_splats
        )
        return Plan(kind, counts.cpu())
    kind = reference.densify_classify(
        mean_grad,
        scales=scales,
        opacities=opacities,
        grow_gradient=grow_gradient,
        split_scale=split_scale,
        prune_scale=prune_scale,
        prune_opacity=prune_opacity,
        max_splats=max_splats,
    )
    return Plan(kind, torch.bincount(kind, minlength=4).cpu())


def scatter(tensors: dict[str, Tensor], moments: Moments, *, plan: Plan, key: int) -> tuple[dict[str, Tensor], Moments]:
    """New tensors and moments after `plan`.

    tensors: means [N,3], quats [N,4], scales [N,3] log and opacities [N] logit, float32, and any others [N,...] of any
    dtype, which are copied. moments: per tensor name and moment, [N,...]. key: 0 <= key < 2^63.

    Survivors keep their moments; a clone's copy and both halves of a split start at 0. A split draws two positions from
    its own Gaussian with Philox keyed by (key, index) and divides the scales by 1.6. Parent and child of a clone or
    split share the opacity o as 1 - sqrt(1 - o) each, which leaves the picture as it was.
    """
    _check.integer("key", key, low=0, high=2**63 - 1)
    device = _device("kind", plan.kind)
    kind = _check.tensor("kind", plan.kind, shape=(None,), dtype=torch.int8, device=device)
    missing = [name for name in _SPLATS if name not in tensors]
    if missing:
        raise ValueError(f"tensors must hold {', '.join(missing)}.")
    for name, sizes in _SPLATS.items():
        _check.tensor(name, tensors[name], shape=(len(kind), *sizes), dtype=torch.float32, device=device)
    names = [*_SPLATS, *(name for name in tensors if name not in _SPLATS)]
    rows = [_rows(name, tensors[name], len(kind), device) for name in names]
    states = [(name, which) for name, state in moments.items() for which in state]
    rows += [_rows(f"{name}.{which}", moments[name][which], len(kind), device) for name, which in states]
    if not _library.native(device):
        return reference.densify_scatter(tensors, moments, kind=kind, key=key)
    keep, clone, split, _ = plan.counts.tolist()
    with torch.no_grad():
        out = torch.ops.splatdistill.densify_scatter(rows, len(states), kind, keep + 2 * (clone + split), key)
    placed = dict(zip(names, out, strict=False))
    moved: Moments = {name: {} for name in moments}
    for (name, which), value in zip(states, out[len(names) :], strict=True):
        moved[name][which] = value
    return {name: placed[name] for name in tensors}, moved


def _device(name: str, value: object) -> torch.device:
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a tensor, got {type(value).__name__}.")
    return value.device


def _rows(name: str, value: Tensor, n: int, device: torch.device) -> Tensor:
    """`value` [N,...], contiguous and like it, if it has N rows on this device."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a tensor, got {type(value).__name__}.")
    if value.device != device:
        raise ValueError(f"{name} must be on {device}, got {value.device}.")
    if value.dim() == 0 or len(value) != n:
        raise ValueError(f"{name} must have {n} rows, got shape {list(value.shape)}.")
    return value.contiguous()


@torch.library.register_fake("splatdistill::densify_accumulate")
def _accumulate_fake(grad_sum, count, probe_grad, radii) -> None:
    return None


@torch.library.register_fake("splatdistill::densify_classify")
def _classify_fake(mean_grad, scales, opacities, *_) -> tuple[Tensor, Tensor]:
    return mean_grad.new_empty(len(mean_grad), dtype=torch.int8), mean_grad.new_empty(4, dtype=torch.int64)


@torch.library.register_fake("splatdistill::densify_scatter")
def _scatter_fake(tensors, num_moments, kind, num_out, key) -> list[Tensor]:
    return [value.new_empty(num_out, *value.shape[1:]) for value in tensors]
