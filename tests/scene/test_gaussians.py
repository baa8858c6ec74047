"""Splats: the initial ball, degrees of colour, tensors that travel along; and the values drawn around them."""

from __future__ import annotations

import math

import pytest
import torch

from splatdistill.config.schema import BackgroundConfig, SplatsConfig
from splatdistill.rendering.shading import sample_background
from splatdistill.scene.gaussians import Splats, all_finite, init_ball, init_shell, with_sh_degree
from splatdistill.utils import rng


def test_ball_is_uniform_and_seeded() -> None:
    config = SplatsConfig(num_init=4000, radius=0.6, opacity=0.1, sh_degree=2)
    splats = init_ball(config, seed=3)
    distance = splats.means.norm(dim=-1)
    assert distance.max() <= 0.6
    # Binomial: five standard deviations.
    assert (distance < 0.3).float().mean().item() == pytest.approx(1 / 8, abs=5 * (1 / 8 * 7 / 8 / 4000) ** 0.5)
    assert splats.shN.shape == (4000, 8, 3)
    assert splats.sh_degree == 2
    torch.testing.assert_close(torch.sigmoid(splats.opacities), torch.full((4000,), 0.1))
    assert torch.equal(splats.means, init_ball(config, seed=3).means)
    assert not torch.equal(splats.means, init_ball(config, seed=4).means)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_colour_degree_is_cut_or_padded(degree: int) -> None:
    splats = init_ball(SplatsConfig(num_init=5, sh_degree=2), seed=0)
    splats.tensors["shN"] = torch.randn(5, 8, 3, generator=torch.Generator().manual_seed(0))
    other = with_sh_degree(splats, degree)
    assert other.sh_degree == degree
    both = min(8, other.shN.shape[1])
    assert torch.equal(other.shN[:, :both], splats.shN[:, :both])
    assert other.shN[:, both:].eq(0).all()


@pytest.mark.parametrize("astray", [float("nan"), float("inf"), -float("inf")])
def test_one_number_that_is_not_finite_is_found_and_large_ones_are_no_reason(astray: float) -> None:
    largest = torch.finfo(torch.float32).max
    for rest in (0.0, largest, -largest):
        value = torch.full((9, 3), rest)
        assert all_finite(value)
        value[4, 1] = astray
        assert not all_finite(value)
        value[7, 2] = -astray
        assert not all_finite(value)
    assert all_finite(torch.empty(0, 3))


def test_extra_tensors_travel() -> None:
    splats = init_ball(SplatsConfig(num_init=5), seed=0)
    more = Splats(**splats.tensors, label=torch.arange(5.0))
    assert torch.equal(more.to("cpu").detach().label, torch.arange(5.0))
    with pytest.raises(AttributeError):
        _ = splats.label


def test_streams_are_functions_of_seed_step_and_name() -> None:
    keys = {rng.key(seed, step, name) for seed in range(5) for step in range(5) for name in rng.STREAMS}
    assert len(keys) == 25 * len(rng.STREAMS)
    assert all(0 <= key < 2**63 for key in keys)
    a, b = (torch.randn(3, generator=rng.generator(1, 2, "noise")) for _ in range(2))
    assert torch.equal(a, b)
    with pytest.raises(KeyError):
        rng.generator(0, 0, "nose")


def test_background_is_one_colour_per_group_in_the_given_shares() -> None:
    config = BackgroundConfig(white=0.5, gray=0.3)
    drawn = sample_background(config, num_views=8000, group=4, generator=torch.Generator().manual_seed(0))
    groups = drawn.view(2000, 4, 3)
    assert (groups == groups[:, :1]).all()
    colour = groups[:, 0]
    white = (colour == 1).all(-1)
    gray = (colour == colour[:, :1]).all(-1) & ~white
    bound = 4 * math.sqrt(0.25 / 2000)
    assert white.float().mean().item() == pytest.approx(0.5, abs=bound)
    assert gray.float().mean().item() == pytest.approx(0.3, abs=bound)
    assert colour.min() >= 0
    assert colour.max() <= 1


def test_the_shell_surrounds_the_middle() -> None:
    splats = init_shell(SplatsConfig(num_init=500, radius=3.0), seed=0)
    distance = splats.means.norm(dim=-1)
    assert 2.7 <= distance.min() and distance.max() <= 3.0
    assert splats.means.mean(0).norm() < 0.3
    assert torch.equal(splats.means, init_shell(SplatsConfig(num_init=500, radius=3.0), seed=0).means)
