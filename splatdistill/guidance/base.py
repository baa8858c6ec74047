"""What every guidance method shares: its contract, the timestep schedule, the weights and the skipping of idle
branches.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from splatdistill import ops, rng
from splatdistill.config import Weight
from splatdistill.priors.base import Condition, Prior
from splatdistill.types import Cameras, NoisyBatch, Residual

MAX_SIGMA_OVER_ALPHA = 13.0  # SD's value at t = 980; a cosine schedule reaches 34 there


class Guidance(ABC):
    """A method: how renders are noised and which combination of scores is their gradient.

    Methods with state override the rest.
    """

    @abstractmethod
    def noise(self, x0: Tensor, cameras: Cameras, prior: Prior, *, seed: int, step: int) -> NoisyBatch:
        """x_t = alpha x0 + sigma eps for one step. x0: [V,C,h,w] with grad."""

    @abstractmethod
    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        """The scores that make up the gradient of x0, with their coefficients and weight."""

    def update(self, batch: NoisyBatch, prior: Prior, *, step: int) -> dict[str, float]:
        """Train whatever the method itself learns, after the splats' own step; returns numbers for the log."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        assert not state


def noisy_batch(x0: Tensor, cameras: Cameras, prior: Prior, *, t: Tensor, eps: Tensor) -> NoisyBatch:
    """Noise x0 [V,C,h,w] to timesteps t [V] with eps like x0."""
    alphas_cumprod = prior.alphas_cumprod.to(x0.device)[t]
    alpha, sigma = alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()
    xt = ops.noising(x0.detach(), eps=eps, alpha=alpha, sigma=sigma)
    return NoisyBatch(x0=x0, t=t, eps=eps, xt=xt, alpha=alpha, sigma=sigma, cameras=cameras)


def draw_noise(x0: Tensor, *, seed: int, step: int) -> Tensor:
    """Standard normal noise like x0, the same numbers on every device."""
    return torch.randn(x0.shape, generator=rng.generator(seed, step, "noise")).to(x0.device)


def draw_timesteps(
    *, num_views: int, group: int, num_train: int, low: float, high: float, seed: int, step: int, device: torch.device
) -> Tensor:
    """[num_views] int64 uniform in [low, high] x num_train, inclusive; views of a group share one."""
    first, last = int(low * num_train), int(high * num_train)
    g = rng.generator(seed, step, "timestep")
    t = torch.randint(first, last + 1, (num_views // group,), generator=g)
    return t.repeat_interleave(group).to(device)


def anneal(start: float, end: float, *, progress: float, over: float) -> float:
    """Linear from start to end while progress (0..1) runs to `over`, then constant; `over` = 0 is the end at once."""
    return end if over <= 0 else start + (end - start) * min(1.0, progress / over)


def weights(name: Weight, batch: NoisyBatch) -> Tensor:
    """[V] weight over timesteps: sigma2 is sigma^2, fantasia is alpha sigma^2, sigma_over_alpha is capped."""
    alpha, sigma = batch.alpha, batch.sigma
    if name == "sigma2":
        return sigma**2
    if name == "one":
        return torch.ones_like(sigma)
    if name == "sigma_over_alpha":
        return (sigma / alpha).clamp(max=MAX_SIGMA_OVER_ALPHA)
    assert name == "fantasia"
    return alpha * sigma**2


def combine(
    batch: NoisyBatch,
    prior: Prior,
    *,
    scores: Sequence[tuple[float, Condition]],
    constants: Sequence[tuple[float, Tensor]],
    weight: Tensor,
) -> Residual:
    """The residual weight * (sum of coefficient x score + sum of coefficient x given tensor).

    Scores with coefficient 0 are never evaluated; the others take one network call.
    """
    used = [(c, condition) for c, condition in scores if c != 0.0]
    predicted = prior.predict(batch.xt, batch.t, [condition for _, condition in used]) if used else []
    row = [c for c, _ in used] + [c for c, _ in constants]
    coef = torch.tensor(row, device=batch.xt.device)[:, None].expand(-1, len(batch.t)).contiguous()
    assert all(math.isfinite(c) for c in row)
    return Residual(terms=[*predicted, *(tensor for _, tensor in constants)], coef=coef, weight=weight)
