"""Adam over any tensors, to the bit torch's fused one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTS = ("exp_avg", "exp_avg_sq")
KERNELS: Any = torch  # for those of its operators that it has no public name for


def any_nonfinite(tensors: Iterable[Tensor]) -> Tensor:
    """[] bool on their device, which is not waited for: whether a value of tensors of any shape is NaN or infinite, or
    its square is.
    """
    total = torch.stack(KERNELS._foreach_norm(list(tensors))).sum()
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
        for group in self.param_groups:
            learned = [x for x in group["params"] if x.grad is not None]
            if not learned:
                continue
            states = [self._state(x) for x in learned]
            steps, grads = [state["step"] for state in states], [_beside(x) for x in learned]
            KERNELS._foreach_add_(steps, 1)
            KERNELS._fused_adam_(
                learned, grads, *([state[key] for state in states] for key in MOMENTS), [], steps,
                lr=group["lr"], beta1=self.betas[0], beta2=self.betas[1], weight_decay=0.0, eps=self.eps,
                amsgrad=False, maximize=False, grad_scale=None, found_inf=found_inf,
            )  # fmt: skip
            KERNELS._foreach_sub_(steps, [found_inf] * len(steps))
        for group in self.param_groups:
            for x in group["params"]:
                x.grad = None

    def _state(self, x: Tensor) -> dict[str, Tensor]:
        """The count and the moments of a parameter x of any shape."""
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
