"""View words: who asks for them, their thresholds, and that Perp-Neg goes by the same ones."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from splatdistill.config.schema import TrainConfig
from splatdistill.config.settings import merge
from splatdistill.guidance import make_guidance
from splatdistill.guidance.perp_neg import view_weights
from splatdistill.priors.analytic import AnalyticPrior
from tests.guidance.toys import FOR_ANY_PRIOR, cameras, draw, gaussian

RING = cameras(4, azimuth=[0.1, 0.7, 1.5, 3.1])


def asked(method: Any, *, takes: tuple[bool, bool] = (False, True), **settings: Any) -> list[str]:
    """Every prompt that the prior is asked about in one step, in order of appearance. takes: whether it can take the
    camera of a view on its own, and those of a group.
    """
    seen: list[str] = []

    def scene(prompt: str, cameras: Any) -> Any:
        seen.append(prompt)
        return gaussian(0.0, 0.5)

    prior = AnalyticPrior(scene, image_size=2)
    prior.supports_single_view_cameras, prior.knows_cameras = takes
    config = merge(TrainConfig(prompt="x", method=method), settings, where="test")
    guidance = make_guidance(config)
    guidance.bind(prior)
    batch = guidance.noise(draw(4, 3, 2, 2).float(), RING, prior, seed=0, step=0)
    guidance.residual(replace(batch, source=batch.x0.detach()), prior, step=0)
    return list(dict.fromkeys(seen))


WORDED = ["x, front view", "x, side view", "x, back view"]


@pytest.mark.parametrize("method", FOR_ANY_PRIOR)
def test_sides_are_named_where_the_prior_cannot_be_told_the_camera_or_the_user_asks(method: str) -> None:
    alone = method in ("vsd", "esd")
    for single, together in ((True, True), (False, True), (False, False)):
        if method == "multiview" and not together:
            continue
        worded = not (single if alone else together)
        assert (asked(method, takes=(single, together))[:3] == WORDED) is worded
        others = {"camera": {"views_per_group": 1}}
        assert method == "multiview" or (asked(method, takes=(single, together), **others)[:3] == WORDED) is not single
    if method != "multiview":
        assert asked(method, takes=(True, True), views={"camera_embedding": False})[:3] == WORDED
    assert asked(method, views={"view_dependent_prompts": "on"})[:3] == WORDED
    assert asked(method, takes=(False, True), views={"view_dependent_prompts": "off"})[0] == "x"


@pytest.mark.parametrize("method", [m for m in FOR_ANY_PRIOR if m != "multiview"])
@pytest.mark.parametrize("token", [True, False])
def test_cameras_are_told_unless_the_settings_forbid(method: str, token: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    takes: set[bool] = set()
    embed = AnalyticPrior.embed

    def listening(self: AnalyticPrior, *args: Any, use_camera_embedding: bool, cross_view_attention: bool) -> Any:
        assert cross_view_attention is (method not in ("vsd", "esd"))
        takes.add(use_camera_embedding)
        return embed(self, *args)

    monkeypatch.setattr(AnalyticPrior, "embed", listening)
    asked(method, views={"camera_embedding": token})
    assert takes == {token}


def test_multiview_insists_on_cameras() -> None:
    with pytest.raises(ValueError, match=r"views\.camera_embedding: multiview tells views apart by their cameras"):
        asked("multiview", views={"camera_embedding": False})


def test_perp_neg_asks_for_every_side_and_knows_which_views_are_from_overhead() -> None:
    asks = asked("sds", takes=(True, True), sds={"perp_neg": True})
    assert set(asks) == {"", *(f"x, {side} view" for side in ("front", "side", "back", "overhead"))}
    high = cameras(2, azimuth=[0.1, 1.0], elevation=math.radians(50))
    assert view_weights(high).abs().max() > 0.1
    assert view_weights(high, overhead_deg=45.0).eq(0).all()
    prior = AnalyticPrior(lambda prompt, seen: gaussian(float(len(prompt)), 0.5), image_size=2)

    def negatives(overhead_deg: float) -> torch.Tensor:
        views = {"views": {"overhead_deg": overhead_deg}, "sds": {"perp_neg": True}}
        guidance = make_guidance(merge(TrainConfig(prompt="x"), views, where="test"))
        ring = cameras(4, azimuth=[0.1, 0.7, 1.5, 3.1], elevation=math.radians(50))
        batch = guidance.noise(draw(4, 3, 2, 2).float(), ring, prior, seed=0, step=0)
        return guidance.residual(batch, prior, step=0).coef[2:4]

    assert negatives(60.0).abs().max() > 0.1 and negatives(45.0).eq(0).all()
