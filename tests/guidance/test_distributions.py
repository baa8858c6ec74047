"""Where runs end, through the real training loop: SDS collapses, VSD covers its prior, ESD spreads with lambda.

An object is one splat that fills every picture, so its colour alone is free, and the prior sees one pixel of it: three
numbers. With many splats one object could end with its sides in different modes. Timesteps stay below 200, where the
noise (0.57 of the signal) does not bridge the modes.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from splatdistill.config.schema import (
    BackgroundConfig,
    CameraConfig,
    DensifyConfig,
    OptimConfig,
    SplatsConfig,
    TrainConfig,
)
from splatdistill.guidance.methods.esd import ESDConfig
from splatdistill.guidance.methods.sds import SDSConfig
from splatdistill.guidance.methods.vsd import VSDConfig
from splatdistill.priors.analytic import AnalyticPrior, Gaussian
from splatdistill.scene.cameras import turntable
from splatdistill.training.trainer import Trainer
from tests.priors.oracles import LinearPrior, Mixture

LOW: dict[str, Any] = {"t_min": 0.02, "t_max": 0.2, "t_max_final": 0.2, "guidance_scale": 1.0}
STD, MODES = 0.12, (-0.7, 0.7)
WIDTH = 0.3  # of the single Gaussian that ESD is measured on
pytestmark = pytest.mark.slow


class Silent:
    def metrics(self, *args: Any, **values: Any) -> None: ...

    event = summary = metrics


def run(
    prior: AnalyticPrior,
    *,
    num_views: int,
    lr: float,
    final: float,
    sh_degree: int = 0,
    gray: bool = False,
    **settings: Any,
) -> Tensor:
    """Colours [particle, view, 3] in -1..1 after training, from 32 azimuths. gray: all begin so."""
    config = TrainConfig(
        prompt="x",
        num_views=num_views,
        size=8,
        camera=CameraConfig(views_per_group=1, object_radius=0.5, elevation_deg=(0.0, 0.0)),
        splats=SplatsConfig(num_init=1, opacity=0.999, sh_degree=sh_degree),
        optim=OptimConfig(means=0.0, scales=0.0, quats=0.0, opacities=0.0, sh0=lr, shN=lr, final=final),
        densify=DensifyConfig(start=1.0),
        background=BackgroundConfig(white=1.0, gray=0.0),
        **settings,
    )
    trainer = Trainer(config, prior=prior, device=torch.device("cpu"))
    for particle in trainer.particles:
        particle.splats.means.data.zero_()
        particle.splats.scales.data.fill_(1.0)
        if gray:
            particle.splats.tensors["sh0"].data.zero_()
    while trainer.step < config.steps:
        trainer.advance(Silent())  # type: ignore[arg-type]
    views = turntable(config.camera, num_frames=32, size=8, elevation_deg=0.0)
    white = torch.ones(32, 3)
    pictures = [trainer.renderer.render(p.splats, views, background=white).rgb for p in trainer.particles]
    return torch.stack([prior.encode(rgb).detach()[..., 0, 0] for rgb in pictures])


def two_modes() -> AnalyticPrior:
    means = [torch.full((3, 1, 1), mode) for mode in MODES]
    return AnalyticPrior(lambda prompt, cameras: Mixture(means, STD, [0.5, 0.5]), image_size=1)


def split(objects: Tensor) -> list[Tensor]:
    """The objects [n,3] of each mode."""
    return [objects[objects.mean(1) < 0], objects[objects.mean(1) > 0]]


def deviation(values: Tensor) -> float:
    """Root mean square distance from the mean, per number."""
    return (values - values.mean(0)).square().mean().sqrt().item()


@pytest.mark.parametrize("seed", range(3))
def test_sds_collapses_within_a_mode(seed: int) -> None:
    """Eight objects, each a run of its own: without a second score particles know nothing of each other."""
    runs = range(8 * seed, 8 * seed + 8)
    settings: dict[str, Any] = {"method": "sds", "sds": SDSConfig(**LOW)}
    ends = [run(two_modes(), num_views=4, lr=0.1, final=0.02, steps=300, seed=s, **settings)[0].mean(0) for s in runs]
    for mode, objects in zip(MODES, split(torch.stack(ends)), strict=True):
        assert len(objects) >= 2
        assert deviation(objects) <= 0.1 * STD
        assert (objects.mean() - mode).abs() < 0.2 * STD


@pytest.mark.parametrize("seed", range(3))
def test_vsd_with_particles_keeps_both_modes_and_their_width(seed: int) -> None:
    settings: dict[str, Any] = {"method": "vsd", "vsd": VSDConfig(particles=8, **LOW)}
    ends = run(two_modes(), num_views=4, lr=0.1, final=0.02, steps=500, seed=seed, **settings).mean(1)
    for mode, objects in zip(MODES, split(ends), strict=True):
        assert len(objects) >= 2
        assert deviation(objects) >= 0.5 * STD
        assert (objects.mean() - mode).abs() < STD


@pytest.mark.parametrize("seed", range(3))
def test_from_one_start_particles_of_vsd_cover_more_modes_than_runs_of_sds(seed: int) -> None:
    """All timesteps, so that noise bridges the modes. SDS then stays where their mean is, which is a mode of nothing.

    The start is as far from every mode, and these from each other: corners of a tetrahedron.
    """
    corners = torch.tensor([[-1.0, -1, -1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]]) * 0.6
    means = list(corners[..., None, None])
    prior = AnalyticPrior(lambda prompt, cameras: Mixture(means, STD, [0.25] * 4), image_size=1)
    every: dict[str, Any] = {**LOW, "t_max": 0.98}
    common: dict[str, Any] = {"num_views": 4, "lr": 0.05, "final": 0.02, "steps": 300, "gray": True}
    vsd = run(prior, method="vsd", vsd=VSDConfig(particles=4, **every), seed=seed, **common).mean(1)
    runs = range(4 * seed, 4 * seed + 4)
    sds = torch.cat([run(prior, method="sds", sds=SDSConfig(**every), seed=s, **common).mean(1) for s in runs])

    def covered(objects: Tensor) -> int:
        """The modes that have an object within three of their deviations."""
        return int((torch.cdist(objects, corners) < 3 * STD).any(0).sum())

    assert covered(vsd) >= 3 > covered(sds)


def predicted_spread(prior: AnalyticPrior, *, entropy: float) -> float:
    """tau* of N(m, tau^2) under ESD: the root of sum_t w sigma alpha (1 / c_p - lambda / c_q), w = sigma^2."""
    alphas_cumprod = prior.alphas_cumprod[20:201].double()
    alpha, sigma = alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()

    def pull(tau: float) -> float:
        c_p, c_q = (alpha**2 * s**2 + sigma**2 for s in (WIDTH, tau))
        return (sigma**3 * alpha * (1 / c_p - entropy / c_q)).sum().item()

    low, high = 0.0, 2 * WIDTH
    assert pull(low) < 0 < pull(high)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if pull(middle) < 0 else (low, middle)
    return low


@pytest.mark.parametrize("seed", range(3))
def test_esd_spreads_the_views_of_one_object_as_far_as_lambda_says(seed: int) -> None:
    """The learned score must be quicker than the colours, or both overshoot in turns and never settle."""
    prior = LinearPrior(lambda prompt, cameras: Gaussian(torch.zeros(3, 1, 1), WIDTH), image_size=1)
    spread = {}
    for entropy in (0.9, 1.0, 1.1):
        settings: dict[str, Any] = {"method": "esd", "esd": ESDConfig(entropy=entropy, lora_lr=0.03, **LOW)}
        ends = run(prior, num_views=64, lr=0.01, final=0.05, sh_degree=1, steps=700, seed=seed, **settings)
        spread[entropy] = deviation(ends[0])
        # 64 views of three channels: the deviation of 192 numbers is known to 1/sqrt(384), 5 %.
        assert spread[entropy] == pytest.approx(predicted_spread(prior, entropy=entropy), rel=0.1)
    assert all(a < b for a, b in itertools.pairwise(spread.values()))
