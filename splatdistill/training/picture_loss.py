"""The picture of `--image`: read, freed of its ground, and compared with what its camera sees of the splats."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from splatdistill.config.schema import CameraConfig, ReferenceConfig
from splatdistill.priors.base import Picture
from splatdistill.priors.pictured import USUAL, Box, cut, resized, set_into
from splatdistill.rendering.renderer import Renderer
from splatdistill.scene.cameras import orbit, turntable
from splatdistill.scene.gaussians import Splats
from splatdistill.scene.types import Cameras
from splatdistill.utils.device import send

FORMATS = ("PNG", "JPEG", "WEBP")
LARGEST = 8192  # pixels a side
SIDE = 512  # of the picture that is kept, pixels
PLAIN = 24 / 255
"""How far colours of a plain ground are from their median at most, in each channel."""


def read(path: Path) -> Tensor:
    """[4,H,W] in 0..1, straight colours and alpha. A picture without transparency must have a plain ground, which
    becomes transparent. ValueError, one sentence, for anything else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                if max(image.size) > LARGEST:
                    raise ValueError(f"image: {path} is larger than {LARGEST} pixels a side; make it smaller.")
                turned = ImageOps.exif_transpose(image).convert("RGBA")
    except OSError as error:
        said = error.strerror or f"it is no {', '.join(FORMATS)} that is whole"
        raise ValueError(f"image: {path} cannot be read: {said}.") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(f"image: {path} is larger than {LARGEST} pixels a side; make it smaller.") from error
    rgba = torch.from_numpy(np.asarray(turned).copy()).permute(2, 0, 1).float() / 255  # pyright: ignore[reportUnknownMemberType]
    if min(rgba.shape[1:]) < 8:
        raise ValueError(f"image: {path} has less than 8 pixels a side.")
    return rgba if bool((rgba[3] < 1).any()) else torch.cat([rgba[:3], 1 - _ground(rgba[:3], path)[None]])


def _ground(rgb: Tensor, path: Path) -> Tensor:
    """[H,W] 1 where rgb [3,H,W] shows the ground: what has the colour of the border and hangs together with it."""
    edge = torch.cat([rgb[:, 0], rgb[:, -1], rgb[:, :, 0], rgb[:, :, -1]], 1)
    colour = edge.median(1).values
    off = (edge - colour[:, None]).abs().amax(0)
    if float(off.quantile(0.9)) > PLAIN:
        raise ValueError(
            f"image: {path} has neither an alpha channel nor a plain ground; cut its object out, and save that as .png."
        )
    alike = ((rgb - colour[:, None, None]).abs().amax(0) <= PLAIN).float()[None, None]
    reached = alike.clone()
    reached[..., 1:-1, 1:-1] = 0
    while True:
        grown = F.max_pool2d(reached, 3, stride=1, padding=1) * alike
        if torch.equal(grown, reached):
            return grown[0, 0]
        reached = grown


def camera_of(config: ReferenceConfig, camera: CameraConfig, *, size: int = SIDE) -> Cameras:
    """The one camera of the picture: at the middle field of view and distance of training."""
    middle, one = turntable(camera, num_frames=1, size=size), torch.ones(1)
    return orbit(
        azimuth=one * math.radians(config.azimuth_deg), elevation=one * math.radians(config.elevation_deg),
        radius=middle.radius, fovy=one * math.radians(sum(camera.fovy_deg) / 2), size=size,
    )  # fmt: skip


def picture_of(image: str, config: ReferenceConfig, camera: CameraConfig) -> Picture:
    """The picture of a file with its camera. ValueError, one sentence, as of `read`."""
    return Picture(cut(read(Path(image)), size=SIDE), camera_of(config, camera))


@dataclass(frozen=True)
class PictureLoss:
    """picture: of the object alone, which fills it from edge to edge. box: where that lies in the camera's frame.
    weight: 1 counts as much as one view whose noise has gone. made: what renders are compared with, by their side.
    """

    picture: Picture
    box: Box = USUAL
    weight: float = 1.0
    made: dict[int, Tensor] = field(default_factory=dict[int, Tensor], repr=False, compare=False)

    def loss(self, splats: Splats, renderer: Renderer, *, size: int) -> Tensor:
        """[] weight times half the squared distance in -1..1 of a render on white with alpha from the picture."""
        camera = resized(self.picture.camera, size)
        white = torch.ones(1, 3, device=splats.device)
        seen = renderer.render(splats, camera.to(splats.device), background=white)
        if size not in self.made:
            rgba = set_into(self.picture.rgba, self.box, size=size)
            on_white = torch.cat([rgba[:3] * rgba[3:] + 1 - rgba[3:], rgba[3:]])
            self.made[size] = send(on_white.movedim(0, -1), splats.device)
        away = torch.cat([seen.rgb, seen.alpha], -1)[0] - self.made[size]
        return 2 * self.weight * away.square().sum()
