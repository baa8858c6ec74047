"""What follows the timestep or the progress of a run: ranges of timesteps, weights, numbers that move."""

from __future__ import annotations

from typing import TYPE_CHECKING

from splatdistill.config.base import AnnealedConfig, Schedule, Weight

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from splatdistill.scene.types import NoisyBatch

MAX_SIGMA_OVER_ALPHA = 13.0  # SD's value at t = 980; a cosine schedule reaches 34 there


def anneal(start: float, end: float, *, progress: float, over: float, schedule: Schedule = "linear") -> float:
    """From start to end while progress (0..1) runs to `over`, then constant; `over` = 0 is the end at once.

    schedule: linear, sqrt (the square root of the part that is done, HiFA's and Consistent3D's) or uniform (start).
    """
    if schedule == "uniform":
        return start
    part = 1.0 if over <= 0 else min(1.0, progress / over)
    return start + (end - start) * (part**0.5 if schedule == "sqrt" else part)


def timestep_range(config: AnnealedConfig, *, progress: float) -> tuple[float, float]:
    """Lowest and highest timestep, as fractions of the schedule, at `progress` 0..1 of the run."""
    first = (config.t_min_first or config.t_min, config.t_max)
    last = (config.t_min, config.t_max_final)
    low, high = (
        anneal(a, b, progress=progress, over=config.anneal, schedule=config.schedule)
        for a, b in zip(first, last, strict=True)
    )
    return low, high


def draw_timesteps(
    *, num_views: int, group: int, num_train: int, low: float, high: float, seed: int, step: int, device: torch.device
) -> Tensor:
    """[num_views] int64 uniform in [low, high] x num_train, inclusive, and below num_train; views of a group
    share one.
    """
    import torch

    from splatdistill.utils import rng
    from splatdistill.utils.device import send

    last = min(int(high * num_train), num_train - 1)
    first = min(int(low * num_train), last)
    g = rng.generator(seed, step, "timestep")
    t = torch.randint(first, last + 1, (num_views // group,), generator=g)
    return send(t[:, None].expand(-1, group).flatten(), device)


def weights(name: Weight, batch: NoisyBatch) -> Tensor:
    """[V] weight over timesteps: sigma2 is sigma^2, fantasia is alpha sigma^2, sigma_over_alpha is capped; flow is
    1 + that, which turns eps_cfg - eps into a flow's v_cfg - (eps - x0).
    """
    alpha, sigma = batch.alpha, batch.sigma
    if name == "sigma2":
        return sigma**2
    if name == "one":
        return sigma.new_ones(sigma.shape)
    if name == "sigma_over_alpha":
        return (sigma / alpha).clamp(max=MAX_SIGMA_OVER_ALPHA)
    if name == "flow":
        return 1 + (sigma / alpha).clamp(max=MAX_SIGMA_OVER_ALPHA)
    assert name == "fantasia"
    return alpha * sigma**2
