"""The four parts of a step, called one by one as in a notebook, are what the trainer does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from splatdistill.training.run_log import NoLog
from splatdistill.training.step import apply, draw, render, score
from splatdistill.training.trainer import Trainer
from tests.training.test_trainer import SMALL, linear_prior

CPU = torch.device("cpu")
LIT = replace(SMALL, light=replace(SMALL.light, start=0.0, albedo=0.0, textureless=0.0))


@pytest.mark.parametrize("config", [SMALL, LIT], ids=["plain", "lit"])
def test_draw_render_score_apply_is_a_step_of_the_trainer(config) -> None:
    whole, parts = (Trainer(config, prior=linear_prior(), device=CPU) for _ in range(2))
    whole.advance(NoLog())

    drawn = draw(parts.sampling, seed=config.seed, step=0, device=CPU)
    (model,) = parts.particles
    before = model.splats.means.detach().clone()
    rendered = render(model.splats, drawn, renderer=parts.renderer)
    assert rendered.image.shape == (config.num_views, config.size, config.size, 3)
    assert (rendered.image is rendered.output.rgb) == (drawn.lights is None)
    scored = score(
        [rendered.image], drawn.cameras, guidance=parts.guidance, prior=parts.prior, seed=config.seed, step=0
    )
    assert scored.gradient.shape == rendered.image.shape and scored.norms.shape == (config.num_views,)
    assert torch.equal(model.splats.means, before)  # nothing has moved yet
    verdict, changes = apply([model], [rendered], scored, step=0)

    assert not verdict.skip and changes == [None]
    assert not torch.equal(model.splats.means, before)
    for name, value in whole.splats.tensors.items():
        assert torch.equal(value, model.splats.tensors[name]), name


def test_what_is_drawn_depends_on_seed_and_step_alone() -> None:
    sampling = Trainer(SMALL, prior=linear_prior(), device=CPU).sampling
    first, again, other = (draw(sampling, seed=3, step=step, device=CPU) for step in (5, 5, 6))
    assert torch.equal(first.cameras.viewmats, again.cameras.viewmats)
    assert torch.equal(first.background, again.background)
    assert not torch.equal(first.cameras.viewmats, other.cameras.viewmats)
    white = draw(sampling, seed=3, step=5, device=CPU, on_white=True)
    assert torch.equal(white.background, torch.ones_like(first.background))
    assert torch.equal(white.cameras.viewmats, first.cameras.viewmats)


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    trainer = Trainer(SMALL, prior=linear_prior(), device=CPU)
    drawn = draw(trainer.sampling, seed=0, step=0, device=CPU)
    (model,) = trainer.particles
    before = {name: x.detach().clone() for name, x in model.splats.tensors.items()}
    rendered = render(model.splats, drawn, renderer=trainer.renderer)
    scored = score([rendered.image], drawn.cameras, guidance=trainer.guidance, prior=trainer.prior, seed=0, step=0)
    scored.gradient[0, 16, 16, 0] = torch.nan  # where the ball is
    verdict, _ = apply([model], [rendered], scored, step=0)
    assert verdict.skip
    assert all(torch.equal(x, before[name]) for name, x in model.splats.tensors.items())
