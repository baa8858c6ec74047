"""What a camera sees of splats beside their colour: depth, normals and coverage, as pictures or numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from splatdistill.io import camera_files, video
from splatdistill.io.files import replacing
from splatdistill.rendering.renderer import Renderer
from splatdistill.rendering.turntable import render_frames
from splatdistill.scene.gaussians import Splats
from splatdistill.scene.types import Cameras

SOLID = 0.5  # coverage from which a pixel has a depth


@dataclass(frozen=True)
class Channel:
    """One of `rgb`, `depth`, `normal` and `alpha`. suffix: of its files."""

    name: str

    @property
    def suffix(self) -> str:
        return "npy" if self.name == "depth" else "png"

    def frames(self, renderer: Renderer, splats: Splats, cameras: Cameras) -> Iterator[Tensor]:
        """One [H,W,C] for each camera: rgb on white and alpha in 0..1; normals in 0..1 for -1..1 along the axes of the
        world, 0.5 where nothing is; depth [H,W,1] along the view in world units, 0 where less than half is covered.
        """
        if self.name == "rgb":
            yield from render_frames(renderer, splats, cameras)
            return
        for i in range(0, len(cameras), 4):
            yield from self._some(renderer, splats, cameras.select(slice(i, i + 4)))

    @torch.no_grad()
    def _some(self, renderer: Renderer, splats: Splats, cameras: Cameras) -> Tensor:
        """[V,H,W,C] of the channel from V cameras, on the CPU."""
        ground = torch.zeros(len(cameras), 3, device=splats.device)
        drawn = renderer.render(splats, cameras, background=ground, normals=self.name == "normal")
        if self.name == "alpha":
            return drawn.alpha.cpu()
        if self.name == "depth":
            depth = drawn.depth / drawn.alpha.clamp(min=SOLID)
            return torch.where(drawn.alpha >= SOLID, depth, 0.0).cpu()
        assert drawn.normal is not None
        length = drawn.normal.square().sum(-1, keepdim=True).sqrt()
        unit = drawn.normal / length.clamp(min=1e-6)
        return torch.where(drawn.alpha >= SOLID, 0.5 + 0.5 * unit, 0.5).cpu()


def write_channel(
    folder: Path, channel: Channel, renderer: Renderer, splats: Splats, cameras: Cameras, *, listed: Cameras
) -> list[Path]:
    """A numbered file for each camera in `folder`, and transforms.json with `listed`, the same cameras in the world of
    the source; returns what was written, the list last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for i, frame in enumerate(channel.frames(renderer, splats, cameras)):
        paths.append(folder / f"{channel.name}_{i:04d}.{channel.suffix}")
        if channel.suffix == "npy":
            with replacing(paths[-1]) as temporary, temporary.open("wb") as file:
                np.save(file, frame[..., 0].numpy())
        else:
            video.write_image(paths[-1], frame if frame.shape[-1] == 3 else frame[..., 0])
    camera_files.write(folder / "transforms.json", listed, files=[path.name for path in paths])
    return [*paths, folder / "transforms.json"]
