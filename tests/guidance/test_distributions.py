"""Where runs end, through the real training loop: particles of VSD cover their prior.

An object is a cloud of splats whose colour alone is free, and the prior sees one pixel of it: three numbers.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from splatdistill.cameras import turntable
from splatdistill.config import (
    BackgroundConfig,
    CameraConfig,
    DensifyConfig,
    OptimConfig,
    SplatsConfig,
    TrainConfig,
    VSDConfig,
)
from splatdistill.priors.analytic import AnalyticPrior, Mixture
from splatdistill.train import Trainer

LOW: dict[str, Any] = {"t_min": 0.02, "t_max": 0.2, "t_max_final": 0.2, "guidance_scale": 1.0}
STD, MODES = 0.15, (-0.5, 0.5)


class Silent:
    def metrics(self, *args: Any, **values: Any) -> None: ...

    event = summary = metrics


def run(
    prior: AnalyticPrior, *, num_views: int, lr: float, final: float, sh_degree: int = 0, **settings: Any
) -> Tensor:
    """Colours [particle, view, 3] in -1..1 after training, from 32 azimuths."""
    config = TrainConfig(
        prompt="x",
        num_views=num_views,
        size=8,
        camera=CameraConfig(views_per_group=1, object_radius=0.5, elevation_deg=(0.0, 0.0)),
        splats=SplatsConfig(num_init=20, opacity=0.9, sh_degree=sh_degree),
        optim=OptimConfig(means=0.0, scales=0.0, quats=0.0, opacities=0.0, sh0=lr, shN=lr, final=final),
        densify=DensifyConfig(start=1.0),
        background=BackgroundConfig(white=1.0, gray=0.0),
        **settings,
    )
    trainer = Trainer(config, prior=prior, device=torch.device("cpu"))
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


@pytest.mark.slow
def test_vsd_with_particles_keeps_both_modes_and_their_width() -> None:
    settings = {"method": "vsd", "vsd": VSDConfig(particles=8, **LOW)}
    ends = run(two_modes(), num_views=4, lr=0.1, final=0.02, steps=500, **settings).mean(1)
    for mode, objects in zip(MODES, split(ends), strict=True):
        assert len(objects) >= 2
        assert deviation(objects) >= 0.5 * STD
        assert (objects.mean() - mode).abs() < 2 * STD
