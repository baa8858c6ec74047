"""The teachers. `load` is the switch behind --prior."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # words.py lies in this package and must come without torch
    import torch

    from splatdistill.priors.base import Prior

EMBEDDED = Path(__file__).resolve().parent.parent / "embedded" / "weights"


def load(name: str, *, device: torch.device, dtype: str) -> Prior:
    """The prior called `name`: embedded, analytic, or a folder with a diffusers multi-view model.

    dtype: auto, fp32 or bf16. ValueError, one sentence, when there is no such prior or its weights are missing.
    """
    if name == "analytic":
        from splatdistill.priors.analytic import AnalyticPrior, beach_ball

        return AnalyticPrior(beach_ball(image_size=64), image_size=64)
    folder = EMBEDDED if name == "embedded" else Path(name)
    if name != "embedded" and not folder.is_dir():
        raise ValueError(
            f"prior: there is no prior or folder called {name!r}; use embedded, analytic or a diffusers folder."
        )
    from splatdistill.priors.multiview import MultiViewPrior  # diffusers and transformers load here only

    return MultiViewPrior.load(folder, device=str(device), dtype=dtype)
