"""One object of a run: its splats, what moves them and what makes them more or fewer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from splatdistill.config.schema import DensifyConfig, OptimConfig, RegularizeConfig
from splatdistill.io.frames import concatenate
from splatdistill.ops.update import Verdict
from splatdistill.scene.gaussians import Splats
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
    """One object of a run: its splats with their optimiser and the statistics of densify. seed: of the splits. budget:
    how many splats there may be, where the settings allow fewer. fixed: splats beside them that never change.
    """

    def __init__(
        self,
        splats: Splats,
        learning: Learning,
        *,
        seed: int,
        budget: int = 0,
        fixed: Splats | None = None,
        ranks: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.budget, self.fixed = budget, fixed
        self.learning = learning
        self.device = splats.device
        self.ranks = ranks
        self.seed = seed
        self.optimizer = SplatOptimizer(splats, learning.optim, steps=learning.steps)
        self.densifier = self._densifier()

    @property
    def splats(self) -> Splats:
        """Those that learn."""
        return self.optimizer.splats

    @property
    def shown(self) -> Splats:
        """What cameras see: those that learn, then those that never change."""
        return self.splats if self.fixed is None else concatenate([self.splats, self.fixed])

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
        densify = replace(c.densify, max_splats=max(c.densify.max_splats, self.budget))
        return Densifier(densify, num_splats=len(self.splats), steps=c.steps, device=self.device)

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
