"""Images of finished splats: frames, the turntable, the contact sheet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from splatdistill.config.schema import CameraConfig
from splatdistill.io import video
from splatdistill.rendering.renderer import Renderer
from splatdistill.rendering.shading import Lights, shade, sun
from splatdistill.scene import cameras as orbits
from splatdistill.scene.gaussians import Splats
from splatdistill.scene.types import Cameras
from splatdistill.utils.progress import Progress


@dataclass(frozen=True)
class Turntable:
    """`frames` square images once round an object, `size` pixels a side, by the middle of the cameras that it was
    trained with. light: azimuth and elevation (rad) of a far light; None shows plain colours.
    """

    camera: CameraConfig
    frames: int
    size: int
    light: tuple[float, float] | None = None

    def cameras(self) -> Cameras:
        return orbits.turntable(self.camera, num_frames=self.frames, size=self.size)

    def images(self, renderer: Renderer, splats: Splats) -> Iterator[Tensor]:
        """[size,size,3] in 0..1 on white, one for each frame."""
        lights = None
        if self.light is not None:
            lights = sun(azimuth=self.light[0], elevation=self.light[1], num_views=self.frames)
        return render_frames(renderer, splats, self.cameras(), lights=lights)


@torch.no_grad()
def render_frames(
    renderer: Renderer, splats: Splats, views: Cameras, *, lights: Lights | None = None
) -> Iterator[Tensor]:
    """One image [H,W,3] in 0..1 per camera on white, a few cameras at a time. lights: one for each camera."""
    for i in range(0, len(views), 4):
        index = slice(i, i + 4)
        some = views.select(index)
        background = torch.ones(len(some), 3, device=splats.device)
        output = renderer.render(splats, some, background=background, normals=lights is not None)
        lit = output.rgb if lights is None else shade(output, some, lights.select(index), background=background)
        yield from lit.clamp(0, 1).cpu()


def write_views(folder: Path, renderer: Renderer, splats: Splats, turntable: Turntable, progress: Progress) -> None:
    """turntable.mp4 and contact.png of `splats` into `folder`."""
    frames = progress.track(turntable.images(renderer, splats), total=turntable.frames, label="turntable")
    video.write_turntable(folder / "turntable.mp4", frames)
    write_contact_sheet(folder / "contact.png", renderer, splats, turntable)


def write_contact_sheet(path: Path, renderer: Renderer, splats: Splats, turntable: Turntable) -> None:
    """An image of 8 views of `splats`, evenly spaced once round."""
    video.write_contact_sheet(path, list(replace(turntable, frames=8).images(renderer, splats)))
