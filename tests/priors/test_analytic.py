"""The closed-form scores equal -sigma grad log p_t, by autograd and by brute force."""

from __future__ import annotations

import math

import torch

from splatdistill.priors.analytic import AnalyticPrior, Density, Gaussian, beach_ball
from splatdistill.scene.cameras import orbit
from tests.priors.oracles import Equicorrelated, Mixture
from tests.rounding import DOUBLE, UNIT, assert_rounded, assert_same, assert_within


def levels(num_views: int) -> tuple[torch.Tensor, torch.Tensor]:
    ac = torch.linspace(0.9, 0.1, num_views, dtype=torch.float64).view(-1, 1, 1, 1)
    return ac.sqrt(), (1 - ac).sqrt()


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def check_score(
    density: Density,
    log_p: torch.distributions.Distribution,
    x: torch.Tensor,
    levels: tuple[torch.Tensor, torch.Tensor],
    *,
    unit: float = DOUBLE,
) -> None:
    alpha, sigma = levels

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        at = x.clone().requires_grad_()
        (score,) = torch.autograd.grad(log_p.log_prob(at.flatten(1)).sum(), at)
        return density.epsilon(x, alpha, sigma), -sigma * score

    assert_same(both, unit=unit)


def test_gaussian_is_the_score() -> None:
    mean, x = draw(3, 2, 2, 2), draw(3, 2, 2, 2, seed=1)
    alpha, sigma = levels(3)
    density = Gaussian(mean, 0.4)
    std = (alpha**2 * 0.16 + sigma**2).sqrt()
    marginal = torch.distributions.Independent(
        torch.distributions.Normal((alpha * mean).flatten(1), std.flatten(1).expand(3, 8)), 1
    )
    check_score(density, marginal, x, (alpha, sigma))


def test_mixture_is_the_score() -> None:
    means, x = [draw(2, 2, 1, seed=s) for s in (2, 3, 4)], draw(5, 2, 2, 1, seed=1)
    alpha, sigma = levels(5)
    density = Mixture(means, 0.3, [0.2, 0.5, 0.3])
    std = (alpha**2 * 0.09 + sigma**2).sqrt().view(5, 1, 1)
    centres = torch.stack([(alpha * m).flatten(1) for m in means], 1)
    parts = torch.distributions.Independent(torch.distributions.Normal(centres, std.expand_as(centres)), 1)
    weights = torch.distributions.Categorical(torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).expand(5, 3))
    marginal = torch.distributions.MixtureSameFamily(weights, parts)
    check_score(density, marginal, x, (alpha, sigma), unit=UNIT)  # it keeps its weights in fp32


def test_equicorrelated_is_the_joint_score() -> None:
    views, rho, std = 4, 0.7, 0.5
    mean, x = draw(views, 1, 1, 1), draw(views, 1, 1, 1, seed=1)
    ac = torch.full((views, 1, 1, 1), 0.6, dtype=torch.float64)
    alpha, sigma = ac.sqrt(), (1 - ac).sqrt()
    one = torch.eye(views, dtype=torch.float64)
    total = 0.6 * std**2 * ((1 - rho) * one + rho * torch.ones_like(one)) + 0.4 * one

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        expected = sigma.flatten() * torch.linalg.solve(total, (x - alpha * mean).flatten())
        return Equicorrelated(mean, std, rho, views).epsilon(x, alpha, sigma).flatten(), expected

    assert_same(both, unit=DOUBLE)


def test_equicorrelated_without_correlation_is_gaussian() -> None:
    mean, x = draw(8, 2, 2, 2), draw(8, 2, 2, 2, seed=1)
    alpha, sigma = levels(8)
    alpha, sigma = (a[::4].repeat_interleave(4, 0) for a in (alpha, sigma))  # one level per group
    joint, plain = Equicorrelated(mean, 0.4, 0.0, 4), Gaussian(mean, 0.4)
    assert_same(lambda: (joint.epsilon(x, alpha, sigma), plain.epsilon(x, alpha, sigma)), unit=DOUBLE)


def test_beach_ball_turns_with_the_camera_and_takes_the_colour() -> None:
    prior = AnalyticPrior(beach_ball(image_size=32), image_size=32)
    full = torch.ones(3)
    azimuth = torch.tensor([0.0, math.pi / 8, math.pi / 2])
    cameras = orbit(azimuth=azimuth, elevation=0.3 * full, radius=3.2 * full, fovy=0.65 * full, size=64)
    density = prior.embed("a red ball", cameras).density
    assert isinstance(density, Gaussian)
    picture = prior.decode(density.mean)
    assert picture.shape == (3, 32, 32, 3)
    assert picture[:, 0, 0].eq(1).all()
    centre = picture[:, 12:20, 12:20]
    assert (centre[..., 0] > 2 * centre[..., 2]).all()
    assert (picture[0] - picture[1]).abs().max() > 0.05

    def quarter_turns() -> tuple[torch.Tensor, torch.Tensor]:
        density = prior.embed("a red ball", cameras).density
        assert isinstance(density, Gaussian)
        return tuple(prior.decode(density.mean)[[0, 2]])

    assert_same(quarter_turns)  # eight alternating sectors repeat after a quarter turn


def test_encode_decode_are_inverse_at_the_native_size() -> None:
    prior = AnalyticPrior(beach_ball(image_size=16), image_size=16)
    rgb = torch.rand(2, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    assert_rounded(lambda: prior.decode(prior.encode(rgb)), rgb)
    assert prior.encode(torch.rand(2, 40, 40, 3)).shape == (2, 3, 16, 16)
    assert_within(prior.alphas_cumprod[500], torch.tensor(0.27633), 0.5e-5 + UNIT)  # known to five decimals


def test_every_view_may_have_a_prompt_of_its_own() -> None:
    means = {"a": 0.2, "b": -0.7}
    prior = AnalyticPrior(lambda prompt, cameras: Gaussian(torch.tensor(means[prompt]), 0.3), image_size=2)
    xt, t = draw(3, 3, 2, 2).float(), torch.tensor([100, 400, 900])
    mixed, a, b = prior.predict(xt, t, [prior.embed(p, None) for p in (["b", "a", "b"], "a", "b")])
    assert torch.equal(mixed, torch.stack([b[0], a[1], b[2]]))
