"""What a run changed of an object that was there before: pictures beside each other, PSNR, silhouettes, a judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from splatdistill.config.schema import CameraConfig
from splatdistill.evaluate import NUM_VIEWS, Classifier
from splatdistill.rendering.renderer import Renderer
from splatdistill.scene.cameras import turntable
from splatdistill.scene.gaussians import Splats

SIDE = 224
"""Of the pictures, pixels; the outside judge wants as many."""


def looked_at(splats: Splats, camera: CameraConfig, renderer: Renderer, *, size: int = SIDE) -> tuple[Tensor, Tensor]:
    """rgb [V,H,W,3] in 0..1 on white and alpha [V,H,W,1] of NUM_VIEWS views once round, on the CPU."""
    cameras = turntable(camera, num_frames=NUM_VIEWS, size=size)
    with torch.no_grad():
        seen = renderer.render(splats, cameras, background=torch.ones(NUM_VIEWS, 3, device=splats.device))
    return seen.rgb.clamp(0, 1).cpu(), seen.alpha.clamp(0, 1).cpu()


def psnr_of_views(before: Tensor, after: Tensor) -> list[float]:
    """Peak signal to noise in dB of each view, before and after [V,H,W,3] in 0..1; 99 for equal ones."""
    error = (before - after).square().flatten(1).mean(1)
    return [99.0 if float(x) == 0 else min(99.0, -10 * float(x.log10())) for x in error]


def silhouette_iou(before: Tensor, after: Tensor) -> float:
    """Of the silhouettes of alpha before and after, [V,H,W,1] in 0..1, over all views: common over covered; 1 where
    nothing is seen.
    """
    one, other = before > 0.5, after > 0.5
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


def compared(
    before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor], *, prompts: Sequence[str], judge: Classifier | None
) -> dict[str, Any]:
    """The figures of a change, from what `looked_at` saw before and after. prompts: of both; judge: None for none."""
    views = psnr_of_views(before[0], after[0])
    found: dict[str, Any] = {
        "psnr_of_views": [round(x, 2) for x in views],
        "psnr": round(sum(views) / len(views), 2),
        "silhouette_iou": round(silhouette_iou(before[1], after[1]), 4),
    }
    if judge is not None:
        rated = [judge.score(prompt, *seen) for prompt, seen in zip(prompts, (before, after), strict=True)]
        found["external"] = [{key: one[key] for key in ("mass", "real", "read_as")} for one in rated]
    return found
