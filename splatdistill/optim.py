"""Adam over the splats, with learning rates that fall over the run and moments that densify can rearrange; and Adam
over any tensors.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from splatdistill.config import OptimConfig
from splatdistill.ops import update
from splatdistill.splats import Splats

MOMENTS = ("exp_avg", "exp_avg_sq")
BETAS = update.Betas(0.9, 0.99)
EPS = 1e-15  # far below the gradients' size: distillation gradients have no natural scale
Moments = dict[str, dict[str, Tensor]]
KERNELS: Any = torch  # for those of its operators that it has no public name for


def any_nonfinite(tensors: Iterable[Tensor]) -> Tensor:
    """[] bool on their device, which is not waited for: whether a value is NaN or infinite, or its square is."""
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
        return [x.grad for x in self._tensors.values() if x.grad is not None]

    def update(self, step: int, *, verdict: update.Verdict, statistics: update.Statistics) -> None:
        """One Adam step with the learning rates of `step`, unless the verdict is to skip it; adds to the statistics of
        densify in any case. Gradients are then dropped.
        """
        decay = self.config.final ** (step / max(1, self.steps))
        learned = []
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
        """Go on with other splats and their moments; the update count (bias correction) stays, if none is given."""
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
