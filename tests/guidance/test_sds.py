"""SDS against closed forms: golden draws, the Dirac test, mean and standard deviation, the guided fixed point."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from splatdistill import ops
from splatdistill.config.schema import TrainConfig
from splatdistill.guidance import make_guidance
from splatdistill.guidance.base import noisy_batch
from splatdistill.guidance.methods.sds import SDS, SDSConfig
from splatdistill.guidance.schedules import anneal, timestep_range
from splatdistill.priors.analytic import AnalyticPrior, Gaussian
from tests.guidance import toys
from tests.guidance.toys import assemble, cameras, gaussian, hermite, prompt_prior, scalar
from tests.priors.oracles import Mixture
from tests.rounding import UNIT, assert_rounded, assert_within, bound


def gaussian_prior(*, cond: float, uncond: float, std: float) -> AnalyticPrior:
    return prompt_prior(x=gaussian(cond, std), empty=gaussian(uncond, std))


def gradient(prior: AnalyticPrior, *, z: Tensor, eps: Tensor, t: int, scale: float, weight: str = "one") -> Tensor:
    method = SDS(SDSConfig(guidance_scale=scale, weight=weight), prompt="x", group=1, steps=1)  # type: ignore[arg-type]
    return toys.gradient(method, prior, z=z, eps=eps, t=t)


@pytest.mark.parametrize(
    ("scale", "weight", "golden"), [(1.0, "one", -1.011016), (1.0, "sigma2", -0.731639), (7.5, "one", -4.732901)]
)
def test_golden_draws(scale: float, weight: str, golden: float) -> None:
    prior = gaussian_prior(cond=1.3, uncond=0.2, std=0.7)
    one: dict[str, Any] = {"z": scalar(-0.4), "eps": scalar(0.8), "t": 500, "scale": scale, "weight": weight}
    assert_rounded(lambda: gradient(prior, **one), golden, off=5e-7)


def test_x0_form_is_the_capped_ratio_weight() -> None:
    prior = gaussian_prior(cond=1.3, uncond=1.3, std=0.7)

    def at(t: int, weight: str) -> Tensor:
        return gradient(prior, z=scalar(-0.4), eps=scalar(0.8), t=t, scale=1.0, weight=weight)

    assert_rounded(lambda: at(500, "sigma_over_alpha"), -1.636106, off=5e-7)
    assert_rounded(lambda: at(999, "sigma_over_alpha") / at(999, "one"), 13.0)


def test_dirac_data_has_no_variance() -> None:
    """With data at one point the gradient is w (alpha / sigma) (z - mu) whatever the noise."""
    prior = gaussian_prior(cond=0.5, uncond=0.5, std=0.0)
    z = torch.linspace(-1, 1, 6, dtype=torch.float64).view(6, 1, 1, 1)
    eps = torch.randn(6, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ac = prior.alphas_cumprod[300].double()
    expected = (ac / (1 - ac)).sqrt() * (z - 0.5)
    assert_rounded(lambda: gradient(prior, z=z, eps=eps, t=300, scale=1.0), expected)


@pytest.mark.parametrize("t", [100, 500, 900])
def test_mean_and_std_by_quadrature(t: int) -> None:
    """One Gaussian: mean sigma alpha (z - mu) / c and std alpha^2 s^2 / c over the noise, c = alpha^2 s^2 + sigma^2."""
    nodes, mass = hermite(20)
    prior = gaussian_prior(cond=1.3, uncond=1.3, std=0.7)
    z = torch.full((20, 1, 1, 1), -0.4, dtype=torch.float64)
    ac = prior.alphas_cumprod[t].double()
    alpha, sigma = ac.sqrt(), (1 - ac).sqrt()
    c = alpha**2 * 0.49 + sigma**2

    def moments() -> Tensor:
        g = gradient(prior, z=z, eps=nodes, t=t, scale=1.0).flatten()
        mean = (mass * g).sum()
        return torch.stack([mean, (mass * (g - mean) ** 2).sum().sqrt()])

    assert_rounded(moments, torch.stack([sigma * alpha * -1.7 / c, alpha**2 * 0.49 / c]))


def test_guided_fixed_point_is_linear_in_scale() -> None:
    """Equal variances: descent ends at mu_u + s (mu_c - mu_u), which tells the two guidance conventions apart."""
    prior, end = gaussian_prior(cond=1.0, uncond=0.2, std=0.7), 0.2 + 3.0 * 0.8

    def push(z: Tensor, step: int) -> Tensor:
        eps = toys.draw(64, 1, 1, 1, seed=step)
        pair = torch.cat([eps, -eps])  # antithetic: the mean gradient is exact
        return gradient(prior, z=z.expand(128, 1, 1, 1), eps=pair, t=300, scale=3.0).mean()

    z = scalar(0.0)
    for step in range(400):
        z = z - 0.5 * push(z, step)
    # A wrong push moves the end by itself over the slope. Half of the slope, 0.35, of what is left goes in each step.
    alpha, sigma, _ = toys.levels(prior, 300)
    slope = sigma * alpha / (alpha**2 * 0.49 + sigma**2)
    assert_within(z, scalar(end), bound(lambda: push(scalar(end), 0)) / slope)


def test_idle_branch_is_never_evaluated() -> None:
    prior = gaussian_prior(cond=1.0, uncond=0.2, std=0.7)
    counting = toys.Counting(prior)
    for scale in (1.0, 0.0, 7.5):
        gradient(prior, z=scalar(0.1), eps=scalar(0.2), t=300, scale=scale)
    assert counting.calls == [1, 1, 2]


def two_modes() -> AnalyticPrior:
    modes = [torch.full((1, 1, 1), m, dtype=torch.float64) for m in (-2.0, 2.0)]
    density = Mixture(modes, 0.3, [0.5, 0.5])
    return prompt_prior(x=density, empty=density)


def mean_gradient(prior: AnalyticPrior, z: float, t: int) -> float:
    nodes, mass = hermite(120)
    g = gradient(prior, z=torch.full_like(nodes, z), eps=nodes, t=t, scale=1.0).flatten()
    return (mass * g).sum().item()


@pytest.mark.parametrize(("t", "golden"), [(200, -1.111970), (500, 0.091169), (800, 0.118151)])
def test_two_modes_are_sought_at_low_and_averaged_at_high_timesteps(t: int, golden: float) -> None:
    assert_rounded(lambda: mean_gradient(two_modes(), 0.7, t), golden, off=5e-7)
    # The middle repels while t <= 400 and attracts from 450 on.
    assert (mean_gradient(two_modes(), 0.05, 400) < 0) and (mean_gradient(two_modes(), 0.05, 450) > 0)


def test_mean_gradient_is_the_slope_of_the_smoothed_log_density() -> None:
    """E[g] = d/dz of -(sigma / alpha) E log p_t(alpha z + sigma eps), by finite differences."""
    prior, t, h = two_modes(), 300, 1e-4
    alpha, sigma, _ = toys.levels(prior, t)
    nodes, mass = hermite(120)

    def loss(z: float) -> float:
        x = alpha * z + sigma * nodes.flatten()
        variance = alpha**2 * 0.09 + sigma**2
        exponents = torch.stack([-((x - alpha * m) ** 2) / (2 * variance) for m in (-2.0, 2.0)])
        return (-(sigma / alpha) * (mass * torch.logsumexp(exponents, 0)).sum()).item()

    def slope(h: float) -> float:
        return (loss(0.7 + h) - loss(0.7 - h)) / (2 * h)

    # The error of a central difference grows as h^2, so it is a third of what twice the h adds.
    assert_rounded(lambda: mean_gradient(prior, 0.7, t), slope(h), off=abs(slope(2 * h) - slope(h)))


def test_coefficients_sum_to_zero() -> None:
    prior = gaussian_prior(cond=1.0, uncond=0.2, std=0.7)
    batch = noisy_batch(scalar(0.1), cameras(1), prior, t=torch.tensor([300]), eps=scalar(0.2))
    for scale in (1.0, 7.5, 101.0):
        residual = SDS(SDSConfig(guidance_scale=scale), prompt="x", group=1, steps=1).residual(batch, prior, step=0)
        toys.assert_sums_to_zero(residual.coef)


def test_residual_op_pushes_the_assembled_gradient() -> None:
    prior = AnalyticPrior(lambda prompt, cameras: Gaussian(torch.tensor(0.3), 0.5), image_size=4)
    g = torch.Generator().manual_seed(1)
    x0 = torch.randn(4, 3, 4, 4, generator=g, requires_grad=True)
    batch = noisy_batch(
        x0, cameras(4), prior, t=torch.tensor([100, 400, 700, 900]), eps=torch.randn(x0.shape, generator=g)
    )
    residual = SDS(SDSConfig(guidance_scale=2.0), prompt="x", group=1, steps=1).residual(batch, prior, step=0)
    loss, norms, nonfinite = ops.residual(x0, terms=residual.terms, coef=residual.coef, weight=residual.weight)
    (3.0 * loss).backward()
    expected = assemble(residual)
    assert x0.grad is not None
    # K products, their K - 1 sums, the weight, the mean and what comes from above: each rounds once, as does a norm.
    sizes = replace(residual, coef=residual.coef.abs(), terms=[term.abs() for term in residual.terms])
    allowed = (2 * len(residual.terms) + 2) * UNIT * assemble(sizes)
    assert_within(x0.grad, 3.0 * expected / 4, 3.0 * allowed / 4)
    norm = expected.flatten(1).norm(dim=1)
    assert_within(norms, norm, allowed.flatten(1).norm(dim=1) + (expected[0].numel() + 2) * UNIT * norm)
    assert nonfinite.item() == 0


def test_timesteps_are_shared_by_a_group_and_anneal() -> None:
    prior = gaussian_prior(cond=1.0, uncond=0.2, std=0.7)
    method = make_guidance(TrainConfig(prompt="x", steps=100, sds=SDSConfig(t_max=0.98, t_max_final=0.5)))
    assert isinstance(method, SDS)
    x0 = torch.zeros(8, 1, 1, 1)
    highest = {0: 0, 99: 0}
    for step in highest:
        for seed in range(200):
            t = method.noise(x0, cameras(8), prior, seed=seed, step=step).t
            assert (t[:4] == t[0]).all() and (t[4:] == t[4]).all()
            assert t.min() >= 20
            highest[step] = max(highest[step], int(t.max()))
    assert 900 < highest[0] <= 980
    assert 400 < highest[99] <= 500 + 5


def test_anneal() -> None:
    assert anneal(1.0, 0.0, progress=0.25, over=0.5) == 0.5
    assert anneal(1.0, 0.0, progress=0.9, over=0.5) == 0.0
    assert anneal(1.0, 0.0, progress=0.0, over=0.0) == 0.0
    assert math.isclose(anneal(0.98, 0.5, progress=1.0, over=1.0), 0.5)
    assert anneal(1.0, 0.0, progress=0.25, over=1.0, schedule="sqrt") == 0.5
    assert anneal(1.0, 0.0, progress=0.25, over=1.0, schedule="uniform") == 1.0


def test_ranges_of_timesteps() -> None:
    stays = SDSConfig(schedule="uniform")
    assert timestep_range(stays, progress=0.0) == timestep_range(stays, progress=1.0) == (0.02, 0.98)
    one = SDSConfig(t_min_first=0.98, t_max_final=0.02, schedule="sqrt")  # HiFA: no chance in it
    low, high = timestep_range(one, progress=0.25)
    assert low == high == pytest.approx(0.98 - 0.96 * 0.5)


def test_the_clamp_moves_over_the_run() -> None:
    method = SDS(SDSConfig(clamp=(2.0, 8.0)), prompt="x", group=1, steps=100)
    assert [method.clamp(step) for step in (0, 50, 100)] == [2.0, 5.0, 8.0]
    assert SDS(SDSConfig(), prompt="x", group=1, steps=100).clamp(50) is None
