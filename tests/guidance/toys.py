"""Densities and helpers that the tests of the methods share. Everything is in float64 but the coefficients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from splatdistill.config.schema import GUIDANCE
from splatdistill.guidance.base import Guidance, noisy_batch, per_view
from splatdistill.priors.analytic import AnalyticPrior, Density, Gaussian
from splatdistill.priors.base import Condition
from splatdistill.scene.cameras import orbit
from splatdistill.scene.types import Cameras, NoisyBatch, Residual
from tests.rounding import UNIT, assert_within

FOR_ANY_PRIOR = tuple(name for name, kind in GUIDANCE.items() if not kind.fits_views)
"""Methods that distil; the others want pictures with alpha."""


def cameras(num_views: int, *, azimuth: Sequence[float] | None = None, elevation: float = 0.0) -> Cameras:
    full = torch.ones(num_views)
    turn = torch.tensor(azimuth) if azimuth is not None else 0 * full
    return orbit(azimuth=turn, elevation=elevation * full, radius=3 * full, fovy=0.7 * full, size=1)


def scalar(x: float) -> Tensor:
    return torch.full((1, 1, 1, 1), x, dtype=torch.float64)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def prompt_prior(**densities: Density) -> AnalyticPrior:
    """A density for each prompt; "empty" names that of the prompt ""."""
    return AnalyticPrior(lambda prompt, cameras: densities[prompt or "empty"], image_size=1)


def gaussian(mean: float | Tensor, std: float) -> Gaussian:
    return Gaussian(torch.as_tensor(mean, dtype=torch.float64), std)


def batch_at(prior: AnalyticPrior, *, z: Tensor, eps: Tensor, t: int | Sequence[int]) -> NoisyBatch:
    timesteps = torch.full((len(z),), t) if isinstance(t, int) else torch.tensor(t)
    return noisy_batch(z, cameras(len(z)), prior, t=timesteps, eps=eps)


def assemble(residual: Residual) -> Tensor:
    total = sum(c.view(-1, 1, 1, 1) * term for c, term in zip(residual.coef.double(), residual.terms, strict=True))
    return residual.weight.view(-1, 1, 1, 1) * total


def gradient(method: Guidance, prior: AnalyticPrior, *, z: Tensor, eps: Tensor, t: int | Sequence[int]) -> Tensor:
    """The assembled residual per element, before the mean over views; z, eps: [V,C,h,w]."""
    return assemble(method.residual(batch_at(prior, z=z, eps=eps, t=t), prior, step=0))


def assert_sums_to_zero(coef: Tensor) -> None:
    """coef: [K,V]. Each of the K numbers is rounded once, and so is each sum of them."""
    assert_within(coef.sum(0), torch.zeros(coef.shape[1]), len(coef) * UNIT * coef.abs().sum(0))


def levels(prior: AnalyticPrior, t: int) -> tuple[Tensor, Tensor, Tensor]:
    """alpha, sigma and S = sigma / alpha."""
    ac = prior.alphas_cumprod[t].double()
    return ac.sqrt(), (1 - ac).sqrt(), ((1 - ac) / ac).sqrt()


def hermite(count: int = 40) -> tuple[Tensor, Tensor]:
    """Nodes [n,1,1,1] and masses [n] that integrate over standard normal noise."""
    nodes, mass = (torch.from_numpy(x) for x in np.polynomial.hermite_e.hermegauss(count))
    return nodes.view(-1, 1, 1, 1), mass / mass.sum()


__all__ = ["per_view"]


class Counting:
    """Forwards to a prior and counts network calls and the pictures in them."""

    def __init__(self, prior: AnalyticPrior) -> None:
        self.calls: list[int] = []
        predict: Callable[..., list[Tensor]] = prior.predict

        def counted(xt: Tensor, t: Tensor, conditions: Sequence[Condition]) -> list[Tensor]:
            self.calls.append(len(conditions) * len(xt))
            return predict(xt, t, conditions)

        prior.predict = counted  # type: ignore[method-assign]
