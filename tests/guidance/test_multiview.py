"""Multi-view scoring: SDS when views do not interact, disagreement falls first when they do, and MVDream's rescale."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from splatdistill.guidance.methods.multiview import MultiView, MultiViewConfig
from splatdistill.guidance.methods.sds import SDS, SDSConfig
from splatdistill.guidance.schedules import timestep_range
from splatdistill.priors.analytic import AnalyticPrior
from tests.guidance.toys import (
    Counting,
    batch_at,
    cameras,
    draw,
    gaussian,
    gradient,
    hermite,
    levels,
    prompt_prior,
)
from tests.priors.oracles import Equicorrelated
from tests.rounding import assert_rounded


def mv(group: int = 4, **settings) -> MultiView:
    return MultiView(MultiViewConfig(**settings), prompt="x", group=group, steps=10)


def sds(**settings) -> SDS:
    return SDS(SDSConfig(**settings), prompt="x", group=1, steps=10)


@pytest.fixture
def prior() -> AnalyticPrior:
    return prompt_prior(x=gaussian(draw(3, 2, 2), 0.4), empty=gaussian(draw(3, 2, 2, seed=1), 0.9))


def test_without_rescale_it_is_sds_bit_for_bit(prior: AnalyticPrior) -> None:
    z, eps = draw(4, 3, 2, 2, seed=2), draw(4, 3, 2, 2, seed=3)
    for group in (1, 4):
        a = gradient(mv(group, rescale=0.0, guidance_scale=5.0), prior, z=z, eps=eps, t=[50, 300, 600, 950])
        b = gradient(sds(guidance_scale=5.0, weight="sigma_over_alpha"), prior, z=z, eps=eps, t=[50, 300, 600, 950])
        assert torch.equal(a, b)


def test_views_that_are_independent_are_scored_as_alone() -> None:
    z, eps = draw(4, 1, 2, 2), draw(4, 1, 2, 2, seed=1)
    joint = prompt_prior(
        x=Equicorrelated(draw(1, 2, 2, seed=2), 0.5, 0.0, 4), empty=Equicorrelated(draw(1, 2, 2, seed=3), 0.5, 0.0, 4)
    )
    single = prompt_prior(x=gaussian(draw(1, 2, 2, seed=2), 0.5), empty=gaussian(draw(1, 2, 2, seed=3), 0.5))

    def apart() -> Tensor:
        alone = gradient(mv(1, rescale=0.0), single, z=z, eps=eps, t=400)
        return gradient(mv(rescale=0.0), joint, z=z, eps=eps, t=400) - alone

    assert_rounded(apart, 0.0)


@pytest.mark.parametrize("t", [100, 500])
def test_disagreement_falls_faster_than_the_common_error(t: int) -> None:
    """Correlated views: mean and differences decay at their own closed-form rates; the noise has mean zero."""
    rho, std, views = 0.8, 0.7, 4
    density = Equicorrelated(torch.zeros(1, 1, 1, dtype=torch.float64), std, rho, views)
    prior = prompt_prior(x=density, empty=density)
    alpha, sigma, _ = levels(prior, t)
    z = draw(views, 1, 1, 1)
    method = mv(guidance_scale=1.0, rescale=0.0, weight="one")
    mean, rest = z.mean(), z - z.mean()
    common = sigma * alpha / (alpha**2 * std**2 * (1 + (views - 1) * rho) + sigma**2)
    differing = sigma * alpha / (alpha**2 * std**2 * (1 - rho) + sigma**2)
    expected = common * mean + differing * rest
    assert_rounded(lambda: gradient(method, prior, z=z, eps=torch.zeros_like(z), t=t), expected)
    assert differing > common


def test_permuting_views_permutes_the_gradient() -> None:
    density = Equicorrelated(draw(1, 2, 2), 0.5, 0.6, 4)
    wide = Equicorrelated(draw(1, 2, 2, seed=1), 0.9, 0.3, 4)
    prior = prompt_prior(x=density, empty=wide)
    z, eps, order = draw(4, 1, 2, 2, seed=2), draw(4, 1, 2, 2, seed=3), torch.tensor([2, 0, 3, 1])

    def push(z: Tensor, eps: Tensor) -> Tensor:
        return gradient(mv(), prior, z=z, eps=eps, t=400)

    assert_rounded(lambda: push(z[order], eps[order]) - push(z, eps)[order], 0.0)
    changed = z.clone()
    changed[2] += 1.0
    assert (push(changed, eps)[0] - push(z, eps)[0]).abs().max() > 1e-3  # views see each other


def test_rescale_is_mvdreams_reconstruction_loss(prior: AnalyticPrior) -> None:
    """z - x0', x0' = x0_cfg (phi std(x0_c) / std(x0_cfg) + 1 - phi), the deviations over all views of the group."""
    scale, phi, t = 6.0, 0.5, 400
    z = draw(4, 3, 2, 2, seed=2) * torch.tensor([0.1, 0.5, 2.0, 4.0]).view(4, 1, 1, 1)
    batch = batch_at(prior, z=z, eps=draw(4, 3, 2, 2, seed=3), t=t)
    eps_c, eps_u = prior.predict(batch.xt, batch.t, [prior.embed("x", cameras(4)), prior.embed("", cameras(4))])
    alpha, sigma, _ = levels(prior, t)
    conditional, guided = ((batch.xt - sigma * e) / alpha for e in (eps_c, eps_u + scale * (eps_c - eps_u)))
    factor = phi * conditional.std(correction=0) / guided.std(correction=0) + 1 - phi

    def push(group: int) -> Tensor:
        return gradient(mv(group, guidance_scale=scale, rescale=phi), prior, z=z, eps=batch.eps, t=t)

    assert_rounded(lambda: push(4), z - factor * guided)
    assert (push(1) - push(4)).abs().max() > 0.01


def test_rescale_has_no_effect_without_guidance() -> None:
    same = prompt_prior(x=gaussian(0.3, 0.4), empty=gaussian(0.3, 0.4))
    z, eps = draw(4, 3, 2, 2), draw(4, 3, 2, 2, seed=1)

    def push(phi: float) -> Tensor:
        return gradient(mv(rescale=phi), same, z=z, eps=eps, t=400)

    assert_rounded(lambda: push(1.0) - push(0.0), 0.0)


def test_range_of_timesteps_has_two_moving_ends() -> None:
    config = MultiViewConfig()
    published = {0.0: (0.98, 0.98), 0.2: (0.74, 0.86), 0.4: (0.5, 0.74), 0.8: (0.02, 0.5), 1.0: (0.02, 0.5)}
    for progress, expected in published.items():
        assert timestep_range(config, progress=progress) == pytest.approx(expected)
    batch = mv().noise(torch.zeros(8, 1, 1, 1), cameras(8), prompt_prior(), seed=0, step=5)
    assert batch.t[:4].unique().numel() == batch.t[4:].unique().numel() == 1
    assert not torch.equal(batch.eps[0], batch.eps[1])


def test_two_scores_in_one_call(prior: AnalyticPrior) -> None:
    counting = Counting(prior)
    for phi in (0.0, 0.5):
        gradient(mv(rescale=phi), prior, z=draw(4, 3, 2, 2), eps=draw(4, 3, 2, 2, seed=1), t=400)
    assert counting.calls == [8, 8]


def test_a_prior_without_cameras_is_refused(prior: AnalyticPrior) -> None:
    prior.knows_cameras = False
    with pytest.raises(ValueError, match="multiview needs a prior with a camera token"):
        mv().bind(prior)


def test_mean_gradient_over_the_noise_is_that_of_sds(prior: AnalyticPrior) -> None:
    nodes, mass = hermite(20)
    one = prompt_prior(x=gaussian(0.5, 0.4), empty=gaussian(0.1, 0.4))
    z = torch.full_like(nodes, 0.2)
    methods = mv(1, rescale=0.0, guidance_scale=3.0), sds(guidance_scale=3.0, weight="sigma_over_alpha")

    def apart() -> Tensor:
        a, b = ((mass * gradient(m, one, z=z, eps=nodes, t=300).flatten()).sum() for m in methods)
        return a - b

    assert_rounded(apart, 0.0)
