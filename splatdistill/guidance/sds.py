"""SDS: DreamFusion (Poole et al., arXiv 2209.14988), eq. 3: g = w(t) (eps_u + s (eps_c - eps_u) - eps)."""

from __future__ import annotations

from splatdistill.config.schema import SDSConfig
from splatdistill.guidance.base import AnnealedGuidance, Term, assemble, deviations, evaluate
from splatdistill.guidance.perp_neg import NEGATIVE_VIEWS, perp_neg_coefficients, view_weights
from splatdistill.guidance.schedules import weights
from splatdistill.priors.base import Prior
from splatdistill.priors.prompts import seen_from
from splatdistill.scene.types import NoisyBatch, Residual
from splatdistill.utils.device import send


class SDS(AnnealedGuidance[SDSConfig]):
    """Classifier-free guided score minus the noise that was added. The range of timesteps narrows over the run."""

    @property
    def words(self) -> bool:
        return self.config.perp_neg

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        guided = self._guided(batch, prior)
        if self.config.rescale and len(guided) > 1:
            guided = rescaled(guided, amount=self.config.rescale)
        return assemble([*guided, (-1.0, batch.eps)], weight=weights(self.config.weight, batch))

    def _guided(self, batch: NoisyBatch, prior: Prior) -> list[Term]:
        """The guided score; the first term is the conditional one."""
        s, cameras = self.config.guidance_scale, batch.cameras
        cond = self.asked(prior, self.described(cameras), cameras)
        uncond = self.asked(prior, self.config.negative_prompt, cameras)
        if not self.config.perp_neg:
            return evaluate(batch, prior, [(s, cond), (1.0 - s, uncond)])
        negatives = [self.asked(prior, seen_from(self.prompt, word), cameras) for word in NEGATIVE_VIEWS]
        scores = prior.predict(batch.xt, batch.t, [cond, uncond, *negatives])
        weights_of_negatives = send(view_weights(cameras, overhead_deg=self.views.overhead_deg), batch.xt.device)
        row = perp_neg_coefficients(scores, scale=s, weights=weights_of_negatives)
        return list(zip(row, scores, strict=True))


def rescaled(guided: list[Term], *, amount: float) -> list[Term]:
    """Guidance rescale (Lin et al., arXiv 2305.08891, sec. 3.4), per view: the guided score gets `amount` of the
    way to the standard deviation of the conditional one, the first term.
    """
    plain, stretched = deviations([[(1.0, guided[0][1])], guided])
    factor = plain / stretched.clamp(min=1e-8)
    factor = amount * factor + 1 - amount
    return [(c * factor, x) for c, x in guided]
