"""Densities and scores in closed form that only tests ask for, beside those of `splatdistill.priors.analytic`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from splatdistill.priors.analytic import AnalyticPrior
from splatdistill.priors.learned_score import LearnedScore


@dataclass(frozen=True)
class Mixture:
    """sum_m weights_m N(means_m, std^2 I) for each view on its own; means: M tensors broadcastable to [V,C,h,w]."""

    means: Sequence[Tensor]
    std: float
    weights: Sequence[float]

    def epsilon(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        variance = alpha**2 * self.std**2 + sigma**2
        centred = torch.stack([x - alpha * mean for mean in self.means])  # [M,V,C,h,w]
        log_weight = torch.tensor(self.weights, device=x.device).log().view(-1, 1)
        logits = log_weight - centred.square().sum((2, 3, 4)) / (2 * variance.view(1, -1))
        responsibility = torch.softmax(logits, 0)[..., None, None, None]
        return sigma * (responsibility * centred).sum(0) / variance


@dataclass(frozen=True)
class Equicorrelated:
    """Groups of `views` whose images are jointly Gaussian: covariance std^2 ((1 - rho) I + rho 1 1^T) over the
    views.
    """

    mean: Tensor
    std: float
    rho: float
    views: int

    def epsilon(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        d = (x - alpha * self.mean).unflatten(0, (-1, self.views))
        alpha, sigma = (a.unflatten(0, (-1, self.views)) for a in (alpha, sigma))
        common = d.mean(1, keepdim=True)
        var = alpha**2 * self.std**2
        along = var * (1 + (self.views - 1) * self.rho) + sigma**2
        across = var * (1 - self.rho) + sigma**2
        return (sigma * (common / along + (d - common) / across)).flatten(0, 1)


class GaussianScore(LearnedScore):
    """A linear network: the score of N(mean, std^2 I), one for all cameras, and one whose mean follows the token."""

    def __init__(
        self, shape: Sequence[int], *, alphas_cumprod: Tensor, lr: float, dropout: float, particles: int
    ) -> None:
        """shape: C, h, w of the renders. It starts as N(0, I)."""
        self.shape = tuple(shape)
        self.mean, self.log_std = nn.Parameter(torch.zeros(self.shape)), nn.Parameter(torch.zeros(()))
        self.camera_mean, self.camera_log_std = nn.Parameter(torch.zeros(self.shape)), nn.Parameter(torch.zeros(()))
        self.camera_weight = nn.Parameter(torch.zeros(16, self.mean.numel()))
        names = ("mean", "log_std", "camera_mean", "camera_log_std", "camera_weight")
        super().__init__(
            {name: getattr(self, name) for name in names},
            alphas_cumprod=alphas_cumprod,
            lr=lr,
            dropout=dropout,
            particles=particles,
        )

    def forward(self, xt: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        alpha, sigma = self._alpha_sigma(t)
        with_camera = (tokens != 0).any(-1).view(-1, 1, 1, 1)
        by_camera = self.camera_mean + (tokens @ self.camera_weight).view(-1, *self.shape)
        mean = torch.where(with_camera, by_camera, self.mean)
        log_std = torch.where(with_camera, self.camera_log_std, self.log_std)
        return sigma * (xt - alpha * mean) / (alpha**2 * torch.exp(2 * log_std) + sigma**2)

    def frozen(self, xt: Tensor, t: Tensor) -> Tensor:
        return self._alpha_sigma(t)[1] * xt


class LinearPrior(AnalyticPrior):
    """The analytic prior whose second score is a linear network that learns, and not the exact one."""

    def particle_score(self, *, particles: int, lr: float, dropout: float) -> GaussianScore:
        shape = (3, self.image_size, self.image_size)
        return GaussianScore(shape, alphas_cumprod=self.alphas_cumprod, lr=lr, dropout=dropout, particles=particles)
