"""CSD is the slope of SDS in the guidance scale; the negative prompt's share moves and is paid for only when used."""

from __future__ import annotations

import torch
from torch import Tensor

from splatdistill.guidance.methods.csd import CSD, CSDConfig
from splatdistill.guidance.methods.sds import SDS, SDSConfig
from tests.guidance.toys import (
    Counting,
    assemble,
    assert_sums_to_zero,
    batch_at,
    draw,
    gaussian,
    gradient,
    levels,
    prompt_prior,
    scalar,
)
from tests.rounding import assert_rounded, assert_within, bound


def csd(**settings) -> CSD:
    return CSD(CSDConfig(**{"weight": "one", **settings}), prompt="x", group=1, steps=100)


def test_golden_draw() -> None:
    prior = prompt_prior(x=gaussian(1.3, 0.7), empty=gaussian(0.2, 0.7))
    assert_rounded(lambda: gradient(csd(), prior, z=scalar(-0.4), eps=scalar(0.8), t=500), -0.572598, off=5e-7)


def test_it_is_the_slope_of_sds_in_the_guidance_scale() -> None:
    prior = prompt_prior(x=gaussian(draw(3, 2, 2), 0.4), empty=gaussian(draw(3, 2, 2, seed=1), 0.9))
    z, eps = draw(4, 3, 2, 2, seed=2), draw(4, 3, 2, 2, seed=3)

    def sds(scale: float) -> SDS:
        return SDS(SDSConfig(guidance_scale=scale), prompt="x", group=1, steps=1)

    batch = {"z": z, "eps": eps, "t": [50, 300, 600, 950]}

    def apart() -> Tensor:
        slope = (gradient(sds(9.5), prior, **batch) - gradient(sds(2.0), prior, **batch)) / 7.5
        return slope - gradient(csd(weight="sigma2"), prior, **batch)

    assert_rounded(apart, 0.0)


def test_equal_prompts_push_nothing_and_equal_variances_push_constantly() -> None:
    same = prompt_prior(x=gaussian(0.4, 0.7), empty=gaussian(0.4, 0.7))
    assert gradient(csd(), same, z=draw(3, 1, 2, 2), eps=draw(3, 1, 2, 2, seed=1), t=300).abs().max() == 0
    prior = prompt_prior(x=gaussian(1.3, 0.7), empty=gaussian(0.2, 0.7))
    alpha, sigma, _ = levels(prior, 300)
    expected = sigma * alpha * (0.2 - 1.3) / (alpha**2 * 0.49 + sigma**2)
    z, eps = draw(5, 1, 1, 1), draw(5, 1, 1, 1, seed=1)
    assert_rounded(lambda: gradient(csd(), prior, z=z, eps=eps, t=300), expected)


def test_fixed_point_with_a_wider_unconditional_density() -> None:
    prior = prompt_prior(x=gaussian(0.5, 0.4), empty=gaussian(-0.3, 1.0))
    alpha, sigma, _ = levels(prior, 300)
    c_c, c_u = alpha**2 * 0.16 + sigma**2, alpha**2 + sigma**2
    expected = (c_u * 0.5 - c_c * -0.3) / (c_u - c_c)
    pair = torch.cat([scalar(0.6), scalar(-0.6)])  # the gradient is linear in the noise: this is its exact mean

    def push(z: Tensor) -> Tensor:
        return gradient(csd(), prior, z=z.expand(2, 1, 1, 1), eps=pair, t=300).mean()

    z = scalar(0.0)
    for _ in range(400):
        z = z - 0.5 * push(z)
    # A wrong push moves the end by itself over the slope. Half of the slope, 0.3, of what is left goes in each step.
    slope = sigma * alpha * (1 / c_c - 1 / c_u)
    assert_within(z, expected, bound(lambda: push(expected.view(1, 1, 1, 1))) / slope)


def test_the_negative_prompt_takes_over_and_costs_only_while_mixed() -> None:
    prior = prompt_prior(x=gaussian(1.0, 0.7), empty=gaussian(0.2, 0.7), ugly=gaussian(-0.8, 0.7))
    batch = batch_at(prior, z=scalar(0.1), eps=scalar(0.2), t=300)
    counting = Counting(prior)
    method = csd(negative_prompt="ugly")
    rows = [method.residual(batch, prior, step=step) for step in (0, 50, 100)]
    assert counting.calls == [2, 3, 2]

    def off_the_middle() -> Tensor:
        first, middle, last = (assemble(method.residual(batch, prior, step=step)) for step in (0, 50, 100))
        return middle - (first + last) / 2

    assert_rounded(off_the_middle, 0.0)
    for row in rows:
        assert_sums_to_zero(row.coef)
    counting.calls.clear()
    csd().residual(batch, prior, step=50)
    assert counting.calls == [2]
