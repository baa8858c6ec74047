"""Sampling and fitting: views against the closed form of DDIM on Gaussians, and when and where they are drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from splatdistill.config.schema import LightConfig, TrainConfig
from splatdistill.config.validation import validate
from splatdistill.guidance.methods.sample_fit import SampleFit, SampleFitConfig
from splatdistill.priors.analytic import AnalyticPrior
from splatdistill.priors.sampling import FIRST
from splatdistill.utils import rng
from tests.guidance.toys import Counting, assemble, cameras, draw, gaussian, levels, prompt_prior
from tests.rounding import UNIT, assert_within

MEAN, ANY, STD, SCALE = 0.3, -0.2, 0.25, 3.0
HALF = 2.0**-11  # of a value: what half precision rounds off


def teacher() -> AnalyticPrior:
    prior = prompt_prior(x=gaussian(MEAN, STD), empty=gaussian(ANY, STD))
    prior.sees_alpha = True  # type: ignore[misc]
    return prior


def method(**settings: Any) -> SampleFit:
    config = SampleFitConfig(**{"guidance_scale": SCALE, "rounds": 3, "ddim_steps": 4, **settings})
    return SampleFit(config, prompt="x", group=2, steps=12, seed=5)


def residual(fit: SampleFit, prior: AnalyticPrior, x0: Tensor, *, step: int) -> Tensor:
    batch = fit.noise(x0, cameras(len(x0)), prior, seed=5, step=step)
    return assemble(fit.residual(batch, prior, step=step))


def times(fit: SampleFit) -> list[int]:
    return (999 * torch.linspace(FIRST, fit.config.t_last, fit.config.ddim_steps)).round().long().tolist()


@pytest.mark.parametrize("step", [0, 4])
@pytest.mark.parametrize("t_last", [0.02, 0.6])
def test_the_gradient_is_the_render_less_the_view_that_ddim_draws(step: int, t_last: float) -> None:
    """For Gaussians eps is S (y - mean) / (STD^2 + S^2) at y = x_t / alpha, and DDIM adds eps times the change of S."""
    prior, fit, x0 = teacher(), method(t_last=t_last), draw(2, 4, 3, 3)
    found = residual(fit, prior, x0, step=step)
    at = [levels(prior, t) for t in times(fit)]
    noise = torch.randn(2, 4, 3, 3, generator=rng.generator(5, fit.camera_step(step), "noise")).double()
    y, view = noise / at[0][0], noise
    for (_, _, ratio), (_, _, lower) in zip(at, [*at[1:], levels(prior, 0)], strict=True):
        means = ((SCALE, MEAN), (1 - SCALE, ANY))
        eps = sum(share * ratio * (y - mean) / (STD**2 + ratio**2) for share, mean in means)
        view, y = y - ratio * eps, y + (lower - ratio) * eps
    # The path is float32, whose errors alpha at the first timestep enlarges; the view is kept in half precision.
    path = 64 * UNIT * (noise.abs() + view.abs()) / at[0][0]
    assert_within(found, x0 - view, HALF * view.abs() + path)
    assert found.abs().amin() < 100 * found.abs().amax() and view.std() > HALF


def test_each_view_is_drawn_once_and_every_turn_has_its_own_order() -> None:
    prior, fit, x0 = teacher(), method(), draw(2, 4, 3, 3)
    counting = Counting(prior)
    for step in range(12):
        residual(fit, prior, x0, step=step)
    assert counting.calls == [4] * 3 * 4  # two views and scores; three rounds of four steps
    turns = [[fit.camera_step(3 * turn + place) for place in range(3)] for turn in range(4)]
    assert all(sorted(turn) == [0, 1, 2] for turn in turns) and len({*map(tuple, turns)}) > 1


def test_without_guidance_the_empty_prompt_is_not_asked() -> None:
    prior = teacher()
    counting = Counting(prior)
    residual(method(guidance_scale=1.0), prior, draw(2, 4, 3, 3), step=0)
    assert counting.calls == [2] * 4


def test_a_run_that_goes_on_has_the_views_that_it_had() -> None:
    prior, fit, x0 = teacher(), method(), draw(2, 4, 3, 3)
    before = residual(fit, prior, x0, step=0)
    counting = Counting(prior)
    again, anew = method(), method()
    again.load_state_dict(fit.state_dict())
    assert torch.equal(residual(again, prior, x0, step=0), before) and not counting.calls
    assert torch.equal(residual(anew, prior, x0, step=0), before) and counting.calls


def test_views_of_another_size_are_drawn_anew() -> None:
    prior, fit = teacher(), method()
    residual(fit, prior, draw(2, 4, 3, 3), step=0)
    assert residual(fit, prior, draw(2, 4, 5, 5), step=0).shape == (2, 4, 5, 5)


def test_a_prior_without_alpha_is_refused() -> None:
    fit = method()
    with pytest.raises(ValueError, match=r"method: sample_fit fits .* with alpha, and the prior analytic draws none"):
        fit.bind(prompt_prior(x=gaussian(MEAN, STD)))
    fit.bind(teacher())


def test_settings_that_views_cannot_follow_are_refused() -> None:
    good = TrainConfig(prompt="a car", method="sample_fit")
    validate(good)
    with pytest.raises(ValueError, match=r"prior_mixture: by sample_fit views would show several models at once"):
        validate(replace(good, prior_mixture=True))
    with pytest.raises(ValueError, match=r"light\.start must be 1 with sample_fit"):
        validate(replace(good, light=LightConfig(start=0.5)))
    with pytest.raises(ValueError, match=r"sample_fit\.weight must be one: nothing is noised, and sigma2 weighs noise"):
        validate(replace(good, sample_fit=SampleFitConfig(weight="sigma2")))
