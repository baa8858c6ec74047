"""Losses beside the distillation gradient, on pictures and splats; each is off while its weight is 0."""

from __future__ import annotations

import torch
from torch import Tensor

from splatdistill.config.schema import RegularizeConfig
from splatdistill.scene.gaussians import Splats
from splatdistill.scene.types import RenderOutput


def regularizer(config: RegularizeConfig, output: RenderOutput, splats: Splats, *, largest: float) -> Tensor | None:
    """[] sum over pixels, mean over views (as the distillation gradient), or None when every weight is 0.

    largest: scale in world units that costs nothing.
    """
    views = len(output.alpha)
    terms: list[Tensor] = []
    if config.opacity:
        terms.append(config.opacity * (output.alpha * (1 - output.alpha)).sum() / views)
    if config.sparsity:
        terms.append(config.sparsity * output.alpha.sum() / views)
    if config.scale:
        terms.append(config.scale * torch.relu(torch.exp(splats.scales) - largest).square().sum())
    if config.tv:
        picture = torch.cat([output.rgb, output.depth], -1)
        terms.append(config.tv * (_changes(picture, 1) + _changes(picture, 2)) / views)
    if len(terms) < 2:
        return terms[0] if terms else None
    return torch.stack(terms).sum()


def _changes(picture: Tensor, side: int) -> Tensor:
    return picture.diff(dim=side).square().sum()
