"""SDS-Bridge and NFSD against Gaussian closed forms: directions between texts in the place of the noise."""

from __future__ import annotations

import torch

from splatdistill.guidance import make_guidance
from splatdistill.guidance.methods.bridge import Bridge, BridgeConfig
from splatdistill.guidance.methods.nfsd import NFSD, NFSDConfig
from tests.guidance.toys import (
    Counting,
    assert_sums_to_zero,
    batch_at,
    draw,
    gaussian,
    gradient,
    levels,
    prompt_prior,
    scalar,
)
from tests.rounding import assert_rounded


def three():
    return prompt_prior(x=gaussian(1.3, 0.7), empty=gaussian(0.2, 0.7), ugly=gaussian(-0.5, 0.7))


def nfsd(**settings) -> NFSD:
    return NFSD(NFSDConfig(**{"negative_prompt": "ugly", "weight": "one", **settings}), prompt="x", group=1, steps=10)


def test_golden_draw_of_nfsd() -> None:
    one = {"z": scalar(-0.4), "eps": scalar(0.8), "t": 500}
    assert_rounded(lambda: gradient(nfsd(), three(), **one), -4.658863, off=5e-7)


def test_nfsd_keeps_the_whole_score_below_its_boundary() -> None:
    """t = 199 keeps eps_0, t = 200 subtracts eps_n; with equal words that leaves s times CSD."""
    prior, z, eps = three(), draw(2, 1, 2, 2), draw(2, 1, 2, 2, seed=1)
    coef = nfsd().residual(batch_at(prior, z=z, eps=eps, t=[199, 200]), prior, step=0).coef
    assert coef.sum(0).tolist() == [1.0, 0.0]
    alpha, sigma, _ = levels(prior, 300)
    expected = 7.5 * sigma * alpha * (0.2 - 1.3) / (alpha**2 * 0.49 + sigma**2)
    assert_rounded(lambda: gradient(nfsd(negative_prompt=""), prior, z=z, eps=eps, t=300), expected)


def test_bridge_is_the_constant_between_two_texts() -> None:
    prior, z, eps = three(), draw(4, 1, 2, 2), draw(4, 1, 2, 2, seed=1)
    alpha, sigma, _ = levels(prior, 300)
    expected = 3.0 * sigma**2 * sigma * alpha * (-0.5 - 1.3) / (alpha**2 * 0.49 + sigma**2)
    method = Bridge(BridgeConfig(negative_prompt="ugly", guidance_scale=3.0), prompt="x", group=1, steps=10)
    assert_rounded(lambda: gradient(method, prior, z=z, eps=eps, t=300), expected)


def test_the_bridge_begins_at_the_prompt_with_its_faults() -> None:
    from dataclasses import replace

    from splatdistill.config.presets import load

    method = make_guidance(replace(load("bridge", family="latent-512")[0], prompt="a red cup"))
    assert method.config.negative_prompt.startswith("a red cup, oversaturated, smooth, ")


def test_costs_and_sums() -> None:
    prior = three()
    batch = batch_at(prior, z=draw(3, 1, 1, 1), eps=draw(3, 1, 1, 1, seed=1), t=300)
    counting = Counting(prior)
    bridge = Bridge(BridgeConfig(negative_prompt="ugly"), prompt="x", group=1, steps=10)
    for method in (bridge, nfsd()):
        counting.calls.clear()
        assert_sums_to_zero(method.residual(batch, prior, step=0).coef)
        assert counting.calls == [3 * method.evaluations]
    assert torch.equal(batch.t, torch.full((3,), 300))
