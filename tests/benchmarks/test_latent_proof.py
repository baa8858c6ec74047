"""The record of the latent proof: what it counts, and when the bar is met."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import latent_proof
import pytest

from splatdistill.config import presets


def rows(*, wrong: int, adapters: float) -> list[dict[str, Any]]:
    """Of all runs; `wrong` of each method's are read as something else by our judge."""
    made = [
        {"method": method, "settings": "latent_proof.yaml", "own_right": place >= wrong, "external_right": True}
        | ({"adapters": adapters} if method == "vsd" else {})
        for method in latent_proof.METHODS
        for place in range(len(latent_proof.PROMPTS))
    ]
    return [*made, {"method": "sds", "settings": "two_teachers.yaml", "own_right": False, "external_right": False}]


@pytest.mark.parametrize(
    ("wrong", "adapters", "met"), [(0, 0.5, True), (1, 0.79, True), (2, 0.5, False), (0, 0.8, False)]
)
def test_the_bar(tmp_path: Path, wrong: int, adapters: float, met: bool) -> None:
    (tmp_path / "training.json").write_text(json.dumps({"denoiser_images": 1}))
    found = latent_proof.summed(rows(wrong=wrong, adapters=adapters), tmp_path / "pipeline")
    assert found["met"] is met
    assert found["right"] == {
        f"{method}, {judge}": 6 - (wrong if judge == "own" else 0)
        for method in ("sds", "vsd")
        for judge in ("own", "external")
    }


def test_its_settings_leave_the_guidance_of_the_family(tmp_path: Path) -> None:
    for method, scale in (("sds", 100.0), ("vsd", 7.5)):
        config, origins = presets.load(method, file=latent_proof.SETTINGS, family="latent-512")
        assert getattr(config, method).guidance_scale == scale
        assert origins[f"{method}.guidance_scale"].startswith("prior latent-512")
        assert (config.size, config.views.view_dependent_prompts, config.stages) == (64, "on", ())
    runs = list(latent_proof.jobs(tmp_path / "pipeline", tmp_path))
    assert len(runs) == 13
    assert runs[-1][2] == "embedded"
    assert presets.load("sds", file=runs[-1][3])[0].stages[0]["prior"] == str(tmp_path / "pipeline")
