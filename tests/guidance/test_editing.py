"""DDS and SSD against Gaussian closed forms: what is common cancels, a known object gets the prompts' difference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from splatdistill.guidance.base import Guidance, source_of
from splatdistill.guidance.methods.dds import DDS, DDSConfig
from splatdistill.guidance.methods.ssd import SSD, SSDConfig
from splatdistill.priors.analytic import AnalyticPrior
from tests.guidance.toys import Counting, assemble, assert_sums_to_zero, batch_at, draw, gaussian, levels, prompt_prior
from tests.rounding import assert_rounded

TIMES = [50, 300, 600, 950]


def dds(**settings) -> DDS:
    return DDS(DDSConfig(**{"source_prompt": "old", **settings}), prompt="x", group=1, steps=100)


def ssd(**settings) -> SSD:
    return SSD(SSDConfig(**{"source_prompt": "old", **settings}), prompt="x", group=1, steps=100)


def gradient(method: Guidance, prior: AnalyticPrior, *, z: Tensor, source: Tensor, eps: Tensor, t: list[int]) -> Tensor:
    batch = replace(batch_at(prior, z=z, eps=eps, t=t), source=source)
    return assemble(method.residual(batch, prior, step=0))


def score(prior: AnalyticPrior, x: Tensor, t: list[int], mean: float, std: float) -> Tensor:
    """The exact noise prediction of N(mean, std^2), written out anew."""
    ac = prior.alphas_cumprod.double()[t].view(-1, 1, 1, 1)
    return (1 - ac).sqrt() * (x - ac.sqrt() * mean) / (ac * std**2 + 1 - ac)


def three() -> AnalyticPrior:
    return prompt_prior(x=gaussian(1.3, 0.7), old=gaussian(-0.6, 0.5), empty=gaussian(0.2, 0.9))


@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_dds_is_the_difference_of_two_guided_scores_under_one_noise(scale: float) -> None:
    prior, (z, source, eps) = three(), (draw(4, 3, 2, 2, seed=n) for n in range(3))
    ac = prior.alphas_cumprod.double()[TIMES].view(-1, 1, 1, 1)
    here, there = (ac.sqrt() * x + (1 - ac).sqrt() * eps for x in (z, source))

    def guided(x: Tensor, mean: float, std: float) -> Tensor:
        return scale * score(prior, x, TIMES, mean, std) + (1 - scale) * score(prior, x, TIMES, 0.2, 0.9)

    expected = guided(here, 1.3, 0.7) - guided(there, -0.6, 0.5)
    method = dds(guidance_scale=scale)
    assert_rounded(lambda: gradient(method, prior, z=z, source=source, eps=eps, t=TIMES), expected)


def test_what_a_known_object_is_led_to_is_its_beginning_and_the_difference_of_the_prompts() -> None:
    """With data at one point for each prompt nothing of the noise is left, and nothing of what the prior gets wrong."""
    prior = prompt_prior(x=gaussian(0.8, 0.0), old=gaussian(0.1, 0.0), empty=gaussian(0.0, 0.5))
    source, eps = draw(4, 3, 2, 2), draw(4, 3, 2, 2, seed=1)
    end = source + 0.7
    method = dds(guidance_scale=1.0)
    assert_rounded(lambda: gradient(method, prior, z=end, source=source, eps=eps, t=TIMES), 0.0)
    ac = prior.alphas_cumprod.double()[TIMES].view(-1, 1, 1, 1)
    away = draw(4, 3, 2, 2, seed=2)
    assert_rounded(
        lambda: gradient(method, prior, z=end + away, source=source, eps=eps, t=TIMES), (ac / (1 - ac)).sqrt() * away
    )


def test_equal_words_and_an_unchanged_object_push_nothing() -> None:
    prior, z, eps = three(), draw(4, 3, 2, 2), draw(4, 3, 2, 2, seed=1)
    assert_rounded(lambda: gradient(dds(source_prompt="x"), prior, z=z, source=z, eps=eps, t=TIMES), 0.0)


def test_ssd_is_its_row() -> None:
    prior, (z, source, eps) = three(), (draw(4, 3, 2, 2, seed=n) for n in range(3))
    ac = prior.alphas_cumprod.double()[TIMES].view(-1, 1, 1, 1)
    here, there = (ac.sqrt() * x + (1 - ac).sqrt() * eps for x in (z, source))
    expected = 9.25 * score(prior, here, TIMES, 1.3, 0.7) - 2.75 * score(prior, here, TIMES, -0.6, 0.5)
    expected = expected - 5.5 * score(prior, here, TIMES, 0.2, 0.9) - 1.0 * score(prior, there, TIMES, 0.2, 0.9)
    pull = 0.075 * (torch.tensor(TIMES).double() / 1000).exp().view(-1, 1, 1, 1) * ac.sqrt()
    assert_rounded(lambda: gradient(ssd(), prior, z=z, source=source, eps=eps, t=TIMES), expected + pull * (z - source))


def test_costs_and_sums() -> None:
    prior = three()
    batch = replace(batch_at(prior, z=draw(2, 1, 1, 1), eps=draw(2, 1, 1, 1, seed=1), t=300), source=draw(2, 1, 1, 1))
    counting = Counting(prior)
    for method, calls in ((dds(), [4, 4]), (dds(guidance_scale=1.0), [2, 2]), (ssd(), [6, 2])):
        counting.calls.clear()
        assert_sums_to_zero(method.residual(batch, prior, step=0).coef)
        assert counting.calls == calls
        assert sum(calls) <= len(batch.t) * method.evaluations


def test_the_source_has_the_noise_and_the_timesteps_of_the_object() -> None:
    prior, eps, source = three(), draw(3, 1, 2, 2), draw(3, 1, 2, 2, seed=1)
    batch = replace(batch_at(prior, z=draw(3, 1, 2, 2, seed=2), eps=eps, t=[20, 400, 900]), source=source)
    alpha, sigma = (torch.stack([levels(prior, t)[k] for t in (20, 400, 900)]).view(-1, 1, 1, 1) for k in (0, 1))
    assert_rounded(lambda: source_of(batch).xt, alpha * source + sigma * eps)
