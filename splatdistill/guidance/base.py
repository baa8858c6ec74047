"""What every guidance method shares: its contract, noising, and rows of coefficients over scores.

A method's file holds its settings too, and these must be known without torch: what needs torch imports it when it
runs, here and in the files of the methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Generic, TypeAlias, TypeVar

from splatdistill.config.base import AnnealedConfig, MethodConfig, ViewsConfig
from splatdistill.guidance.schedules import anneal, draw_timesteps, timestep_range
from splatdistill.priors.prompts import seen_from

if TYPE_CHECKING:
    from torch import Tensor

    from splatdistill.priors.base import Condition, Prior
    from splatdistill.scene.types import Cameras, NoisyBatch, Residual, SurfaceViews
    from splatdistill.utils.distributed import ProcessGroup

C = TypeVar("C", bound=MethodConfig)
A = TypeVar("A", bound=AnnealedConfig)
Term: TypeAlias = "tuple[float | Tensor, Tensor]"
"""A coefficient, one number or [V], and the tensor [V,C,h,w] that it multiplies."""


class Guidance(ABC, Generic[C]):
    """A method: how renders are noised and which combination of scores is their gradient.

    group: views that share a timestep. steps: of the whole run. views: of view-dependent prompts. ranks: who else
    draws views of a step; None for nobody. Methods with state override the rest.
    """

    Settings: ClassVar[type[MethodConfig]]
    """The section of the settings that is the method's."""
    paper: ClassVar[str] = ""
    """Short title and arXiv number, for tables."""
    needs_cameras: ClassVar[bool] = False
    """The prior must be conditioned on the camera."""
    fits_views: ClassVar[bool] = False
    """Renders are fitted to views that the prior draws: these must have alpha, and no light may fall on the renders."""
    needs_source: ClassVar[bool] = False
    """Batches must hold what the run began with, seen from the same cameras."""
    needs_surface: ClassVar[bool] = False
    """Noise lies on the object: before it is drawn, `surface` must say where that is."""
    evaluations: ClassVar[int]
    """Network evaluations per view and step, those of what it learns included."""
    single_view: ClassVar[bool] = False
    """Every view is scored on its own, even where the prior can see several at once."""
    learned: ClassVar[frozenset[str]] = frozenset()
    """Settings of what the method learns on the prior. A stage can change neither these nor the prior."""
    order: ClassVar[int] = 100
    """Place in lists of methods, where equal ones stand by name."""

    particles = 1  # objects that learn at once
    surface: SurfaceViews | None = None  # of the renders to be noised
    camera_conditioned = True, True  # whether the prior can take that of a view on its own, and those of a group

    def __init__(
        self,
        config: C,
        *,
        prompt: str,
        group: int,
        steps: int,
        seed: int = 0,
        views: ViewsConfig | None = None,
        ranks: ProcessGroup | None = None,
    ) -> None:
        from splatdistill.utils.distributed import SINGLE_PROCESS

        self.config = config
        self.prompt = prompt
        self.group = group
        self.views = views or ViewsConfig()
        self.ranks = ranks or SINGLE_PROCESS
        self.steps = steps
        self.seed = seed

    def bind(self, prior: Prior) -> None:
        """Called before the first step with a prior. ValueError, one sentence, when the method cannot use it."""
        self.camera_conditioned = prior.supports_single_view_cameras, prior.knows_cameras

    def camera_step(self, step: int) -> int:
        """The step whose cameras are taken: each has its own, but where a method comes back to some."""
        return step

    @abstractmethod
    def noise(self, x0: Tensor, cameras: Cameras, prior: Prior, *, seed: int, step: int) -> NoisyBatch:
        """x_t = alpha x0 + sigma eps for one step. x0: [V,C,h,w] with grad."""

    @abstractmethod
    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        """The scores [V,C,h,w] that make up the gradient of x0, with their coefficients [K,V] and weight [V]."""

    def clamp(self, step: int) -> float | None:
        """Largest absolute gradient per element at this step."""
        first, last = self.config.clamp
        return anneal(first, last, progress=self.progress(step), over=1.0) or None

    @property
    def wants_view_dependent_prompts(self) -> bool:
        """Whether prompts name the side of a view where the settings leave that open: where the prior cannot be
        conditioned on the camera.
        """
        single, together = self.camera_conditioned
        return not (self.views.camera_embedding and (single if self.group == 1 else together))

    def view_dependent_prompts(self, cameras: Cameras, *, of: str | None = None) -> str | list[str]:
        """The prompt, or the prompt of each view with the word of the side that is seen. of: another prompt."""
        views, prompt = self.views, self.prompt if of is None else of
        untold = views.view_dependent_prompts == "auto" and not self.wants_view_dependent_prompts
        if views.view_dependent_prompts == "off" or untold or not prompt:
            return prompt
        from splatdistill.scene.cameras import view_words

        words = view_words(cameras, front_deg=views.front_deg, overhead_deg=views.overhead_deg)
        return [seen_from(prompt, word) for word in words]

    def encode_prompt(self, prior: Prior, prompt: str | Sequence[str], cameras: Cameras) -> Condition:
        """The condition for a prompt, or one for each view; it holds the cameras unless the settings forbid. Groups of
        one are views that do not attend to each other.
        """
        joint, with_camera = self.group != 1, self.views.camera_embedding
        return prior.embed(prompt, cameras, use_camera_embedding=with_camera, cross_view_attention=joint)

    def progress(self, step: int) -> float:
        """How much of the run is done, 0..1."""
        return step / max(1, self.steps)

    def update(self, batch: NoisyBatch, *, seed: int, step: int, measure: bool) -> dict[str, Tensor]:
        """Train what the method itself learns, after the splats' own step; returns numbers for the log, if asked
        to `measure`, each [], and where it learns `skipped` [] bool, whether it could not.
        """
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        assert not state


