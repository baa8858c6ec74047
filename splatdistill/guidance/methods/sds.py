"""SDS: DreamFusion (Poole et al., arXiv 2209.14988), eq. 3: g = w(t) (eps_u + s (eps_c - eps_u) - eps)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from splatdistill.config.base import AnnealedConfig, Fraction, NonNegative, ViewsConfig
from splatdistill.guidance.base import AnnealedGuidance, Term, assemble, deviations, evaluate
from splatdistill.guidance.perp_neg import NEGATIVE_VIEWS, perp_neg_coefficients, view_shares, view_weights
from splatdistill.guidance.schedules import weights
from splatdistill.priors.prompts import SIDES, seen_from

if TYPE_CHECKING:
    from splatdistill.priors.base import Prior
    from splatdistill.scene.types import NoisyBatch, Residual


@dataclass(frozen=True)
class SDSConfig(AnnealedConfig):
    """Score Distillation Sampling (DreamFusion)."""

    guidance_scale: NonNegative = 100.0
    """Classifier-free guidance in the diffusers form eps_u + s (eps_c - eps_u)."""
    rescale: Fraction = 0.0
    """Pulls the guided score's standard deviation towards the conditional one's, 0..1; 0 leaves it alone."""
    perp_neg: bool = False
    """Perp-Neg: the words of the two nearest sides, mixed, and those of other sides as negatives; two more scores per
    view.
    """

    def check(self, name: str, *, views: ViewsConfig) -> None:
        super().check(name, views=views)
        if self.perp_neg and views.view_dependent_prompts == "off":
            negatives = f"{name}.perp_neg, whose negatives are the other sides' words"
            raise ValueError(f"views.view_dependent_prompts must not be off with {negatives}.")


class SDS(AnnealedGuidance[SDSConfig]):
    """Classifier-free guided score minus the noise that was added. The range of timesteps narrows over the run."""

    Settings = SDSConfig
    paper = "DreamFusion, arXiv 2209.14988"
    evaluations = 2
    order = 1

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        guided = self._guided(batch, prior)
        if self.config.rescale and len(guided) > 1:
            guided = rescaled(guided, amount=self.config.rescale)
        return assemble([*guided, (-1.0, batch.eps)], weight=weights(self.config.weight, batch))

    def _guided(self, batch: NoisyBatch, prior: Prior) -> list[Term]:
        """The guided score as terms [V,C,h,w]; the first one is conditional."""
        from splatdistill.utils.device import send

        s, cameras = self.config.guidance_scale, batch.cameras
        if not self.config.perp_neg:
            cond = self.encode_prompt(prior, self.view_dependent_prompts(cameras), cameras)
            uncond = self.encode_prompt(prior, self.config.negative_prompt, cameras)
            return evaluate(batch, prior, [(s, cond), (1.0 - s, uncond)])
        sides = [self.encode_prompt(prior, seen_from(self.prompt, word), cameras) for word in SIDES]
        shares, weights_of_negatives = (
            send(of_views(cameras, overhead_deg=self.views.overhead_deg), batch.xt.device)
            for of_views in (view_shares, view_weights)
        )
        cond = sides[0].mixed(sides[1:], shares=shares)
        uncond = self.encode_prompt(prior, self.config.negative_prompt, cameras)
        negatives = [sides[SIDES.index(word)] for word in NEGATIVE_VIEWS]
        scores = prior.predict(batch.xt, batch.t, [cond, uncond, *negatives])
        row = perp_neg_coefficients(scores, scale=s, weights=weights_of_negatives)
        return list(zip(row, scores, strict=True))


def rescaled(guided: list[Term], *, amount: float) -> list[Term]:
    """Guidance rescale (Lin et al., arXiv 2305.08891, sec. 3.4), per view: the guided score gets `amount` of the
    way to the standard deviation of the conditional one, the first term. Coefficients: one number or [V], then [V].
    """
    plain, stretched = deviations([[(1.0, guided[0][1])], guided])
    factor = plain / stretched.clamp(min=1e-8)
    factor = amount * factor + 1 - amount
    return [(c * factor, x) for c, x in guided]
