"""One object of a run: its splats, what moves them and what makes them more or fewer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from splatdistill.config.schema import DensifyConfig, OptimConfig, RegularizeConfig, SplatsConfig
from splatdistill.io import ply
from splatdistill.ops.update import Verdict
from splatdistill.scene.gaussians import INITS, Splats, init_points, with_sh_degree
from splatdistill.scene.types import RenderOutput
from splatdistill.training.densifier import Densifier
from splatdistill.training.regularizers import regularizer
from splatdistill.training.splat_optimizer import SplatOptimizer
from splatdistill.utils.adam import MOMENTS
from splatdistill.utils.distributed import SINGLE_PROCESS, ProcessGroup


@dataclass(frozen=True)
class Learning:
    """How an object learns: its learning rates, the densify policy and the regularizers, over `steps` of the run."""

    optim: OptimConfig
    densify: DensifyConfig
    regularize: RegularizeConfig
    steps: int


class GaussianModel:
    """One object of a run: its splats with their optimiser and the statistics of densify. seed: of the splits."""

    def __init__(self, splats: Splats, learning: Learning, *, seed: int, ranks: ProcessGroup = SINGLE_PROCESS) -> None:
        self.learning = learning
        self.device = splats.device
        self.ranks = ranks
        self.seed = seed
        self.optimizer = SplatOptimizer(splats, learning.optim, steps=learning.steps)
        self.densifier = self._densifier()

    @property
    def splats(self) -> Splats:
        return self.optimizer.splats

    def enter(self, learning: Learning) -> None:
        """Goes on under other settings; what densify measured under the old ones is dropped."""
        self.learning = learning
        self.optimizer.config = learning.optim
        self.densifier = self._densifier()

    def regularization(self, output: RenderOutput) -> Tensor | None:
        """[] loss of a render of these splats beside the distillation gradient; None where no regularizer is on."""
        c = self.learning
        return regularizer(c.regularize, output, self.splats, largest=c.densify.split_scale)

    def update(self, output: RenderOutput, *, step: int, verdict: Verdict) -> dict[str, int] | None:
        """One step along the gradients, unless the verdict is to skip it, then densify if it is due: returns what that
        did.
        """
        self.optimizer.update(step, verdict=verdict, statistics=self.densifier.statistics(output))
        if not self.densifier.due(step):
            return None
        self.densifier.all_reduce(self.ranks)
        counts: dict[str, int] = {}
        if self.ranks.is_main:  # it alone decides: another machine might round otherwise
            counts = self.densifier.event(self.optimizer, seed=self.seed, step=step)
        if self.ranks.world > 1:
            state = self.ranks.broadcast(self._tensors(), self.device)
            self.load_state_dict(state, num_updates=int(self.optimizer.num_updates))
        return counts

    def _densifier(self) -> Densifier:
        c = self.learning
        return Densifier(c.densify, num_splats=len(self.splats), steps=c.steps, device=self.device)

    def state_dict(self) -> dict[str, Tensor]:
        """For all ranks to call: their statistics are added up."""
        self.densifier.all_reduce(self.ranks)
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
        if self.ranks.is_main:
            self.densifier.grad_sum, self.densifier.count = tensors["densify.grad_sum"], tensors["densify.count"]


def initial_splats(init: str, config: SplatsConfig, *, seed: int) -> Splats:
    """The splats of step 0. init: `ball`, `shell`, or `ply:FILE` or `points:FILE` for the splats or the points of a
    file. ValueError for anything else, and for a file that holds none.
    """
    kind, _, path = init.partition(":")
    if init in INITS:
        return INITS[init](config, seed=seed)
    if kind == "points" and path:
        points, colors = ply.read_points(Path(path))
        return init_points(config, points=points, colors=colors, seed=seed)
    if kind != "ply" or not path:
        raise ValueError(f"init: {init!r} is neither 'ball' nor 'shell' nor 'ply:FILE' nor 'points:FILE'.")
    return with_sh_degree(ply.read(Path(path)), config.sh_degree)
