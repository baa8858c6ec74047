"""Pictures of finished splats: frames, the turntable, the contact sheet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from splatdistill.config.schema import TrainConfig
from splatdistill.io import video
from splatdistill.rendering.renderer import Renderer
from splatdistill.rendering.shading import Lights, shade, sun
from splatdistill.scene import cameras as orbits
from splatdistill.scene.gaussians import Splats
from splatdistill.scene.types import Cameras
from splatdistill.utils.progress import Progress


@torch.no_grad()
def render_frames(
    renderer: Renderer, splats: Splats, views: Cameras, *, lights: Lights | None = None
) -> Iterator[Tensor]:
    """One picture [H,W,3] in 0..1 per camera on white, a few cameras at a time. lights: one for each camera."""
    for i in range(0, len(views), 4):
        index = slice(i, i + 4)
        some = views.select(index)
        background = torch.ones(len(some), 3, device=splats.device)
        output = renderer.render(splats, some, background=background, normals=lights is not None)
        lit = output.rgb if lights is None else shade(output, some, lights.select(index), background=background)
        yield from lit.clamp(0, 1).cpu()


def write_views(
    renderer: Renderer,
    splats: Splats,
    config: TrainConfig,
    folder: Path,
    progress: Progress,
    *,
    light: tuple[float, float] | None = None,
) -> None:
    """turntable.mp4 and contact.png of `splats` into `folder`. light: azimuth and elevation (rad) of a far light; None
    shows plain colours.
    """
    out = config.output
    views = orbits.turntable(config.camera, num_frames=out.frames, size=out.size)
    frames = render_frames(renderer, splats, views, lights=_sun(light, len(views)))
    frames = progress.track(frames, total=out.frames, label="turntable")
    video.write_turntable(folder / "turntable.mp4", frames)
    write_contact_sheet(folder / "contact.png", renderer, splats, config, light=light)


def write_contact_sheet(
    path: Path,
    renderer: Renderer,
    splats: Splats,
    config: TrainConfig,
    *,
    light: tuple[float, float] | None = None,
) -> None:
    """A picture of 8 views of `splats`."""
    views = orbits.turntable(config.camera, num_frames=8, size=config.output.size)
    video.write_contact_sheet(path, list(render_frames(renderer, splats, views, lights=_sun(light, len(views)))))


def _sun(light: tuple[float, float] | None, num_views: int) -> Lights | None:
    return None if light is None else sun(azimuth=light[0], elevation=light[1], num_views=num_views)
