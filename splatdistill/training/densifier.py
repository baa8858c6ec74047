"""The densify policy: what is measured, when an event is due and which thresholds it uses.

The work is in ops/densify.py.
"""

from __future__ import annotations

import math

import torch

from splatdistill.config.schema import DensifyConfig
from splatdistill.ops import densify as op
from splatdistill.ops.update import Statistics
from splatdistill.scene.gaussians import Splats
from splatdistill.scene.types import RenderOutput
from splatdistill.training.splat_optimizer import SplatOptimizer
from splatdistill.utils import rng
from splatdistill.utils.distributed import ProcessGroup


class Densifier:
    """Statistics over the steps since the last event, and the events."""

    def __init__(self, config: DensifyConfig, *, num_splats: int, steps: int, device: torch.device) -> None:
        self.config = config
        self.first = max(1, round(config.start * steps))
        self.last_growth = round(config.stop * steps)
        self.steps = steps
        self._reset(num_splats, device)

    def _reset(self, num_splats: int, device: torch.device) -> None:
        self.grad_sum = torch.zeros(num_splats, device=device)
        self.count = torch.zeros(num_splats, dtype=torch.int64, device=device)

    def statistics(self, output: RenderOutput) -> Statistics:
        """What the update adds up: the screen-space gradients of a render whose backward has run."""
        assert output.probe.grad is not None
        own = slice(len(self.count))  # splats that never change come behind those that do
        seen = (x[:, own].contiguous() for x in (output.probe.grad, output.radii))
        return Statistics(self.grad_sum, self.count, *seen)

    def all_reduce(self, ranks: ProcessGroup) -> None:
        """Gives the first rank the statistics of all, and the others none."""
        ranks.all_reduce([self.grad_sum])
        ranks.all_reduce([self.count])
        if not ranks.is_main:
            self._reset(len(self.count), self.count.device)

    def due(self, step: int) -> bool:
        """Whether an event follows step `step` (0-based); the last tenth of a run settles undisturbed."""
        done = step + 1
        return self.first <= done <= 0.9 * self.steps and (done - self.first) % self.config.interval == 0

    def event(self, optimizer: SplatOptimizer, *, seed: int, step: int) -> dict[str, int]:
        """Grow and prune the optimiser's splats; returns how many were cloned, split and pruned."""
        c = self.config
        splats = optimizer.splats.detach()
        mean_grad = self.grad_sum / self.count.clamp(min=1)
        growing = step + 1 <= self.last_growth
        plan = op.classify(
            mean_grad,
            scales=splats.scales,
            opacities=splats.opacities,
            grow_gradient=self._threshold(mean_grad),
            split_scale=math.log(c.split_scale),
            prune_scale=math.log(c.prune_scale),
            prune_opacity=math.log(c.prune_opacity / (1 - c.prune_opacity)),
            max_splats=c.max_splats if growing else 0,
        )
        _, cloned, split, pruned = (int(count) for count in plan.counts.cpu())
        counts = {"cloned": cloned, "split": split, "pruned": pruned}
        if counts["pruned"] == len(splats):  # nothing would be left to optimise: keep all rather than end with nothing
            counts["pruned"] = 0
        elif any(counts.values()):
            tensors, moments = op.scatter(
                splats.tensors, optimizer.moments(), plan=plan, key=rng.key(seed, step, "split")
            )
            optimizer.replace(Splats(**tensors), moments)
        self._reset(len(optimizer.splats), splats.device)
        return counts

    def _threshold(self, mean_grad: torch.Tensor) -> float | torch.Tensor:
        """The gradient above which splats grow, a number or []. mean_grad: [N]."""
        c = self.config
        if c.grow_gradient > 0 or len(mean_grad) == 0:
            return c.grow_gradient
        rank = min(len(mean_grad), int(c.grow_quantile * len(mean_grad)) + 1)
        return torch.kthvalue(mean_grad, rank).values  # stays on the device: an event waits for it once, for its counts