class AnnealedGuidance(Guidance[A]):
    """Methods whose timesteps are drawn from a range that narrows, with fresh noise for every view and step."""

    def noise(self, x0: Tensor, cameras: Cameras, prior: Prior, *, seed: int, step: int) -> NoisyBatch:
        from splatdistill.utils.device import send

        low, high = timestep_range(self.config, progress=self.progress(step))
        ranks, rows = self.ranks, self.ranks.world * len(x0)
        t = draw_timesteps(
            num_views=rows, group=self.group, num_train=len(prior.alphas_cumprod), low=low, high=high,
            seed=seed, step=step, device=x0.device,
        )  # fmt: skip
        t = ranks.shard(t, particles=self.particles)
        eps = self.draw_eps(x0, cameras, seed=seed, step=step)
        return noisy_batch(x0, cameras, prior, t=t, eps=send(eps, x0.device), ranks=ranks)

    def draw_eps(self, x0: Tensor, cameras: Cameras, *, seed: int, step: int) -> Tensor:
        """Standard normal noise like x0 [V,C,h,w] for this process's views, on any device."""
        shape = self.ranks.world * len(x0), *x0.shape[1:]
        return self.ranks.shard(draw_noise(shape, seed=seed, step=step), particles=self.particles)


def noisy_batch(
    x0: Tensor, cameras: Cameras, prior: Prior, *, t: Tensor, eps: Tensor, ranks: ProcessGroup | None = None
) -> NoisyBatch:
    """Noise x0 [V,C,h,w] to timesteps t [V] with eps like x0. ranks: None for this process alone."""
    from splatdistill import ops
    from splatdistill.scene.types import NoisyBatch
    from splatdistill.utils.distributed import SINGLE_PROCESS

    alphas_cumprod = prior.alphas_cumprod.to(x0.device)[t]
    alpha, sigma = alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()
    xt = ops.noising(x0.detach(), eps=eps, alpha=alpha, sigma=sigma)
    return NoisyBatch(x0, t, eps, xt, alpha, sigma, cameras, ranks or SINGLE_PROCESS)


