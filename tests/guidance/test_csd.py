"""CSD is the slope of SDS in the guidance scale; the negative prompt's share moves and is paid for only when used."""

from __future__ import annotations

import pytest
import torch

from splatdistill.config import CSDConfig, SDSConfig
from splatdistill.guidance.csd import CSD
from splatdistill.guidance.sds import SDS
from tests.guidance.toys import Counting, assemble, batch_at, draw, gaussian, gradient, levels, prompt_prior, scalar


def csd(**settings) -> CSD:
    return CSD(CSDConfig(**{"weight": "one", **settings}), prompt="x", group=1, steps=100)


def test_golden_draw() -> None:
    prior = prompt_prior(x=gaussian(1.3, 0.7), empty=gaussian(0.2, 0.7))
    g = gradient(csd(), prior, z=scalar(-0.4), eps=scalar(0.8), t=500)
    assert g.item() == pytest.approx(-0.572598, abs=2e-6)


def test_it_is_the_slope_of_sds_in_the_guidance_scale() -> None:
    prior = prompt_prior(x=gaussian(draw(3, 2, 2), 0.4), empty=gaussian(draw(3, 2, 2, seed=1), 0.9))
    z, eps = draw(4, 3, 2, 2, seed=2), draw(4, 3, 2, 2, seed=3)

    def sds(scale: float) -> SDS:
        return SDS(SDSConfig(guidance_scale=scale), prompt="x", group=1, steps=1)

    batch = {"z": z, "eps": eps, "t": [50, 300, 600, 950]}
    slope = (gradient(sds(9.5), prior, **batch) - gradient(sds(2.0), prior, **batch)) / 7.5
    assert torch.allclose(slope, gradient(csd(weight="sigma2"), prior, **batch), atol=1e-6)


def test_equal_prompts_push_nothing_and_equal_variances_push_constantly() -> None:
    same = prompt_prior(x=gaussian(0.4, 0.7), empty=gaussian(0.4, 0.7))
    assert gradient(csd(), same, z=draw(3, 1, 2, 2), eps=draw(3, 1, 2, 2, seed=1), t=300).abs().max() == 0
    prior = prompt_prior(x=gaussian(1.3, 0.7), empty=gaussian(0.2, 0.7))
    alpha, sigma, _ = levels(prior, 300)
    g = gradient(csd(), prior, z=draw(5, 1, 1, 1), eps=draw(5, 1, 1, 1, seed=1), t=300)
    expected = sigma * alpha * (0.2 - 1.3) / (alpha**2 * 0.49 + sigma**2)
    assert torch.allclose(g, expected.expand_as(g), atol=1e-6)


def test_fixed_point_with_a_wider_unconditional_density() -> None:
    prior = prompt_prior(x=gaussian(0.5, 0.4), empty=gaussian(-0.3, 1.0))
    alpha, sigma, _ = levels(prior, 300)
    c_c, c_u = alpha**2 * 0.16 + sigma**2, alpha**2 + sigma**2
    expected = (c_u * 0.5 - c_c * -0.3) / (c_u - c_c)
    z = scalar(0.0)
    for _ in range(400):
        eps = scalar(0.6)
        pair = torch.cat([eps, -eps])  # the gradient is linear in the noise: this is its exact mean
        z = z - 0.5 * gradient(csd(), prior, z=z.expand(2, 1, 1, 1), eps=pair, t=300).mean()
    assert z.item() == pytest.approx(expected.item(), abs=1e-5)


def test_the_negative_prompt_takes_over_and_costs_only_while_mixed() -> None:
    prior = prompt_prior(x=gaussian(1.0, 0.7), empty=gaussian(0.2, 0.7), ugly=gaussian(-0.8, 0.7))
    batch = batch_at(prior, z=scalar(0.1), eps=scalar(0.2), t=300)
    counting = Counting(prior)
    method = csd(negative_prompt="ugly")
    rows = [method.residual(batch, prior, step=step) for step in (0, 50, 100)]
    assert counting.calls == [2, 3, 2]
    values = [assemble(row).item() for row in rows]
    assert values[1] == pytest.approx((values[0] + values[2]) / 2, abs=1e-6)
    assert all(row.coef.sum().item() == pytest.approx(0.0, abs=1e-6) for row in rows)
    counting.calls.clear()
    csd().residual(batch, prior, step=50)
    assert counting.calls == [2]
