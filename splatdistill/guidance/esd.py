"""ESD: Wang et al., arXiv 2401.00909: g = w(t) (eps_cfg - (1 - lambda) eps_phi(x_t, camera) - lambda eps_phi(x_t)).

The part without a camera is the entropy of renders over all views: it pushes the views of one object apart.
"""

from __future__ import annotations

from splatdistill.config.schema import ESDConfig
from splatdistill.guidance.variational import VariationalGuidance


class ESD(VariationalGuidance[ESDConfig]):
    """VSD at lambda = 0; at lambda = 1 the renders' score knows no camera at all."""

    def row(self) -> list[tuple[float, bool]]:
        share = self.config.entropy
        return [(-(1.0 - share), True), (-share, False)]
