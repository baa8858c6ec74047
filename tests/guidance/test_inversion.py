"""ISM, SDI and RFDS-Rev against Gaussian closed forms, written as the ratio S = sigma / alpha has them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from splatdistill.guidance.base import moved, total
from splatdistill.guidance.methods.ism import ISM, ISMConfig
from splatdistill.guidance.methods.rfds import RFDSConfig, RFDSRev
from splatdistill.guidance.methods.sdi import SDI, SDIConfig
from splatdistill.priors.analytic import AnalyticPrior
from tests.guidance.toys import (
    Counting,
    assert_sums_to_zero,
    batch_at,
    cameras,
    draw,
    gaussian,
    gradient,
    hermite,
    levels,
    prompt_prior,
    scalar,
)
from tests.rounding import assert_rounded

MEAN, ANY, STD = 1.3, 0.2, 0.7


def prior_of_two() -> AnalyticPrior:
    return prompt_prior(x=gaussian(MEAN, STD), empty=gaussian(ANY, STD))


def eps_of(y: Tensor, ratio: Tensor, mean: float) -> Tensor:
    """The exact noise prediction at y = x_t / alpha."""
    return ratio * (y - mean) / (STD**2 + ratio**2)


def ratio(prior: AnalyticPrior, t: int) -> Tensor:
    return levels(prior, t)[2]


def ism(**settings) -> ISM:
    return ISM(ISMConfig(weight="one", **settings), prompt="x", group=1, steps=10)


def test_a_move_along_the_exact_score_of_a_gaussian_is_the_closed_form_of_an_euler_step() -> None:
    prior = prior_of_two()
    batch = batch_at(prior, z=draw(4, 1, 2, 2), eps=draw(4, 1, 2, 2, seed=1), t=300)
    alpha, _, before = levels(prior, 300)
    after_alpha, _, after = levels(prior, 340)
    y = batch.xt / alpha
    eps = eps_of(y, before, ANY)
    there = moved(batch, prior, eps=eps, t=batch.t + 40)
    assert_rounded(lambda: moved(batch, prior, eps=eps, t=batch.t + 40).xt, after_alpha * (y + (after - before) * eps))
    assert torch.equal(there.t, batch.t + 40) and there.x0 is batch.x0


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("t", [120, 300, 700])
def test_ism_is_the_closed_form(steps: int, t: int) -> None:
    prior, z, eps = prior_of_two(), draw(4, 1, 2, 2), draw(4, 1, 2, 2, seed=1)
    lower = t - 50
    S, T, first = ratio(prior, lower), ratio(prior, t), ratio(prior, 0)
    y, at = z + first * eps, first
    for number in range(1, steps + 1):
        to = ratio(prior, lower * number // steps)
        y, at = y + (to - at) * eps_of(y, at, ANY), to
    e = y - ANY
    upper = y + (T - S) * eps_of(y, S, ANY)
    interval = e * STD**2 * (T - S) / ((STD**2 + S**2) * (STD**2 + T**2))
    expected = interval + 7.5 * (eps_of(upper, T, MEAN) - eps_of(upper, T, ANY))
    assert_rounded(lambda: gradient(ism(inversion_steps=steps), prior, z=z, eps=eps, t=t), expected)


def test_ism_without_an_interval_is_csd() -> None:
    prior, z, eps, t = prior_of_two(), draw(4, 1, 2, 2), draw(4, 1, 2, 2, seed=1), 300
    y = z + ratio(prior, 0) * eps
    y = y + (ratio(prior, t) - ratio(prior, 0)) * eps_of(y, ratio(prior, 0), ANY)
    expected = 7.5 * (eps_of(y, ratio(prior, t), MEAN) - eps_of(y, ratio(prior, t), ANY))
    assert_rounded(lambda: gradient(ism(interval=0.0), prior, z=z, eps=eps, t=t), expected)


def test_ism_costs_what_it_says() -> None:
    prior = prior_of_two()
    counting = Counting(prior)
    batch = batch_at(prior, z=draw(3, 1, 1, 1), eps=draw(3, 1, 1, 1, seed=1), t=300)
    for steps, calls in ((1, [3, 3, 6]), (2, [3, 3, 3, 6])):
        counting.calls.clear()
        assert_sums_to_zero(ism(inversion_steps=steps).residual(batch, prior, step=0).coef)
        assert counting.calls == calls
    assert ISM.evaluations == 4


def sdi(**settings) -> SDI:
    return SDI(SDIConfig(**settings), prompt="x", group=1, steps=100)


def test_sdi_is_the_closed_form_of_its_own_steps() -> None:
    """At step 0 the timestep is 980: ten steps up with guidance -7.5, then z - x_0' = S (eps_cfg - kappa)."""
    prior, z = prior_of_two(), draw(4, 1, 2, 2)
    y, at = z, ratio(prior, 0)
    for number in range(1, 11):
        to = ratio(prior, 98 * number)
        eps = -7.5 * eps_of(y, at, MEAN) + 8.5 * eps_of(y, at, ANY)
        y, at = y + (to - at) * eps, to
    guided = 7.5 * eps_of(y, at, MEAN) - 6.5 * eps_of(y, at, ANY)
    expected = min(13.0, float(at)) * (guided - (y - z) / at)
    assert_rounded(lambda: gradient(sdi(), prior, z=z, eps=0 * z, t=980), expected)


