"""Adam over the splats, with learning rates that fall over the run and moments that densify can rearrange."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from splatdistill.config.schema import OptimConfig
from splatdistill.ops import update
from splatdistill.scene.gaussians import Splats
from splatdistill.utils.adam import MOMENTS

BETAS = update.Betas(0.9, 0.99)
EPS = 1e-15  # far below the gradients' size: distillation gradients have no natural scale
Moments = dict[str, dict[str, Tensor]]


class SplatOptimizer:
    """Adam with one learning rate per tensor: lr(step) = lr * final^(step / steps). num_updates: [] float32, the steps
    that were taken and not skipped.
    """

    def __init__(self, splats: Splats, config: OptimConfig, *, steps: int) -> None:
        self.config = config
        self.steps = steps
        self._bind(splats, {}, torch.zeros((), device=splats.device))

    def _bind(self, splats: Splats, moments: Moments, num_updates: Tensor) -> None:
        self.splats = splats.requires_grad_()
        self._moments = {name: dict(state) for name, state in moments.items()}
        self.num_updates = num_updates.to(splats.device, copy=True)

    @property
    def _tensors(self) -> dict[str, Tensor]:
        """Those with a learning rate."""
        return {name: value for name, value in self.splats.tensors.items() if hasattr(self.config, name)}

    @property
    def grads(self) -> list[Tensor]:
        """The gradients that there are, each like its tensor [N,...]."""
        return [x.grad for x in self._tensors.values() if x.grad is not None]

    def update(self, step: int, *, verdict: update.Verdict, statistics: update.Statistics) -> None:
        """One Adam step with the learning rates of `step`, unless the verdict is to skip it; adds to the statistics of
        densify in any case. Gradients are then dropped.
        """
        decay = self.config.final ** (step / max(1, self.steps))
        learned: list[update.Learned] = []
        for name, x in self._tensors.items():
            if x.grad is None:
                continue
            if name not in self._moments:
                self._moments[name] = {key: torch.zeros_like(x) for key in MOMENTS}
            moments = (self._moments[name][key] for key in MOMENTS)
            learned.append(update.Learned(x, x.grad, *moments, rate=getattr(self.config, name) * decay))
        update.update(
            learned, verdict=verdict, num_updates=self.num_updates, betas=BETAS, eps=EPS, statistics=statistics
        )
        for x in self._tensors.values():
            x.grad = None

    def moments(self) -> Moments:
        """First and second moments per tensor name; empty before the first update."""
        return {name: dict(self._moments[name]) for name in self._tensors if name in self._moments}

    def replace(self, splats: Splats, moments: Moments, *, num_updates: Tensor | None = None) -> None:
        """Go on with other splats and their moments; the update count num_updates [] (bias correction) stays, if none
        is given.
        """
        self._bind(splats, moments, self.num_updates if num_updates is None else num_updates)


def check(optimizers: Sequence[SplatOptimizer], *, num_nonfinite: Tensor) -> update.Verdict:
    """Whether the step is taken: by all of them, which have taken as many steps, or by none. Their counts go up by one
    if it is. num_nonfinite: [] int64, numbers found not to be finite before.
    """
    first = optimizers[0]
    grads = [grad for optimizer in optimizers for grad in optimizer.grads]
    verdict = update.check(grads, num_nonfinite=num_nonfinite, num_updates=first.num_updates, betas=BETAS)
    for optimizer in optimizers:
        optimizer.num_updates = first.num_updates
    return verdict
