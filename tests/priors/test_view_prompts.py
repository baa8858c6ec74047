"""Sides in words, as far as the network: what every method asks Stable Diffusion, and Perp-Neg against threestudio."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from splatdistill.config import presets, settings
from splatdistill.guidance import make_guidance
from splatdistill.guidance.base import noisy_batch, per_view
from splatdistill.guidance.methods.sds import SDS, SDSConfig
from splatdistill.priors.prompts import seen_from
from splatdistill.scene.cameras import orbit
from splatdistill.scene.types import Cameras
from tests.guidance.toys import FOR_ANY_PRIOR
from tests.priors.test_diffusion import CPU, load

PROMPT = "a corgi"
AZIMUTHS = [0.1, math.pi / 2, math.pi, -math.pi / 2]  # of the front, a side, the back and the other side


def cameras(*azimuths: float, elevation: float = math.radians(15)) -> Cameras:
    one = torch.ones(len(azimuths))
    return orbit(azimuth=torch.tensor(azimuths), elevation=elevation * one, radius=3 * one, fovy=0.7 * one, size=16)


def states_of(pipeline: Any, prompt: str) -> Tensor:
    """[1,T,D] what diffusers' own pipeline gives its UNet for a prompt."""
    return pipeline.encode_prompt(prompt, CPU, 1, False)[0].detach()


@pytest.fixture(scope="module")
def pipeline(folders: dict[str, Path]) -> Any:
    return diffusers.StableDiffusionPipeline.from_pretrained(folders["sd15"], local_files_only=True)


def listen(network: Any, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The words [R,T,D] of each call of the network from now on."""
    seen: list[Tensor] = []
    forward = network.forward

    def listening(x: Tensor, t: Tensor, words: Tensor, **more: Any) -> Any:
        seen.append(words)
        return forward(x, t, words, **more)

    monkeypatch.setattr(network, "forward", listening)
    return seen


@pytest.mark.parametrize("method", [method for method in FOR_ANY_PRIOR if method != "multiview"])
def test_four_sides_reach_the_network_with_every_method(
    folders: dict[str, Path], pipeline: Any, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the settings of its family, as a user types it, and with `auto`."""
    prior = load(folders["sd15"])
    words = ["front", "side", "back", "side"]
    wanted = torch.cat([states_of(pipeline, seen_from(PROMPT, word)) for word in words])
    assert len(wanted.flatten(1).unique(dim=0)) == 3
    base = settings.merge(presets.load(method, family="latent-512")[0], {"prompt": PROMPT}, where="test")
    for views in ({}, {"view_dependent_prompts": "auto"}):
        guidance = make_guidance(settings.merge(base, {"views": views}, where="test"))
        guidance.bind(prior)  # type: ignore[arg-type]
        seen = listen(prior.network, monkeypatch)
        x0 = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
        batch = guidance.noise(x0, cameras(*AZIMUTHS), prior, seed=0, step=0)  # type: ignore[arg-type]
        guidance.residual(replace(batch, source=x0.detach()), prior, step=0)  # type: ignore[arg-type]
        monkeypatch.undo()
        asked = seen[-1 if method == "ism" else 0]  # ism is led to its timestep without the prompt
        torch.testing.assert_close(asked[:4], wanted)  # the conditional rows go first


def reference(pipeline: Any, x0: Tensor, eps: Tensor, *, t: int, azimuth: float, scale: float) -> Tensor:
    """[1,C,h,w] threestudio's Perp-Neg for one view, written from its formula: the prompt is interpolated between the
    two nearest sides, and each negative's part across the prompt is added with its decay (Apache-2.0).
    """
    front, side, back, empty = (
        states_of(pipeline, text) for text in (*(seen_from(PROMPT, w) for w in ("front", "side", "back")), "")
    )
    away = abs(math.degrees(azimuth)) / 90

    def decay(a: float, b: float, c: float, r: float) -> float:
        return a * math.exp(-b * r) + c

    if away < 1:
        r = 1 - away
        prompt, negatives = r * front + (1 - r) * side, (front, side)
        weights = (-decay(4, 0.5, -2.426, r), -decay(4, 0.5, -2.426, 1 - r))
    else:
        r = 2 - away
        prompt, negatives = r * side + (1 - r) * back, (side, front)
        weights = (-decay(1, 0.5, -0.606, r), -decay(1, 0.5, 0.967, r))
    level = pipeline.scheduler.alphas_cumprod[t]
    xt = level.sqrt() * x0 + (1 - level).sqrt() * eps
    score, uncond, *others = (
        pipeline.unet(xt, t, encoder_hidden_states=text).sample for text in (prompt, empty, *negatives)
    )
    along, total = score - uncond, score - uncond
    for weight, other in zip(weights, others, strict=True):
        e = other - uncond
        total = total + weight * (e - (e * along).sum() / (along * along).sum().clamp(min=1e-6) * along)
    return (1 - level) * (uncond + scale * total - eps)


@torch.no_grad()
def test_perp_neg_is_threestudios_at_every_azimuth(folders: dict[str, Path], pipeline: Any) -> None:
    prior = load(folders["sd15"])
    config = SDSConfig(perp_neg=True, guidance_scale=50.0)
    method = SDS(config, prompt=PROMPT, group=1, steps=1)
    g = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(1, 4, 8, 8, generator=g), torch.randn(1, 4, 8, 8, generator=g)
    found = []
    for i in range(24):
        azimuth = math.radians(-172.5 + 15 * i)
        seen = cameras(azimuth)
        batch = noisy_batch(x0, seen, prior, t=torch.tensor([500]), eps=eps)  # type: ignore[arg-type]
        row = method.residual(batch, prior, step=0)  # type: ignore[arg-type]
        got = per_view(row.weight) * sum(per_view(c) * e for c, e in zip(row.coef, row.terms, strict=True))
        wanted = reference(pipeline, x0, eps, t=500, azimuth=azimuth, scale=50.0)
        found.append(float((got - wanted).norm() / wanted.norm()))
    assert len(found) == 24
    assert max(found) <= 1e-4  # the bar that was set; with the nearest side's word alone it was up to 2e-1