def moved(batch: NoisyBatch, prior: Prior, *, eps: Tensor, t: Tensor) -> NoisyBatch:
    """`batch` moved to timesteps t [V] along eps [V,C,h,w], a step of DDIM (arXiv 2010.02502) down or up: x_t / alpha
    changes by eps times the change of sigma / alpha.
    """
    there = noisy_batch(batch.x0, batch.cameras, prior, t=t, eps=batch.eps)
    change = there.sigma / there.alpha - batch.sigma / batch.alpha
    xt = per_view(there.alpha) * (batch.xt / per_view(batch.alpha) + per_view(change) * eps)
    return replace(there, xt=xt, ranks=batch.ranks, source=batch.source)


def source_of(batch: NoisyBatch) -> NoisyBatch:
    """What the run began with, under the noise of `batch` at its timesteps."""
    from splatdistill import ops

    assert batch.source is not None
    xt = ops.noising(batch.source, eps=batch.eps, alpha=batch.alpha, sigma=batch.sigma)
    return replace(batch, x0=batch.source, xt=xt)


def draw_noise(shape: Sequence[int], *, seed: int, step: int) -> Tensor:
    """Standard normal noise of that shape on the CPU, [V,C,h,w] as a rule, the same numbers for every device."""
    import torch

    from splatdistill.utils import rng

    return torch.randn(tuple(shape), generator=rng.generator(seed, step, "noise"))


def evaluate(batch: NoisyBatch, prior: Prior, scores: Sequence[tuple[float | Tensor, Condition]]) -> list[Term]:
    """The prior's scores [V,C,h,w] at x_t in one network call, each with its coefficient, one number or [V]. Those with
    coefficient 0 are left out and never evaluated.
    """
    used = [(c, condition) for c, condition in scores if not isinstance(c, float | int) or c != 0]
    predicted = prior.predict(batch.xt, batch.t, [condition for _, condition in used]) if used else []
    return [(c, eps) for (c, _), eps in zip(used, predicted, strict=True)]


def assemble(terms: Sequence[Term], *, weight: Tensor) -> Residual:
    """The residual weight * (sum of coefficient x tensor); weight: [V]."""
    import torch
    from torch import Tensor

    from splatdistill.scene.types import Residual
    from splatdistill.utils.device import send

    numbers, views = [c for c, _ in terms if not isinstance(c, Tensor)], len(weight)
    if len(numbers) == len(terms):
        coef = send(torch.tensor([[c] * views for c in numbers], dtype=weight.dtype), weight.device)
    else:
        coef = torch.stack(
            [c.expand(views) if isinstance(c, Tensor) else weight.new_full((views,), c) for c, _ in terms]
        )
    return Residual(terms=[tensor for _, tensor in terms], coef=coef, weight=weight)


def total(terms: Sequence[Term]) -> Tensor:
    """[V,C,h,w] sum of coefficient x tensor, for methods that measure a score before they use it."""
    import torch
    from torch import Tensor

    return torch.stack([per_view(c) * x if isinstance(c, Tensor) else c * x for c, x in terms]).sum(0)


def deviations(rows: Sequence[Sequence[Term]], *, group: int = 1) -> list[Tensor]:
    """[V] standard deviation of the sum of each row of coefficient x tensor, over the elements of a view, or over all
    those of its `group`. The tensors are read once, and the sums themselves never made.
    """
    from splatdistill import ops

    tensors = list({id(x): x for row in rows for _, x in row}.values())
    place = {id(x): i for i, x in enumerate(tensors)}
    sums, gram = ops.gram(tensors)
    size = group * tensors[0][0].numel()
    out: list[Tensor] = []
    for row in rows:
        coef = sums.new_zeros(sums.shape)
        for c, x in row:
            coef[:, place[id(x)]] += c
        mean = (coef * sums).sum(1)
        square = ((coef[:, None] @ gram)[:, 0] * coef).sum(1)
        mean, square = (x.view(-1, group).sum(1) / size for x in (mean, square))
        std = (square - mean**2).clamp(min=0).sqrt()
        out.append(std.repeat_interleave(group).to(tensors[0].dtype))
    return out


def per_view(x: Tensor) -> Tensor:
    """[V] as [V,1,1,1]."""
    return x.view(-1, 1, 1, 1)
