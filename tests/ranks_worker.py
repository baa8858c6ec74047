"""One of several processes that make objects together, one for each of CASES, and save what came out.

`python -m tests.ranks_worker FOLDER`, started as torchrun would
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from splatdistill.config.schema import CameraConfig, DensifyConfig, LightConfig, RegularizeConfig, TrainConfig
from splatdistill.guidance.methods.esd import ESDConfig
from splatdistill.guidance.methods.sample_fit import SampleFitConfig
from splatdistill.priors.analytic import AnalyticPrior, Gaussian, Scene, beach_ball
from splatdistill.scene.types import Cameras
from splatdistill.training.run_log import NoLog
from splatdistill.training.trainer import Trainer
from splatdistill.utils.distributed import ProcessGroup
from tests.priors.oracles import LinearPrior
from tests.rounding import neighbours
from tests.training.test_trainer import SMALL

GROW = DensifyConfig(start=0.2, stop=0.8, interval=30, max_splats=320)
BASE = replace(SMALL, steps=100, densify=GROW, camera=CameraConfig(views_per_group=1))
CASES: dict[str, TrainConfig] = {
    "a hundred steps": BASE,
    "lights and regularisers": replace(
        BASE, steps=30, regularize=RegularizeConfig(opacity=1e-3, scale=1.0), light=LightConfig(start=0.0, albedo=0.5)
    ),
    "groups": replace(BASE, num_views=8, camera=CameraConfig(views_per_group=4), steps=30),
    "consistency": replace(BASE, method="consistency", steps=30),
    "vsd": replace(BASE, method="vsd", steps=30, size=8),
    "views that are fitted": replace(
        BASE, method="sample_fit", steps=30, sample_fit=SampleFitConfig(guidance_scale=2.0, rounds=3, ddim_steps=4)
    ),
    "esd": replace(BASE, method="esd", steps=30, size=8, esd=ESDConfig(particles=2, lora_lr=1e-2)),
}


class Cutouts(AnalyticPrior):
    """The beach ball with alpha: 1 where it is not white."""

    sees_alpha = True

    def __init__(self, scene: Scene, *, image_size: int) -> None:
        def solid(prompt: str, cameras: Cameras | None) -> Gaussian:
            ball = scene(prompt, cameras)
            assert isinstance(ball, Gaussian)
            alpha = (ball.mean.amin(1, keepdim=True) < 1).to(ball.mean)
            return Gaussian(torch.cat([ball.mean, 2 * alpha - 1], 1), ball.std)

        super().__init__(solid, image_size=image_size)


def make(case: str, ranks: ProcessGroup, *, shaken: int | None = None) -> dict[str, torch.Tensor]:
    """What there is after the first step and after the last. shaken: the seed of a run whose splats are moved to
    neighbouring numbers before each step.
    """
    config = CASES[case]
    size = 8 if config.method in ("vsd", "esd") else config.size
    kind = {"esd": LinearPrior, "sample_fit": Cutouts}.get(config.method, AnalyticPrior)
    prior = kind(beach_ball(image_size=size), image_size=size)
    trainer = Trainer(config, prior=prior, device=torch.device("cpu"), ranks=ranks)
    for i, particle in enumerate(trainer.particles):
        # Adam makes a whole step of any gradient: that of a round splat's rotation is nothing but rounding.
        g = torch.Generator().manual_seed(i)
        particle.splats.scales.data += 0.3 * torch.randn(particle.splats.scales.shape, generator=g)
    g = torch.Generator().manual_seed(shaken or 0)
    first: dict[str, torch.Tensor] = {}
    while trainer.step < config.steps:
        if shaken is not None:
            for x in (x for particle in trainer.particles for x in particle.splats.tensors.values()):
                x.data = neighbours(x.data, g)
        trainer.advance(NoLog())
        first = first or {f"first.{name}": x for name, x in tensors_of(trainer).items()}
    return first | tensors_of(trainer)


def tensors_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    states = {f"{i}.": particle.state_dict() for i, particle in enumerate(trainer.particles)}
    if not trainer.guidance.fits_views:  # each process keeps views of its own
        states["guidance."] = trainer.guidance.state_dict()
    return {prefix + name: x.detach().clone() for prefix, state in states.items() for name, x in state.items()}


def main() -> None:
    folder = sys.argv[1]
    torch.set_num_threads(1)
    ranks = ProcessGroup.join(torch.device("cpu"))
    for case in CASES:
        save_file(make(case, ranks), Path(folder) / f"{case}-{ranks.rank}.safetensors")
    ranks.leave()


if __name__ == "__main__":
    main()
