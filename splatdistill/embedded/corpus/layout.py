"""What a built corpus folder holds, and the cameras its pictures were taken with."""

from __future__ import annotations

import dataclasses

import torch

from splatdistill.cameras import sample
from splatdistill.config import CameraConfig
from splatdistill.rng import generator
from splatdistill.types import Cameras

BUFFERS, INDEX = "gbuffers.npy", "corpus.json"
COMMON = CameraConfig(elevation_deg=(0.0, 40.0), fovy_deg=(30.0, 45.0), fill=(0.8, 0.95))
WIDE = dataclasses.replace(COMMON, elevation_deg=(-10.0, 60.0))
_WIDE_EVERY = 5  # one ring in five goes beyond the common elevations


def ring_cameras(rings: int, *, size: int, seed: int, model: int) -> Cameras:
    """4 x rings cameras of one model, drawn by the sampler that distillation uses."""
    draw = generator(seed, model, "camera")
    parts = [
        sample(WIDE if ring % _WIDE_EVERY == 0 else COMMON, num_views=4, size=size, generator=draw)
        for ring in range(rings)
    ]
    return Cameras(
        viewmats=torch.cat([c.viewmats for c in parts]), Ks=torch.cat([c.Ks for c in parts]), width=size, height=size,
        azimuth=torch.cat([c.azimuth for c in parts]), elevation=torch.cat([c.elevation for c in parts]),
        radius=torch.cat([c.radius for c in parts]),
    )  # fmt: skip
