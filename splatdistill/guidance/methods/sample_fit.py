"""Sampling and fitting: as IM-3D (Melas-Kyriazi et al., arXiv 2402.08682), its first round: g = x_0 - x_DDIM.

x_DDIM are views that the prior draws from noise, once for each camera. Views of a ring are drawn together, and rings
one by one, each before the step that is the first to be fitted to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from splatdistill.config.base import Count, FileOnly, Fraction, MethodConfig, NonNegative, ViewsConfig, Weight
from splatdistill.guidance.base import Guidance, assemble, draw_noise, noisy_batch

if TYPE_CHECKING:
    from torch import Tensor

    from splatdistill.priors.base import Prior
    from splatdistill.scene.types import Cameras, NoisyBatch, Residual


@dataclass(frozen=True)
class SampleFitConfig(MethodConfig):
    """Draw views from the prior by DDIM, and fit the splats to them."""

    weight: FileOnly[Weight] = "one"
    """Only one: nothing is noised here, and the other weights over timesteps are of noise."""
    guidance_scale: NonNegative = 7.5
    """Classifier-free guidance in the diffusers form eps_u + s (eps_c - eps_u)."""
    rounds: Count = 12
    """Steps that draw new views; the later ones fit to these again, in a new order each time."""
    ddim_steps: FileOnly[Count] = 20
    """Denoising steps of each view."""
    t_last: Fraction = 0.02
    """Timestep of the last of them, as a fraction of the schedule: what the prior takes for x_0 there is the view."""

    def check(self, name: str, *, views: ViewsConfig) -> None:
        super().check(name, views=views)
        if self.weight != "one":
            raise ValueError(f"{name}.weight must be one: nothing is noised, and {self.weight} weighs noise.")


class SampleFit(Guidance[SampleFitConfig]):
    """Reconstruction from the prior's own views. They must agree with each other, as those of a prior do that knows
    cameras, and they must say what is object and what is not.
    """

    Settings = SampleFitConfig
    paper = "IM-3D (its first round), arXiv 2402.08682"
    needs_cameras = True
    fits_views = True
    evaluations = 40
    order = 18

    def __init__(self, config: SampleFitConfig, **run: Any) -> None:
        super().__init__(config, **run)
        self._drawn: dict[int, Tensor] = {}

    def bind(self, prior: Prior) -> None:
        if not prior.sees_alpha:
            raise ValueError(
                "method: sample_fit fits splats to views that say what is object, with alpha, and the prior "
                f"{prior.origin} draws none; use another method, or --prior embedded."
            )
        super().bind(prior)
        self._drawn = {}

    def camera_step(self, step: int) -> int:
        """One of `rounds`: all of them in turn, and each turn in another order."""
        import torch

        from splatdistill.utils import rng

        turn, place = divmod(step, self.config.rounds)
        return int(torch.randperm(self.config.rounds, generator=rng.generator(self.seed, turn, "camera"))[place])

    def noise(self, x0: Tensor, cameras: Cameras, prior: Prior, *, seed: int, step: int) -> NoisyBatch:
        """The renders x0 [V,C,h,w] as they are."""
        import torch

        t = x0.new_zeros(len(x0), dtype=torch.int64)
        return noisy_batch(x0, cameras, prior, t=t, eps=torch.zeros_like(x0), ranks=self.ranks)

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        import torch

        number, x0 = self.camera_step(step), batch.x0.detach()
        if number not in self._drawn or self._drawn[number].shape != x0.shape:
            self._drawn[number] = self._draw(x0, batch.cameras, prior, number=number)
        return assemble([(1.0, x0), (-1.0, self._drawn[number])], weight=torch.ones_like(batch.sigma))

    def state_dict(self) -> dict[str, Tensor]:
        """Views that were drawn, of one process; several draw their own again."""
        return {str(number): views for number, views in self._drawn.items()} if self.ranks.world == 1 else {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._drawn = {int(number): views for number, views in state.items()} if self.ranks.world == 1 else {}

    def _draw(self, like: Tensor, cameras: Cameras, prior: Prior, *, number: int) -> Tensor:
        """Views like `like` [V,C,h,w], in half precision: finer than any picture of 8 bits."""
        import torch

        from splatdistill.priors.sampling import FIRST, follow
        from splatdistill.utils.device import send

        c, shape = self.config, (self.ranks.world * len(like), *like.shape[1:])
        x = send(self.ranks.shard(draw_noise(shape, seed=self.seed, step=number)), like.device)
        wanted = [(c.guidance_scale, self.view_dependent_prompts(cameras)), (1 - c.guidance_scale, c.negative_prompt)]
        row = [(share, self.encode_prompt(prior, text, cameras)) for share, text in wanted if share]
        times = (len(prior.alphas_cumprod) - 1) * torch.linspace(FIRST, min(c.t_last, FIRST), c.ddim_steps)
        return follow(prior, x, row, times=[int(t) for t in times.round()]).half()
