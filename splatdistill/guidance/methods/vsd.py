"""VSD: ProlificDreamer (Wang et al., arXiv 2305.16213): g = w(t) (eps_cfg(x_t, view) - eps_phi(x_t, camera)).

eps_phi is the score of the run's own renders: adapters on the prior's network that learn while the splats do.
"""

from __future__ import annotations

from dataclasses import dataclass

from splatdistill.guidance.variational import VariationalConfig, VariationalGuidance


@dataclass(frozen=True)
class VSDConfig(VariationalConfig):
    """Variational Score Distillation (ProlificDreamer)."""


class VSD(VariationalGuidance[VSDConfig]):
    """The prior's score minus the renders' own, so that several particles spread as the prior's samples do."""

    Settings = VSDConfig
    paper = "ProlificDreamer, arXiv 2305.16213"
    evaluations = 4
    order = 2

    def row(self) -> list[tuple[float, bool]]:
        return [(-1.0, True)]
