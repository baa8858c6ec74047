"""What surrounds the splats: the background behind them."""

from __future__ import annotations

import torch
from torch import Tensor

from splatdistill.config import BackgroundConfig


def sample_background(config: BackgroundConfig, *, num_views: int, group: int, generator: torch.Generator) -> Tensor:
    """[num_views,3] in 0..1: one colour for every group of views, so that a multi-view prior sees one scene."""
    n = num_views // group
    kind = torch.rand(n, 1, generator=generator)
    flat = torch.rand(n, 3, generator=generator)
    gray = flat[:, :1].expand(n, 3)
    colour = torch.where(
        kind < config.white, torch.ones(n, 3), torch.where(kind < config.white + config.gray, gray, flat)
    )
    return colour.repeat_interleave(group, 0)
