"""Densification in plain torch: statistics, classify with a ranked budget, scatter of tensors and Adam moments.

Order of the result: the input's order, each splat followed by its child.
Classify compares logits and log scales against
thresholds made by the caller and ranks by (gradient descending, index ascending), so that masks are equal on every
device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from splatdistill.ops.philox import philox_normal

KEEP, CLONE, SPLIT, PRUNE = range(4)
SPLIT_SHRINK = 1.6  # 3DGS: children of a split are this much smaller


def accumulate(grad_sum: Tensor, count: Tensor, *, probe_grad: Tensor, radii: Tensor) -> None:
    """Add one render to the statistics, in place.

    grad_sum: [N] sum over views of the norm of dL/dmeans2d (px); count: [N] views that saw the splat.
    probe_grad: [V,N,2]; radii: [V,N,2]. Norms are summed per view, so opposing views do not cancel.
    """
    seen = (radii > 0).all(-1)
    norms = torch.where(seen, probe_grad.square().sum(-1).sqrt(), 0.0)  # vector_norm is slow over two numbers
    grad_sum += torch.nan_to_num(norms, nan=0.0, posinf=0.0, neginf=0.0).sum(0)
    count += seen.sum(0)


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
) -> Tensor:
    """What becomes of each splat: [N] int8 of KEEP, CLONE, SPLIT, PRUNE.

    mean_grad: [N] >= 0. scales: [N,3] log; opacities: [N] logit; split_scale and prune_scale: log; prune_opacity:
    logit.
    Growth stops at max_splats survivors, the largest gradients first.
    """
    largest = scales.amax(-1)
    prune = (opacities < prune_opacity) | (largest > prune_scale)
    want = (mean_grad >= grow_gradient) & (mean_grad > 0) & ~prune
    room = max(0, max_splats - int((~prune).sum()))
    order = torch.argsort(torch.where(want, mean_grad, -1.0), descending=True, stable=True)[:room]
    grow = torch.zeros_like(want)
    grow[order] = True
    grow &= want
    kind = torch.full_like(mean_grad, KEEP, dtype=torch.int8)
    kind[grow & (largest <= split_scale)] = CLONE
    kind[grow & (largest > split_scale)] = SPLIT
    kind[prune] = PRUNE
    return kind


def scatter(
    tensors: dict[str, Tensor], moments: dict[str, dict[str, Tensor]], *, kind: Tensor, key: int
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """New tensors and moments after `kind`. Survivors keep their moments; a clone's copy and both halves of a split
    start at 0.

    A split draws two positions from its own Gaussian with Philox keyed by (key, index) and shrinks the scales.
    Parent and child of a clone or split share the opacity o as 1 - sqrt(1 - o) each, which leaves the picture as it
    was.
    """
    copies = torch.tensor([1, 2, 2, 0], device=kind.device)[kind.long()]
    source = torch.repeat_interleave(torch.arange(len(kind), device=kind.device), copies)
    child = torch.zeros_like(source)
    child[1:] = (source[1:] == source[:-1]).long()
    kind = kind[source]
    out = {name: value[source] for name, value in tensors.items()}

    split = torch.nonzero(kind == SPLIT)[:, 0]
    normals = philox_normal(key, source[split], num=6).view(-1, 2, 3)
    normals = normals[torch.arange(len(split), device=kind.device), child[split]]
    offset = rotate(out["quats"][split], torch.exp(out["scales"][split]) * normals)
    out["means"] = out["means"].index_add(0, split, offset)
    out["scales"] = torch.where((kind == SPLIT)[:, None], out["scales"] - math.log(SPLIT_SHRINK), out["scales"])
    grown = (kind == CLONE) | (kind == SPLIT)
    shared = 1 - torch.sqrt(1 - torch.sigmoid(out["opacities"]))
    out["opacities"] = torch.where(grown, torch.logit(shared, eps=1e-6), out["opacities"])

    fresh = (kind == SPLIT) | (child == 1)
    moved = {
        name: {which: torch.where(fresh.view(-1, *[1] * (m.dim() - 1)), 0.0, m[source]) for which, m in state.items()}
        for name, state in moments.items()
    }
    return out, moved


def rotate(quats: Tensor, vectors: Tensor) -> Tensor:
    """Vectors [N,3] turned by quaternions [N,4] wxyz of any length."""
    quats = torch.nn.functional.normalize(quats, dim=-1)
    w, axis = quats[:, :1], quats[:, 1:]
    cross = 2 * torch.linalg.cross(axis, vectors)
    return vectors + w * cross + torch.linalg.cross(axis, cross)
