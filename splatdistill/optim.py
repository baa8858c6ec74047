"""Adam over the splats: one group per tensor, learning rates that fall over the run, moments that densify can
rearrange.
"""

from __future__ import annotations

import torch
from torch import Tensor

from splatdistill.config import OptimConfig
from splatdistill.splats import Splats

MOMENTS = ("exp_avg", "exp_avg_sq")
Moments = dict[str, dict[str, Tensor]]


class SplatOptimizer:
    """Adam (fused) with one learning rate per tensor: lr(step) = lr * final^(step / steps)."""

    def __init__(self, splats: Splats, config: OptimConfig, *, steps: int) -> None:
        self.config = config
        self.steps = steps
        self.num_updates = 0
        self._bind(splats, {})

    def _bind(self, splats: Splats, moments: Moments) -> None:
        self.splats = splats.requires_grad_()
        groups = [
            {"params": [value], "name": name} for name, value in splats.tensors.items() if hasattr(self.config, name)
        ]
        # eps far below the gradients' size: distillation gradients have no natural scale.
        self._adam = torch.optim.Adam(groups, lr=0.0, betas=(0.9, 0.99), eps=1e-15, fused=True)
        for name, state in moments.items():
            step = torch.full((), float(self.num_updates), device=splats.device)
            self._adam.state[splats.tensors[name]] = {"step": step, **state}

    def update(self, step: int) -> None:
        """One Adam step with the learning rates of `step`; gradients are then dropped."""
        decay = self.config.final ** (step / max(1, self.steps))
        for group in self._adam.param_groups:
            group["lr"] = getattr(self.config, group["name"]) * decay
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        self.num_updates += 1

    def moments(self) -> Moments:
        """First and second moments per tensor name; empty before the first update."""
        state = self._adam.state
        return {
            group["name"]: {key: state[group["params"][0]][key] for key in MOMENTS}
            for group in self._adam.param_groups
            if group["params"][0] in state
        }

    def replace(self, splats: Splats, moments: Moments) -> None:
        """Go on with other splats and their moments; the update count (bias correction) stays."""
        self._bind(splats, moments)
