"""ESD: Wang et al., arXiv 2401.00909: g = w(t) (eps_cfg - (1 - lambda) eps_phi(x_t, camera) - lambda eps_phi(x_t)).

The part without a camera is the entropy of renders over all views: it pushes the views of one object apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval
from tyro.conf import arg

from splatdistill.config.base import FileOnly, Fraction, ViewsConfig
from splatdistill.guidance.variational import VariationalConfig, VariationalGuidance


@dataclass(frozen=True)
class ESDConfig(VariationalConfig):
    """Entropic Score Distillation: VSD with a part that pushes the views of one object apart."""

    camera_dropout: FileOnly[Fraction] = 0.5
    """Chance of a render to come without its camera when the adapters learn, 0..1."""
    entropy: Annotated[float, Interval(ge=0, le=1.5), arg(aliases=("--lambda",))] = 0.5
    """Weight lambda of the score that knows no camera, 0..1.5; 0 is VSD."""

    def check(self, name: str, *, views: ViewsConfig) -> None:
        super().check(name, views=views)
        if self.entropy and not self.camera_dropout:
            raise ValueError(f"{name}.camera_dropout must be above 0: the score without a camera learns from it.")


class ESD(VariationalGuidance[ESDConfig]):
    """VSD at lambda = 0; at lambda = 1 the renders' score knows no camera at all."""

    Settings = ESDConfig
    paper = "Taming Mode Collapse in Score Distillation, arXiv 2401.00909"
    evaluations = 5
    order = 3

    def row(self) -> list[tuple[float, bool]]:
        share = self.config.entropy
        return [(-(1.0 - share), True), (-share, False)]
