"""MV: MVDream (Shi et al., arXiv 2308.16512), reconstruction loss: g = w(t) (alpha / sigma) (x_0 - k x_0').

With the guided estimate x_0' = x_0 - (sigma / alpha) (eps_cfg - eps) this is
g = w (k (eps_cfg - eps) + (1 - k) (alpha / sigma) x_0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from splatdistill.config.base import AnnealedConfig, FileOnly, Fraction, NonNegative, Weight
from splatdistill.guidance.base import AnnealedGuidance, Term, assemble, deviations, evaluate
from splatdistill.guidance.schedules import weights

if TYPE_CHECKING:
    from torch import Tensor

    from splatdistill.priors.base import Prior
    from splatdistill.scene.types import NoisyBatch, Residual


@dataclass(frozen=True)
class MultiViewConfig(AnnealedConfig):
    """Multi-view score distillation with MVDream's reconstruction loss."""

    weight: Weight = "sigma_over_alpha"
    """Weight over timesteps: sigma^2, 1, sigma/alpha (capped at 13, MVDream's) or alpha sigma^2 (fantasia)."""
    t_min_first: FileOnly[Fraction] = 0.98
    """Lowest timestep at the first step, from which it falls to t_min; 0 is t_min all along."""
    anneal: Fraction = 0.8
    """Fraction of the steps over which the range moves, 0..1; 0 starts with the final range."""
    guidance_scale: NonNegative = 50.0
    """Classifier-free guidance in the diffusers form eps_u + s (eps_c - eps_u)."""
    rescale: Fraction = 0.5
    """Pulls the reconstruction's standard deviation over a group towards the unguided one's, 0..1."""


class MultiView(AnnealedGuidance[MultiViewConfig]):
    """Views of a group are scored together. k keeps guidance from stretching their common contrast."""

    Settings = MultiViewConfig
    paper = "MVDream, arXiv 2308.16512"
    evaluations = 2
    needs_cameras = True
    order = 6

    def bind(self, prior: Prior) -> None:
        if not prior.knows_cameras:
            raise ValueError("method: multiview needs a prior with a camera token; this one has none.")
        if not self.views.camera_embedding:
            raise ValueError("views.camera_embedding: multiview tells views apart by their cameras; leave it on.")
        super().bind(prior)

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        s, amount = self.config.guidance_scale, self.config.rescale
        cond = self.encode_prompt(prior, self.view_dependent_prompts(batch.cameras), batch.cameras)
        uncond = self.encode_prompt(prior, self.config.negative_prompt, batch.cameras)
        guided = evaluate(batch, prior, [(s, cond), (1.0 - s, uncond)])
        row = [*guided, (-1.0, batch.eps)]
        weight = weights(self.config.weight, batch)
        if not amount or len(guided) < 2:
            return assemble(row, weight=weight)
        plain, stretched = self._contrasts(batch, [[(1.0, guided[0][1])], guided])
        k = amount * (plain + 1e-8) / (stretched + 1e-8) + 1 - amount
        terms = [(c * k, x) for c, x in row]
        return assemble([*terms, ((1 - k) * batch.alpha / batch.sigma, batch.x0.detach())], weight=weight)

    def _contrasts(self, batch: NoisyBatch, scores: list[list[Term]]) -> list[Tensor]:
        """[V] standard deviations of the estimates of x_0 by these scores, over all views and pixels of each group."""
        unit = 1 / batch.alpha
        rows = [[(unit, batch.xt), *((-batch.sigma * unit * c, eps) for c, eps in row)] for row in scores]
        return deviations(rows, group=self.group)
