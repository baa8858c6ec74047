"""Adam over the splats: one group per tensor, learning rates that fall over the run, moments that densify can
rearrange.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from splatdistill.config import OptimConfig
from splatdistill.splats import Splats

MOMENTS = ("exp_avg", "exp_avg_sq")
Moments = dict[str, dict[str, Tensor]]
_KERNELS: Any = torch  # for those of its operators that it has no public name for


def any_nonfinite(tensors: Iterable[Tensor]) -> Tensor:
    """[] bool on their device, which is not waited for: whether a value is NaN or infinite, or its square is."""
    total = torch.stack(_KERNELS._foreach_norm(list(tensors))).sum()
    return ~(total < torch.inf)  # so is no NaN


def _beside(x: Tensor) -> Tensor:
    """The gradient of `x` in the memory order of `x`, in which the fused kernel pairs elements, on a CPU unchecked.
    Gradients of convolutions may come in the order of their inputs.
    """
    assert x.grad is not None
    return x.grad if x.grad.stride() == x.stride() else torch.empty_like(x).copy_(x.grad)


class Adam:
    """torch.optim.Adam with fused=True, to the bit. Making one of torch's loads its compiler, which takes seconds.

    param_groups: dictionaries with params and lr. state: of each parameter that has learned, its step [] float32,
    exp_avg and exp_avg_sq.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, betas: tuple[float, float], eps: float = 1e-8) -> None:
        self.param_groups = [{**group, "params": list(group["params"])} for group in groups]
        self.betas, self.eps = betas, eps
        self.state: dict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    @torch.no_grad()
    def step(self, *, skip: Tensor) -> None:
        """One step, or none where `skip` [] bool says so: parameters, moments and count then stay, and nothing waits
        for the device. Gradients are dropped.
        """
        found_inf = skip.float()
        learned = [(group["lr"], [x for x in group["params"] if x.grad is not None]) for group in self.param_groups]
        counts = [self._state(x)["step"] for _, some in learned for x in some]
        if not counts:
            return
        _KERNELS._foreach_add_(counts, 1)
        for lr, some in learned:
            if some:
                states = [self.state[x] for x in some]
                _KERNELS._fused_adam_(
                    some, [_beside(x) for x in some], *([state[key] for state in states] for key in MOMENTS), [],
                    [state["step"] for state in states], lr=lr, beta1=self.betas[0], beta2=self.betas[1],
                    weight_decay=0.0, eps=self.eps, amsgrad=False, maximize=False, grad_scale=None,
                    found_inf=found_inf,
                )  # fmt: skip
        _KERNELS._foreach_sub_(counts, [found_inf] * len(counts))
        for group in self.param_groups:
            for x in group["params"]:
                x.grad = None

    def _state(self, x: Tensor) -> dict[str, Tensor]:
        state = self.state[x]
        if not state:
            state["step"] = torch.zeros((), device=x.device)
            state |= {key: torch.zeros_like(x) for key in MOMENTS}
        return state

    @property
    def num_updates(self) -> Tensor:
        """[] float32 on the device: the steps that were taken and not skipped."""
        for state in self.state.values():
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
        self._adam = Adam(groups, betas=(0.9, 0.99), eps=1e-15)
        for name, state in moments.items():
            self._adam.state[splats.tensors[name]] = {"step": num_updates.to(splats.device, copy=True), **state}

    @property
    def num_updates(self) -> Tensor:
        """[] float32: Adam steps that were not skipped."""
        return self._adam.num_updates

    @property
    def grads(self) -> list[Tensor]:
        return [x.grad for group in self._adam.param_groups for x in group["params"] if x.grad is not None]

    def update(self, step: int, *, skip: Tensor) -> None:
        """One Adam step with the learning rates of `step`, unless `skip` [] bool; gradients are then dropped."""
        decay = self.config.final ** (step / max(1, self.steps))
        for group in self._adam.param_groups:
            group["lr"] = getattr(self.config, group["name"]) * decay
        self._adam.step(skip=skip)

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
