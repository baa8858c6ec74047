"""One object of a run: its splats, what moves them and what makes them more or fewer."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from splatdistill.config.schema import TrainConfig
from splatdistill.io import ply
from splatdistill.ops.update import Verdict
from splatdistill.scene.gaussians import INITS, Splats, init_points, with_sh_degree
from splatdistill.scene.types import RenderOutput
from splatdistill.training.densifier import Densifier
from splatdistill.training.splat_optimizer import SplatOptimizer
from splatdistill.utils import rng
from splatdistill.utils.adam import MOMENTS
from splatdistill.utils.distributed import ALONE, Ranks


class Particle:
    """One object of a run: its splats with their optimiser and the statistics of densify."""

    def __init__(self, config: TrainConfig, *, index: int, device: torch.device, ranks: Ranks = ALONE) -> None:
        self.config = config
        self.device = device
        self.ranks = ranks
        self.seed = rng.key(config.seed, index, "init") if index else config.seed
        self.optimizer = SplatOptimizer(
            initial_splats(config, seed=self.seed).to(device), config.optim, steps=config.steps
        )
        self.densifier = self._densifier()

    @property
    def splats(self) -> Splats:
        return self.optimizer.splats

    def enter(self, stage: TrainConfig) -> None:
        """Goes on under other settings; what densify measured under the old ones is dropped."""
        self.config = stage
        self.optimizer.config = stage.optim
        self.densifier = self._densifier()

    def update(self, output: RenderOutput, *, step: int, verdict: Verdict) -> dict[str, int] | None:
        """One step along the gradients, unless the verdict is to skip it, then densify if it is due: returns what that
        did.
        """
        self.optimizer.update(step, verdict=verdict, statistics=self.densifier.statistics(output))
        if not self.densifier.due(step):
            return None
        self.densifier.add_up(self.ranks)
        counts: dict[str, int] = {}
        if self.ranks.first:  # it alone decides: another machine might round otherwise
            counts = self.densifier.event(self.optimizer, seed=self.seed, step=step)
        if self.ranks.world > 1:
            state = self.ranks.of_first(self._tensors(), self.device)
            self.load_state_dict(state, num_updates=int(self.optimizer.num_updates))
        return counts

    def _densifier(self) -> Densifier:
        return Densifier(self.config.densify, num_splats=len(self.splats), steps=self.config.steps, device=self.device)

    def state_dict(self) -> dict[str, Tensor]:
        """For all ranks to call: their statistics are added up."""
        self.densifier.add_up(self.ranks)
        return self._tensors()

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"splats.{name}": value for name, value in self.splats.tensors.items()}
        for name, state in self.optimizer.moments().items():
            tensors |= {f"adam.{name}.{key}": value for key, value in state.items()}
        return tensors | {"densify.grad_sum": self.densifier.grad_sum, "densify.count": self.densifier.count}

    def load_state_dict(self, tensors: dict[str, Tensor], *, num_updates: int) -> None:
        names = [name.removeprefix("splats.") for name in tensors if name.startswith("splats.")]
        splats = Splats(**{name: tensors[f"splats.{name}"] for name in names})
        moments = {
            name: {key: tensors[f"adam.{name}.{key}"] for key in MOMENTS}
            for name in names
            if f"adam.{name}.{MOMENTS[0]}" in tensors
        }
        self.optimizer.replace(splats, moments, num_updates=torch.tensor(float(num_updates)))
        self.densifier = self._densifier()
        if self.ranks.first:
            self.densifier.grad_sum, self.densifier.count = tensors["densify.grad_sum"], tensors["densify.count"]


def initial_splats(config: TrainConfig, *, seed: int) -> Splats:
    """The splats of step 0: the ball, the shell, or those or the points of a file."""
    kind, _, path = config.init.partition(":")
    if config.init in INITS:
        return INITS[config.init](config.splats, seed=seed)
    if kind == "points" and path:
        points, colors = ply.read_points(Path(path))
        return init_points(config.splats, points=points, colors=colors, seed=seed)
    if kind != "ply" or not path:
        raise ValueError(f"init: {config.init!r} is neither 'ball' nor 'shell' nor 'ply:FILE' nor 'points:FILE'.")
    return with_sh_degree(ply.read(Path(path)), config.splats.sh_degree)
