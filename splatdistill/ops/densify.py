"""Densification: statistics, classify with a ranked budget, scatter of tensors and Adam moments.

Order of the result: the input's order, each splat followed by its child.
Classify compares logits and log scales against
thresholds made by the caller and ranks by (gradient descending, index ascending), so that masks are equal on every
device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from splatdistill.ops import reference
from splatdistill.ops.reference import CLONE, KEEP, PRUNE, SPLIT

__all__ = ["CLONE", "KEEP", "PRUNE", "SPLIT", "Moments", "Plan", "accumulate", "classify", "scatter"]

Moments = dict[str, dict[str, Tensor]]


class Plan(NamedTuple):
    """kind: [N] int8, one of KEEP, CLONE, SPLIT, PRUNE for each splat. counts: [4] int64 on the CPU, splats of each."""

    kind: Tensor
    counts: Tensor


def accumulate(grad_sum: Tensor, count: Tensor, *, probe_grad: Tensor, radii: Tensor) -> None:
    """Add one render to the statistics, in place.

    grad_sum: [N] sum over views of the norm of dL/dmeans2d (px); count: [N] views that saw the splat.
    probe_grad: [V,N,2]; radii: [V,N,2]. Norms are summed per view, so opposing views do not cancel.
    """
    reference.densify_accumulate(grad_sum, count, probe_grad, radii)


def classify(
    mean_grad: Tensor,
    *,
    scales: Tensor,
    opacities: Tensor,
    grow_gradient: float,
    split_scale: float,
    prune_scale: float,
    prune_opacity: float,
    max_splats: int,
) -> Plan:
    """What becomes of each splat.

    mean_grad: [N] >= 0. scales: [N,3] log; opacities: [N] logit; split_scale and prune_scale: log; prune_opacity:
    logit.
    Growth stops at max_splats survivors, the largest gradients first.
    """
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
    """New tensors and moments after `plan`. Survivors keep their moments; a clone's copy and both halves of a split
    start at 0.

    A split draws two positions from its own Gaussian with Philox keyed by (key, index) and shrinks the scales.
    Parent and child of a clone or split share the opacity o as 1 - sqrt(1 - o) each, which leaves the picture as it
    was.
    """
    return reference.densify_scatter(tensors, moments, kind=plan.kind, key=key)
