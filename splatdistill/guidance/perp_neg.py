"""Perp-Neg (Armandpour et al., arXiv 2304.04968): negatives act only across the direction of the prompt.

eps = eps_u + s (e + sum_i w_i e_i'), e = eps_c - eps_u, e_i = eps_i - eps_u, e_i' = e_i - <e_i, e> / <e, e> e.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from splatdistill.scene.types import Cameras

NEGATIVE_VIEWS = ("front", "side")
# threestudio's decays: the strength of a view's negative is a exp(-b r) + c.
_FRONT, _SIDE = (4.0, 0.5, -2.426), (4.0, 0.5, -2.426)  # seen from the front half
_FRONT_BEHIND, _SIDE_BEHIND = (1.0, 0.5, 0.967), (1.0, 0.5, -0.606)  # seen from the back half


def view_weights(cameras: Cameras, *, overhead_deg: float = 60.0) -> Tensor:
    """[2,V] weights, at most 0, of the words in NEGATIVE_VIEWS: the further a view is from them, the stronger; 0 from
    overhead.
    """
    import torch

    away, r, sided = _places(cameras, overhead_deg)
    front = torch.where(away < 1, _strength(_FRONT, r), _strength(_FRONT_BEHIND, r))
    side = torch.where(away < 1, _strength(_SIDE, 1 - r), _strength(_SIDE_BEHIND, r))
    return -torch.stack([front, side]) * sided


def view_shares(cameras: Cameras, *, overhead_deg: float = 60.0) -> Tensor:
    """[4,V] shares of the words of prompts.SIDES in the prompt of each view, which the decays above are made for: from
    front over side to back with the azimuth, and overhead alone from there.
    """
    import torch

    away, r, sided = _places(cameras, overhead_deg)
    nothing = torch.zeros_like(r)
    front, side, back = (torch.where(away < 1, *x) for x in ((r, nothing), (1 - r, r), (nothing, 1 - r)))
    return torch.stack([front * sided, side * sided, back * sided, 1.0 - sided])


def _places(cameras: Cameras, overhead_deg: float) -> tuple[Tensor, Tensor, Tensor]:
    """[V] each: the azimuth off the front in right angles, 0..2; what is left of it to the next one, 0..1; and 1 where
    the view is not from overhead, else 0.
    """
    import torch

    away = torch.rad2deg(cameras.azimuth.abs()) / 90
    sided = (cameras.elevation <= math.radians(overhead_deg)).to(away)
    return away, torch.where(away < 1, 1 - away, 2 - away), sided


def perp_neg_coefficients(scores: Sequence[Tensor], *, scale: float, weights: Tensor) -> list[Tensor]:
    """Coefficients [V] that make the guided score out of `scores` = prompt, unconditional, then the negatives
    [V,C,h,w]; weights: one row [V] for each negative. Inner products are those of each view.
    """
    from splatdistill import ops

    gram = ops.gram(scores).matrix
    along = gram[:, 0] - gram[:, 1]  # <e_k, e>, with e the prompt's direction and every e_k whole
    norm = (along[:, 0] - along[:, 1]).clamp(min=1e-6)
    parallel = ((along[:, 2:] - along[:, 1:2]) / norm[:, None]).T.to(weights.dtype)
    cond = scale * (1 - (weights * parallel).sum(0))
    uncond = 1 - scale * (1 + (weights * (1 - parallel)).sum(0))
    return [cond, uncond, *(scale * weights)]


def _strength(decay: tuple[float, float, float], r: Tensor) -> Tensor:
    """[V] strength of a negative; r: [V] share of a right angle."""
    a, b, c = decay
    return a * (-b * r).exp() + c