def test_fine_sdi_with_one_prompt_is_the_limit_of_its_inversion() -> None:
    """d (1 - s / sqrt(s^2 + S^2)) for exact inversion; ten Euler steps are off by what twenty halve, so by that."""
    same = prompt_prior(x=gaussian(MEAN, STD), empty=gaussian(MEAN, STD))
    method = sdi(inversion_scale=1.0, guidance_scale=1.0)
    z, S = scalar(-0.4), ratio(same, 980)
    exact = (z - MEAN) * (1 - STD / (STD**2 + S**2).sqrt())

    def steps(count: int) -> Tensor:
        y, at = z, ratio(same, 0)
        for number in range(1, count + 1):
            to = ratio(same, 980 * number // count)
            y, at = y + (to - at) * eps_of(y, at, MEAN), to
        return z - (y - at * eps_of(y, at, MEAN))

    got = gradient(method, same, z=z, eps=0 * z, t=980) * S / min(13.0, float(S))
    first, second = (steps(10) - exact).abs(), (steps(20) - exact).abs()
    assert second < 0.6 * first  # first order in the step: half of it, and a tenth for what comes after
    assert (got - exact).abs() < 1.01 * first


@pytest.mark.parametrize(("step", "t"), [(0, 980), (50, 615), (100, 250)])
def test_sdi_falls_alone_and_costs_the_more_the_higher_it_is(step: int, t: int) -> None:
    prior, method = prior_of_two(), sdi()
    counting = Counting(prior)
    batch = method.noise(draw(2, 1, 1, 1), cameras(2), prior, seed=0, step=step)
    assert set(batch.t.tolist()) <= {t - 1, t}  # a product of fractions may round down
    method.residual(batch, prior, step=step)
    assert sum(counting.calls) == 2 * (2 * math.ceil(int(batch.t[0]) / 100) + 2)
    assert step or sum(counting.calls) == 2 * SDI.evaluations


def rfds(**settings) -> RFDSRev:
    return RFDSRev(RFDSConfig(**settings), prompt="x", group=1, steps=10)


@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_rfds_is_the_closed_form(scale: float) -> None:
    prior, z, eps, t = prior_of_two(), draw(4, 1, 2, 2), draw(4, 1, 2, 2, seed=1), 400
    S = ratio(prior, t)
    found = eps_of(z + S * eps, S, MEAN)
    y = z + S * found
    expected = (1 + S) * (scale * eps_of(y, S, MEAN) + (1 - scale) * eps_of(y, S, ANY) - found)
    assert_rounded(lambda: gradient(rfds(guidance_scale=scale), prior, z=z, eps=eps, t=t), expected)


def test_the_noise_that_is_found_leaves_less_chance_in_the_gradient() -> None:
    """Of a Gaussian the spread of SDS is alpha^2 s^2 / c over the noise; finding it multiplies by sigma^2 / c again."""
    prior, t = prompt_prior(x=gaussian(MEAN, STD), empty=gaussian(MEAN, STD)), 400
    alpha, sigma, S = levels(prior, t)
    nodes, mass = hermite(20)
    c = alpha**2 * STD**2 + sigma**2

    def spread() -> Tensor:
        g = gradient(rfds(guidance_scale=1.0), prior, z=torch.full_like(nodes, -0.4), eps=nodes, t=t).flatten()
        return (mass * (g - (mass * g).sum()) ** 2).sum().sqrt() / (1 + S)

    assert_rounded(spread, alpha**2 * STD**2 / c * sigma**2 / c)


def test_rfds_costs_three() -> None:
    prior = prior_of_two()
    counting = Counting(prior)
    batch = batch_at(prior, z=draw(3, 1, 1, 1), eps=draw(3, 1, 1, 1, seed=1), t=300)
    assert_sums_to_zero(rfds().residual(batch, prior, step=0).coef)
    assert counting.calls == [3, 6] and RFDSRev.evaluations == 3
    assert total([(2.0, scalar(1.0))]).item() == 2.0
