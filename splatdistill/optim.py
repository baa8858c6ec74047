"""Adam over the splats: one group per tensor, learning rates that fall over the run, moments that densify can
rearrange.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from splatdistill.config import OptimConfig
from splatdistill.splats import Splats

MOMENTS = ("exp_avg", "exp_avg_sq")
Moments = dict[str, dict[str, Tensor]]


def any_nonfinite(tensors: Iterable[Tensor]) -> Tensor:
    """[] bool on their device, which is not waited for: whether a value is NaN or infinite, or its square is."""
    return ~torch.isfinite(torch.stack([torch.linalg.vector_norm(x) for x in tensors]).sum())


def adam_step(adam: torch.optim.Adam, *, skip: Tensor) -> None:
    """One step of a fused Adam, or none where `skip` [] bool says so: parameters, moments and count then stay, and
    nothing waits for the device. Gradients are dropped.
    """
    adam.found_inf = skip.float()  # type: ignore[attr-defined]  # as GradScaler tells it
    adam.step()
    adam.zero_grad(set_to_none=True)


def num_updates(adam: torch.optim.Adam) -> Tensor:
    """[] float32 on the device: the steps that were taken and not skipped."""
    for state in adam.state.values():
        return state["step"]
    return torch.zeros(())


class SplatOptimizer:
    """Adam (fused) with one learning rate per tensor: lr(step) = lr * final^(step / steps)."""

    def __init__(self, splats: Splats, config: OptimConfig, *, steps: int) -> None:
        self.config = config
        self.steps = steps
        self._bind(splats, {}, torch.zeros(()))

    def _bind(self, splats: Splats, moments: Moments, num_updates: Tensor) -> None:
        self.splats = splats.requires_grad_()
        groups = [
            {"params": [value], "name": name} for name, value in splats.tensors.items() if hasattr(self.config, name)
        ]
        # eps far below the gradients' size: distillation gradients have no natural scale.
        self._adam = torch.optim.Adam(groups, lr=0.0, betas=(0.9, 0.99), eps=1e-15, fused=True)
        for name, state in moments.items():
            self._adam.state[splats.tensors[name]] = {"step": num_updates.to(splats.device, copy=True), **state}

    @property
    def num_updates(self) -> Tensor:
        """[] float32: Adam steps that were not skipped."""
        return num_updates(self._adam)

    @property
    def grads(self) -> list[Tensor]:
        return [x.grad for group in self._adam.param_groups for x in group["params"] if x.grad is not None]

    def update(self, step: int, *, skip: Tensor) -> None:
        """One Adam step with the learning rates of `step`, unless `skip` [] bool; gradients are then dropped."""
        decay = self.config.final ** (step / max(1, self.steps))
        for group in self._adam.param_groups:
            group["lr"] = getattr(self.config, group["name"]) * decay
        adam_step(self._adam, skip=skip)

    def moments(self) -> Moments:
        """First and second moments per tensor name; empty before the first update."""
        state = self._adam.state
        return {
            group["name"]: {key: state[group["params"][0]][key] for key in MOMENTS}
            for group in self._adam.param_groups
            if group["params"][0] in state
        }

    def replace(self, splats: Splats, moments: Moments, *, num_updates: Tensor | None = None) -> None:
        """Go on with other splats and their moments; the update count (bias correction) stays, if none is given."""
        self._bind(splats, moments, self.num_updates if num_updates is None else num_updates)
