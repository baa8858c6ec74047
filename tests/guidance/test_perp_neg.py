"""Perp-Neg and guidance rescale: what they leave alone, what they remove, and views that do not mix."""

from __future__ import annotations

import math

import pytest
import torch

from splatdistill.guidance.base import deviations, total
from splatdistill.guidance.methods.sds import SDS, SDSConfig, rescaled
from splatdistill.guidance.perp_neg import perp_neg_coefficients, view_shares, view_weights
from splatdistill.priors.analytic import AnalyticPrior
from splatdistill.priors.prompts import SIDES
from splatdistill.scene.types import Cameras
from tests.guidance.toys import (
    Counting,
    assemble,
    assert_sums_to_zero,
    batch_at,
    cameras,
    draw,
    gaussian,
    noisy_batch,
)
from tests.rounding import DOUBLE, UNIT, assert_rounded, assert_within, bound


def row(scores: list[torch.Tensor], *, scale: float, weights: torch.Tensor) -> torch.Tensor:
    coefficients = perp_neg_coefficients(scores, scale=scale, weights=weights)
    return sum((c.view(-1, 1, 1, 1) * e for c, e in zip(coefficients, scores, strict=True)), torch.zeros(()))


@pytest.fixture
def scores() -> list[torch.Tensor]:
    """Prompt, unconditional, two negatives."""
    return [draw(3, 2, 4, 4, seed=s) for s in range(4)]


def test_zero_weights_are_plain_guidance(scores) -> None:
    c, u, *_ = scores
    assert torch.allclose(row(scores, scale=7.5, weights=torch.zeros(2, 3).double()), u + 7.5 * (c - u))


def test_only_the_part_across_the_prompt_acts(scores) -> None:
    c, u, *_ = scores
    e = (c - u).flatten(1)
    weights = -torch.rand(2, 3, generator=torch.Generator().manual_seed(0)).double()

    def along_the_prompt() -> torch.Tensor:
        change = (row(scores, scale=7.5, weights=weights) - (u + 7.5 * (c - u))).flatten(1)
        assert change.abs().max() > 0.1
        return (change * e).sum(1)

    assert_rounded(along_the_prompt, 0.0, unit=DOUBLE)
    along = [c, u, u - 0.7 * (c - u), u + 2.0 * (c - u)]
    assert torch.allclose(row(along, scale=7.5, weights=weights), u + 7.5 * (c - u))


def test_views_do_not_mix(scores) -> None:
    """Two views at once are the same as each alone (threestudio's negatives were swapped between samples)."""
    weights = -torch.tensor([[0.3, 1.2, 0.7], [0.9, 0.1, 0.4]]).double()
    together = row(scores, scale=5.0, weights=weights)
    for i in range(3):
        alone = row([e[i : i + 1] for e in scores], scale=5.0, weights=weights[:, i : i + 1])
        assert torch.allclose(together[i : i + 1], alone)


def test_weights_follow_the_published_decays() -> None:
    degrees = [0.0, 22.5, 45.0, 67.5, 89.999, 90.001, 112.5, 135.0, 157.5, 180.0, -45.0]
    ring = cameras(len(degrees), azimuth=[math.radians(a) for a in degrees])
    front, side = view_weights(ring)
    places = [0, 1, 2, 3, 4, 5, 9]
    last = 1e-3  # of the decimals published, some of which are cut and not rounded
    published = [-0.0001, -0.323, -0.689, -1.104, -1.574, -1.574, -1.967]
    assert_rounded(lambda: view_weights(ring)[0, places], torch.tensor(published), off=last)
    published = [-1.574, -1.104, -0.689, -0.323, -0.0001, -0.0005, -0.081, -0.173, -0.277, -0.394]
    assert_rounded(lambda: view_weights(ring)[1, :10], torch.tensor(published), off=last)
    assert (front[10], side[10]) == (front[2], side[2])
    assert view_weights(cameras(2, elevation=math.radians(61))).eq(0).all()


def janus(prompt: str, seen: Cameras | None):
    """Fronts, sides and backs have their own look; an unworded prompt means the front."""
    look = {"front": 1.0, "side": 0.2, "back": -1.0}
    word = next((w for w in look if w in prompt), "front")
    return gaussian(look[word] if prompt else 0.0, 0.5)


