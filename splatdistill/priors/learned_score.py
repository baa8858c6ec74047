"""The variational score of VSD and ESD when it is learned: a denoiser of the run's renders, with or without camera."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from splatdistill.priors.offload import MicroBatches
from splatdistill.priors.schedule import Prediction, alpha_sigma, target, to_epsilon
from splatdistill.scene.cameras import camera_token
from splatdistill.scene.types import NoisyBatch
from splatdistill.utils import rng
from splatdistill.utils.adam import KERNELS, MOMENTS, Adam, any_nonfinite
from splatdistill.utils.device import send


class LearnedScore(ABC):
    """Denoising regression on the renders of each step, with its own timesteps, noise, camera dropout and optimiser.

    A camera row of zeros is "no camera": those rows learn the score of renders from all cameras.
    """

    prediction: Prediction = "epsilon"

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        *,
        alphas_cumprod: Tensor,
        lr: float,
        dropout: float,
        particles: int,
        copies: Mapping[str, Tensor] | None = None,
    ) -> None:
        """alphas_cumprod: [1000] of the prior. dropout: chance of a render to come without its camera. particles: that
        many objects share the score; an update learns from as many renders as there are cameras. copies: in another
        type, what `forward` computes with in place of the parameters of these names.
        """
        self.parameters = dict(parameters)
        self._copies = dict(copies or {})
        self._leaves = [self._copies.get(name, value) for name, value in self.parameters.items()]
        self._grads = [torch.zeros_like(value) for value in self.parameters.values()]
        self._has_grad = [False] * len(self._grads)  # which of them the last loss depended on
        self.alphas_cumprod = alphas_cumprod
        self.dropout = dropout
        self.particles = particles
        self.micro_batches = MicroBatches()
        self._adam = Adam([{"params": self.parameters.values(), "lr": lr}], betas=(0.9, 0.99))

    @abstractmethod
    def forward(self, xt: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """The network's answer, as `prediction` names it; differentiable. xt: [R,C,h,w]; t: [R]; tokens: [R,16]."""

    @abstractmethod
    def frozen(self, xt: Tensor, t: Tensor) -> Tensor:
        """What `forward` answered without a camera before it learned: like xt [V,C,h,w], at timesteps t [V]."""

    @torch.no_grad()
    def predict(self, batch: NoisyBatch, with_camera: Sequence[bool]) -> list[Tensor]:
        """fp32 epsilon at x_t, one tensor [V,C,h,w] for each entry of `with_camera`, in one network call."""
        tokens = send(camera_token(batch.cameras), batch.xt.device)
        rows = torch.cat([tokens if given else torch.zeros_like(tokens) for given in with_camera])
        return list(self._run(self._score, batch.xt, batch.t, rows).chunk(len(with_camera)))

    def _score(self, xt: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """fp32 epsilon for each row of tokens, in groups of as many as xt has."""
        num = len(tokens) // len(xt)
        xt, t = xt.repeat(num, 1, 1, 1), t.repeat(num)
        return self._epsilon(self._answers(xt, t, tokens), xt, t)

    def _run(self, call: Callable[..., Tensor], *inputs: Tensor, **settings: Any) -> Tensor:
        """`call(*inputs, **settings)`, or its replay."""
        return call(*inputs, **settings)

    def update(self, batch: NoisyBatch, *, seed: int, step: int, measure: bool) -> dict[str, Tensor]:
        """One step of regression on the renders of `batch`, which it has not learned from yet. `skipped` [] bool says
        that its gradient was not finite, so that nothing was learned.
        """
        ranks = batch.ranks
        total, *drawn = self._draw(batch, seed=seed, step=step)
        t, eps, with_camera, tokens, rows = (send(x, batch.xt.device) for x in drawn)
        x0 = batch.x0.detach()[rows]
        alpha, sigma = self._alpha_sigma(t)
        xt = alpha * x0 + sigma * eps
        wanted = target(self.prediction, x0, eps, alpha=alpha, sigma=sigma)
        numbers = self._measure(xt, t, tokens, wanted) if measure else {}
        for value in numbers.values():  # of all ranks' rows
            ranks.all_reduce([value.mul_(len(xt) / total)])
        tokens = tokens * with_camera

        def learn(part: slice) -> Tensor:
            rows = (xt[part], t[part], tokens[part], wanted[part])
            share, afresh = len(rows[0]) / total, part.start == 0
            loss = self._run(self._differentiate, *rows, share=share, afresh=afresh)
            for parameter, grad, has in zip(self.parameters.values(), self._grads, self._has_grad, strict=True):
                parameter.grad = grad if has else parameter.grad
            return loss

        if ranks.world > 1:  # a rank may have no row, but a sum needs something of everyone
            KERNELS._foreach_zero_(self._grads)
            for parameter, grad in zip(self.parameters.values(), self._grads, strict=True):
                parameter.grad = grad
        if len(xt):
            self.micro_batches.run(learn, len(xt))
        ranks.all_reduce(p.grad for p in self.parameters.values() if p.grad is not None)
        skipped = any_nonfinite(p.grad for p in self.parameters.values() if p.grad is not None)
        self._adam.step(skip=skipped)
        self._copy()
        return {**numbers, "skipped": skipped}

    def _differentiate(
        self, xt: Tensor, t: Tensor, tokens: Tensor, wanted: Tensor, *, share: float, afresh: bool
    ) -> Tensor:
        """[1] the loss of some rows, times the `share` that they are of all. Its gradient is added to `_grads`, or put
        there: all parameters at once, in their own memory order, which a convolution's gradient may not have. xt,
        wanted: [R,C,h,w]; t: [R]; tokens: [R,16].
        """
        with torch.enable_grad():
            loss = (self.forward(xt, t, tokens) - wanted).square().mean() * share
            grads = torch.autograd.grad(loss, self._leaves, allow_unused=True)
        before = [has and not afresh for has in self._has_grad]
        for write, again in ((KERNELS._foreach_copy_, False), (KERNELS._foreach_add_, True)):
            chosen = [
                (mine, grad)
                for mine, grad, has in zip(self._grads, grads, before, strict=True)
                if grad is not None and has == again
            ]
            if chosen:
                write(*(list(x) for x in zip(*chosen, strict=True)))
        self._has_grad = [has or grad is not None for has, grad in zip(before, grads, strict=True)]
        return loss.detach()[None]

    @torch.no_grad()
    def _copy(self) -> None:
        """Brings the copies up to date."""
        if self._copies:
            KERNELS._foreach_copy_(list(self._copies.values()), [self.parameters[name] for name in self._copies])

    def _draw(self, batch: NoisyBatch, *, seed: int, step: int) -> tuple[int, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """How many renders an update learns from; then for those of this rank their timesteps, noise, whether they
        come with their camera [R,1], its token, and their rows in the batch.
        """
        g, ranks = rng.generator(seed, step, "lora"), batch.ranks
        rows = ranks.world * len(batch.x0)
        picked = torch.randperm(rows, generator=g)[: rows // self.particles]
        t = torch.randint(0, len(self.alphas_cumprod), (len(picked),), generator=g)
        eps = torch.randn((len(picked), *batch.x0.shape[1:]), generator=g)
        with_camera = (torch.rand(len(picked), 1, generator=g) >= self.dropout).float()
        place = torch.full((rows,), -1)  # of each row among those of this rank
        place[ranks.shard(torch.arange(rows), particles=self.particles)] = torch.arange(len(batch.x0))
        place = place[picked]
        mine = place >= 0
        tokens = camera_token(batch.cameras)[place[mine]]
        return len(picked), t[mine], eps[mine], with_camera[mine], tokens, place[mine]

    @torch.no_grad()
    def _measure(self, xt: Tensor, t: Tensor, tokens: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Losses on renders not learned from yet, against the frozen network's; how much the camera changes. xt,
        wanted: [R,C,h,w]; t: [R]; tokens: [R,16].
        """
        if not len(xt):
            return {name: wanted.new_zeros(()) for name in ("lora_loss", "frozen_loss", "camera_ratio")}
        both = self._answers(xt.repeat(2, 1, 1, 1), t.repeat(2), torch.cat([tokens, torch.zeros_like(tokens)]))
        with_camera, without_camera = self._epsilon(both, xt.repeat(2, 1, 1, 1), t.repeat(2)).chunk(2)
        return {
            "lora_loss": (both[: len(xt)] - wanted).square().mean(),
            "frozen_loss": (self._still(xt, t) - wanted).square().mean(),
            "camera_ratio": (with_camera - without_camera).norm() / with_camera.norm(),
        }

    def _answers(self, xt: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        return self.micro_batches.run(lambda part: self.forward(xt[part], t[part], tokens[part]), len(xt))

    def _still(self, xt: Tensor, t: Tensor) -> Tensor:
        return self.micro_batches.run(lambda part: self.frozen(xt[part], t[part]), len(xt))

    def _epsilon(self, out: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self._alpha_sigma(t)
        return to_epsilon(self.prediction, out, xt, alpha=alpha, sigma=sigma)

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return alpha_sigma(self.alphas_cumprod, t)

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters, moments and the number of updates."""
        state = {f"parameter.{name}": value.detach() for name, value in self.parameters.items()}
        for name, value in self.parameters.items():
            state |= {f"{key}.{name}": self._adam.state[value][key] for key in MOMENTS if value in self._adam.state}
        return {**state, "num_updates": self._adam.num_updates.long()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for name, value in self.parameters.items():
            value.copy_(state[f"parameter.{name}"])
            if f"{MOMENTS[0]}.{name}" in state:
                moments = {key: state[f"{key}.{name}"].to(value).clone() for key in MOMENTS}
                self._adam.state[value] = {
                    "step": state["num_updates"].to(value.device, torch.float32, copy=True),
                    **moments,
                }
        self._copy()
