"""CSD: Classifier Score Distillation (Yu et al., arXiv 2310.19415): g = w(t) (eps_c - a eps_n - (1 - a) eps_0)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from splatdistill.config.base import AnnealedConfig, Fraction
from splatdistill.guidance.base import AnnealedGuidance, assemble, evaluate
from splatdistill.guidance.schedules import anneal, weights

if TYPE_CHECKING:
    from splatdistill.priors.base import Prior
    from splatdistill.scene.types import NoisyBatch, Residual


@dataclass(frozen=True)
class CSDConfig(AnnealedConfig):
    """Classifier Score Distillation."""

    negative_weight: Fraction = 0.0
    """Share of the negative prompt against the empty one at the first step, 0..1; without a negative prompt unused."""
    negative_weight_final: Fraction = 1.0
    """Share of the negative prompt at the last step, 0..1."""


class CSD(AnnealedGuidance[CSDConfig]):
    """The classifier part of guidance alone. Its share `a` of the negative prompt moves over the run."""

    Settings = CSDConfig
    paper = "Classifier Score Distillation, arXiv 2310.19415"
    evaluations = 2
    order = 4

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        c = self.config
        # Without a negative prompt eps_n is eps_0: evaluating it again would change nothing.
        a = (
            anneal(c.negative_weight, c.negative_weight_final, progress=self.progress(step), over=1.0)
            if c.negative_prompt
            else 0.0
        )
        cond = self.encode_prompt(prior, self.view_dependent_prompts(batch.cameras), batch.cameras)
        negative = self.encode_prompt(prior, c.negative_prompt, batch.cameras)
        empty = self.encode_prompt(prior, "", batch.cameras)
        terms = evaluate(batch, prior, [(1.0, cond), (-a, negative), (a - 1.0, empty)])
        return assemble(terms, weight=weights(c.weight, batch))
