"""CSD: Classifier Score Distillation (Yu et al., arXiv 2310.19415): g = w(t) (eps_c - a eps_n - (1 - a) eps_0)."""

from __future__ import annotations

from splatdistill.config.schema import CSDConfig
from splatdistill.guidance.base import AnnealedGuidance, assemble, evaluate
from splatdistill.guidance.schedules import anneal, weights
from splatdistill.priors.base import Prior
from splatdistill.scene.types import NoisyBatch, Residual


class CSD(AnnealedGuidance[CSDConfig]):
    """The classifier part of guidance alone. Its share `a` of the negative prompt moves over the run."""

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        c = self.config
        # Without a negative prompt eps_n is eps_0: evaluating it again would change nothing.
        a = (
            anneal(c.negative_weight, c.negative_weight_final, progress=self.progress(step), over=1.0)
            if c.negative_prompt
            else 0.0
        )
        cond = self.asked(prior, self.described(batch.cameras), batch.cameras)
        negative = self.asked(prior, c.negative_prompt, batch.cameras)
        empty = self.asked(prior, "", batch.cameras)
        terms = evaluate(batch, prior, [(1.0, cond), (-a, negative), (a - 1.0, empty)])
        return assemble(terms, weight=weights(c.weight, batch))
