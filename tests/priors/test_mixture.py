"""The posterior over a noun's models against the analytic mixture, the linear answer against the Gaussian."""

from __future__ import annotations

import pytest
import torch

from splatdistill.priors.analytic import Gaussian
from splatdistill.priors.mixture import LEAST, MOST, blend, choose, coarse, keep_likely, seed_logits, weights
from splatdistill.priors.refine import Accuracy, Posterior, infer_posterior, linear_answer
from tests.priors.oracles import Mixture
from tests.rounding import assert_rounded

K, VIEWS, SIDE = 5, 4, 8


def setting(seed: int = 0, *, alpha: float = 0.2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    candidates = torch.rand(K, 1, VIEWS, 3, SIDE, SIDE, generator=draw, dtype=torch.float64)
    a = torch.tensor([alpha], dtype=torch.float64)
    sigma = (1 - a**2).sqrt()
    noise = torch.randn(1, VIEWS, 3, SIDE, SIDE, generator=draw, dtype=torch.float64)
    return a * candidates[1] + sigma * noise, candidates, a, sigma


@pytest.mark.parametrize("alpha", [0.01, 0.2, 0.6])
def test_at_temperature_one_the_blend_is_the_score_of_the_mixture(alpha):
    xt, candidates, a, sigma = setting(alpha=alpha)
    prior = torch.rand(K, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def blended() -> torch.Tensor:
        return blend(weights(xt, candidates, alpha=a, sigma=sigma, logits=prior.log()), candidates)[0]

    # The ring as one picture, since the analytic mixture judges each picture by itself; it keeps its weights in fp32.
    whole = [c.flatten(1, 2) for c in candidates]
    exact = Mixture(whole, 0.0, prior.tolist()).epsilon(xt.flatten(1, 2), a.view(1, 1, 1, 1), sigma.view(1, 1, 1, 1))
    assert_rounded(lambda: (xt - a * blended()) / sigma, exact.unflatten(1, (VIEWS, 3)))


def test_a_temperature_takes_the_root_of_the_likelihood_and_leaves_the_prior():
    xt, candidates, a, sigma = setting()
    zeros, bias = torch.zeros(K, dtype=torch.float64), torch.linspace(-1, 1, K, dtype=torch.float64)
    sharp = weights(xt, candidates, alpha=a, sigma=sigma, logits=zeros)
    warm = weights(xt, candidates, alpha=a, sigma=sigma, logits=bias, temperature=16.0)
    expected = sharp ** (1 / 16) * bias.exp()[:, None]
    torch.testing.assert_close(warm, expected / expected.sum(0))


def test_means_over_pixels_are_all_that_tells_coarse_candidates_apart():
    xt, candidates, a, sigma = setting()
    candidates = candidates[..., ::4, ::4].repeat_interleave(4, -1).repeat_interleave(4, -2)
    zeros = torch.zeros(K, dtype=torch.float64)
    full = weights(xt, candidates, alpha=a, sigma=sigma, logits=zeros)
    small = weights(coarse(xt, 4), coarse(candidates, 4), alpha=a, sigma=sigma / 4, logits=zeros)
    torch.testing.assert_close(small, full)


def test_seeds_pick_every_candidate_alike_and_the_same_one_each_time():
    numbers, seeds = [3, 8, 11, 40], 2000
    picked = torch.tensor([int(seed_logits(numbers, seed=s, scale=3).argmax()) for s in range(seeds)])
    counts = torch.bincount(picked, minlength=4).float()
    # Binomial with p = 1/4: five standard deviations of the count.
    assert (counts - seeds / 4).abs().max() < 5 * (seeds * 3 / 16) ** 0.5
    assert torch.equal(seed_logits(numbers, seed=7, scale=3), seed_logits(numbers, seed=7, scale=3))
    assert not seed_logits(numbers, seed=7, scale=0).any()
    assert torch.equal(seed_logits([8], seed=7, scale=3), seed_logits(numbers, seed=7, scale=3)[1:2])


def test_a_run_has_few_candidates_that_its_seed_chooses():
    assert choose([4, 2], seed=0) == [4, 2]
    many = list(range(26))
    some = choose(many, seed=1)
    assert some == choose(many, seed=1) == sorted(set(some)) and len(some) == MOST
    assert {tuple(choose(many, seed=s)) for s in range(5)} != {tuple(some)}


def test_unlikely_candidates_are_left_out_and_the_likeliest_never():
    w = torch.tensor([[0.6, 0.04], [0.37, 0.03], [0.03, 0.02]])
    kept = keep_likely(w, least=LEAST)
    torch.testing.assert_close(kept[:, 0], torch.tensor([0.6, 0.37, 0.0]) / 0.97)
    torch.testing.assert_close(kept[:, 1], torch.tensor([1.0, 0.0, 0.0]))


def test_the_variance_of_a_blend_is_that_between_its_pictures():
    pictures = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1, 1).expand(2, 1, 1, 3, 3)
    mean, variance = blend(torch.tensor([[0.25], [0.75]]), pictures)
    torch.testing.assert_close(mean, torch.full((1, 1, 3, 3), 0.75))
    torch.testing.assert_close(variance, torch.full((1, 1, 3, 3), 0.25 * 0.75))


def test_the_variance_of_a_pixel_is_a_mean_over_its_channels():
    pictures = torch.zeros(2, 1, 2, 4, 3, 3)
    pictures[1, :, 0, 1, 2, 0] = 1
    mean, variance = blend(torch.full((2, 1), 0.5), pictures)
    expected = torch.zeros(1, 2, 1, 3, 3)
    expected[0, 0, 0, 2, 0] = 0.25 / 4
    torch.testing.assert_close(variance, expected)
    assert mean.shape == (1, 2, 4, 3, 3)


@pytest.mark.parametrize("alpha", [0.05, 0.5, 0.99])
def test_the_answer_without_a_network_is_that_of_a_gaussian(alpha):
    draw = torch.Generator().manual_seed(1)
    features, xt = torch.randn(2, 2, 4, 8, 8, generator=draw, dtype=torch.float64)
    a = torch.full((2, 1, 1, 1), alpha, dtype=torch.float64)
    sigma = (1 - a**2).sqrt()
    answer, unit = linear_answer(xt, features, alpha=a, sigma=sigma, spread=0.1**2, between=0.5)
    epsilon = Gaussian(features, 0.1).epsilon(xt, a, sigma)
    torch.testing.assert_close(answer, (xt - sigma * epsilon) / a)
    # Precisions add: 1 / spread^2 of what was known and alpha^2 / sigma^2 of the noisy picture.
    torch.testing.assert_close(unit**2, 0.5 + 1 / (1 / 0.1**2 + a**2 / sigma**2))


@pytest.mark.parametrize("alpha", [0.2, 0.9, 0.999])
def test_with_a_floor_the_answer_is_that_of_a_mixture_of_gaussians(alpha):
    """Whose spread is the floor: at low noise no difference below it decides."""
    xt, candidates, a, sigma = setting(alpha=alpha)
    floor = 0.3
    column = {"alpha": a.view(1, 1, 1, 1), "sigma": sigma.view(1, 1, 1, 1)}

    def answered() -> torch.Tensor:
        w = weights(xt, candidates, alpha=a, sigma=sigma, logits=torch.zeros(K, dtype=torch.float64), floor=floor)
        mean, _ = blend(w, candidates)
        answer, _ = linear_answer(xt.flatten(1, 2), mean.flatten(1, 2), **column, spread=floor**2)
        return (xt.flatten(1, 2) - a * answer) / sigma

    exact = Mixture([c.flatten(1, 2) for c in candidates], floor, [1.0] * K).epsilon(
        xt.flatten(1, 2), column["alpha"], column["sigma"]
    )
    assert_rounded(answered, exact)  # which keeps its weights in fp32


def test_each_pixel_has_a_spread_of_its_own():
    draw = torch.Generator().manual_seed(1)
    features, xt = torch.randn(2, 2, 4, 8, 8, generator=draw, dtype=torch.float64)
    spread = torch.rand(2, 1, 8, 8, generator=draw, dtype=torch.float64)
    a = torch.full((2, 1, 1, 1), 0.6, dtype=torch.float64)
    answer, unit = linear_answer(xt, features, alpha=a, sigma=(1 - a**2).sqrt(), spread=spread, between=0.1)
    assert unit.shape == (2, 1, 8, 8)
    for y, x in ((0, 0), (3, 5)):
        one, its = linear_answer(
            xt[1:, :, y, x, None, None], features[1:, :, y, x, None, None], alpha=a[1:], sigma=(1 - a[1:] ** 2).sqrt(),
            spread=float(spread[1, 0, y, x]), between=0.1,
        )  # fmt: skip
        torch.testing.assert_close(answer[1:, :, y, x, None, None], one)
        torch.testing.assert_close(unit[1:, :, y, x, None, None], its)


def test_the_expected_error_is_largest_at_edges_and_plain_where_nothing_is():
    accuracy = Accuracy(plain=0.01, inside=0.02, edge=0.5, coarse=0.1)
    picture = torch.ones(4, 8, 8)
    picture[3] = -1
    picture[:, :, 4:] = torch.tensor([-1.0, -1.0, -1.0, 1.0])[:, None, None]
    variance = accuracy.variance(picture[None])[0, 0]
    torch.testing.assert_close(variance[:, :3], torch.full((8, 3), 0.01))
    torch.testing.assert_close(variance[:, 5:], torch.full((8, 3), 0.03))
    # A third or two thirds of the nine pixels are on the other side of a step of 2: variance 4 * 2/9 in all channels.
    torch.testing.assert_close(variance[:, 3:5], torch.tensor([[0.01, 0.03]]).expand(8, 2) + 0.5 * 8 / 9)


def test_candidates_say_together_what_each_of_them_says_alone():
    draw = torch.Generator().manual_seed(0)
    known = torch.rand(2, VIEWS, 4, 32, 32, generator=draw) * 2 - 1
    accuracy = Accuracy(plain=0.01, inside=0.02, edge=0.5, coarse=0.1)
    noised = {"alpha": torch.tensor([0.5]), "sigma": torch.tensor([0.75**0.5]), "temperature": 1.0}
    xt = 0.5 * known[0] + 0.75**0.5 * torch.randn(known[0].shape, generator=draw)
    sure = infer_posterior(xt[None], known, accuracy=accuracy, logits=torch.zeros(2), **noised)
    assert sure.weight[0, 0] > 0.99
    torch.testing.assert_close(sure.features[0], known[0])
    torch.testing.assert_close(sure.spread[0], accuracy.variance(known[0]))
    assert sure.between.abs().max() == 0

    def unsure() -> Posterior:
        return infer_posterior(
            xt[None], known, accuracy=accuracy, logits=torch.zeros(2), **{**noised, "temperature": torch.inf}
        )

    assert_rounded(lambda: unsure().features[0], known.double().mean(0))
    assert_rounded(lambda: unsure().between[0], (known[0] - known[1]).double().square().mean(1, keepdim=True) / 4)