def test_shares_go_from_side_to_side_without_a_jump() -> None:
    degrees = torch.arange(-180, 181, 1.0)
    ring = cameras(len(degrees), azimuth=torch.deg2rad(degrees).tolist())
    shares = view_shares(ring)
    assert_rounded(lambda: view_shares(ring).sum(0), 1.0)
    assert shares.min() >= 0 and (shares > 0).sum(0).max() == 2
    assert_rounded(lambda: view_shares(ring).diff(dim=1).abs().max(), 1 / 90)
    for place, side in ((180, 0), (90, 1), (270, 1), (0, 2), (360, 2)):  # where one word is all of it
        assert_rounded(lambda side=side, place=place: view_shares(ring)[side, place], 1.0)
    above = view_shares(cameras(2, elevation=math.radians(61)))
    assert above.tolist() == [[0, 0], [0, 0], [0, 0], [1, 1]]


def test_sds_asks_for_every_views_own_words_in_one_call() -> None:
    prior = AnalyticPrior(janus, image_size=1)
    counting = Counting(prior)
    ring = cameras(4, azimuth=[0.1, 1.5, 3.0, -1.5])
    z, eps = draw(4, 1, 2, 2), draw(4, 1, 2, 2, seed=1)
    method = SDS(SDSConfig(perp_neg=True, guidance_scale=5.0, weight="one"), prompt="x", group=1, steps=1)
    batch = noisy_batch(z, ring, prior, t=torch.tensor([100, 300, 500, 700]), eps=eps)
    residual = method.residual(batch, prior, step=0)
    assert counting.calls == [16]
    assert_sums_to_zero(residual.coef)
    allowed = bound(lambda: assemble(method.residual(batch, prior, step=0)))
    for i in range(4):
        conditions = [prior.embed(p, None) for p in ("", *(f"x, {side} view" for side in SIDES))]
        uncond, *sides = prior.predict(batch.xt[i : i + 1], batch.t[i : i + 1], conditions)
        mixed = torch.einsum("k,kvchw->vchw", view_shares(ring)[:, i].double(), torch.stack(sides))
        alone = [mixed, uncond, *sides[:2]]
        expected = row(alone, scale=5.0, weights=view_weights(ring)[:, i : i + 1].double()) - eps[i : i + 1]
        assert_within(assemble(residual)[i : i + 1], expected, allowed[i : i + 1])


def test_rescale_reaches_the_conditional_deviation() -> None:
    c, u = draw(3, 2, 4, 4), draw(3, 2, 4, 4, seed=1)
    guided = [(6.0, c), (-5.0, u)]

    def std(x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).std(1, correction=0)

    assert torch.allclose(std(total(rescaled(guided, amount=1.0))), std(c))
    half = 0.5 * std(c) + 0.5 * std(total(guided))
    assert torch.allclose(std(total(rescaled(guided, amount=0.5))), half)
    assert torch.allclose(total(rescaled(guided, amount=0.0)), total(guided))


def test_sds_with_rescale_subtracts_the_noise_unscaled() -> None:
    prior = AnalyticPrior(lambda prompt, cameras: gaussian(draw(2, 3, 3) if prompt else 0.0, 0.5), image_size=3)
    batch = batch_at(prior, z=draw(3, 2, 3, 3, seed=1), eps=draw(3, 2, 3, 3, seed=2), t=400)
    for scale, same in ((6.0, False), (1.0, True)):
        plain, scaled = (
            SDS(SDSConfig(guidance_scale=scale, rescale=phi), prompt="x", group=1, steps=1).residual(
                batch, prior, step=0
            )
            for phi in (0.0, 0.7)
        )
        assert scaled.coef[-1].eq(-1).all() and scaled.terms[-1] is batch.eps
        assert torch.allclose(assemble(plain), assemble(scaled)) is same


@pytest.mark.parametrize("group", [1, 2, 4])
def test_deviations_are_those_of_the_sums_that_are_never_made(group: int) -> None:
    x, y, z = (draw(4, 3, 5, 7, seed=s).float() for s in range(3))
    each = torch.tensor([30.0, -2.0, 0.5, 1.0])
    rows = [[(1.0, x)], [(each, x), (-each, y)], [(0.3, z), (1.7, x), (-1.0, z)]]
    for got, row in zip(deviations(rows, group=group), rows, strict=True):
        made = total([(c, tensor.double()) for c, tensor in row])
        want = made.view(4 // group, -1).std(1, correction=0).repeat_interleave(group)
        torch.testing.assert_close(got, want.float(), rtol=2 * UNIT, atol=0)  # sums in float64; both are rounded once
