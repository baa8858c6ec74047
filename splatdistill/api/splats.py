"""Gaussians as a user holds them: with files, images and a place in a notebook."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splatdistill.api import notebook
from splatdistill.config.base import Degree, UpAxis
from splatdistill.config.schema import CameraConfig
from splatdistill.export import writer
from splatdistill.io import formats, kinds
from splatdistill.rendering.renderer import make_renderer
from splatdistill.rendering.turntable import Turntable
from splatdistill.scene import cameras as scene_cameras
from splatdistill.scene import gaussians
from splatdistill.scene.types import Cameras

Image = NDArray[np.float32]
ELEVATION_DEG = 15.0  # of the turntable


class Splats(gaussians.Splats):
    """N Gaussians before activation, in a right-handed world: +y up, the front faces +z.

    means: [N,3] world units. quats: [N,4] wxyz, any length. scales: [N,3] log world units. opacities: [N] logit.
    sh0: [N,1,3] and shN: [N,S-1,3] spherical harmonics of colour (rgb = 0.5 + 0.2821 * sh0 + ...), S = (degree + 1)^2.
    All are float32 tensors of torch. camera: the cameras of the training, by which turntables are drawn.

    Raises: AssertionError for a missing tensor and for unequal N.
    Source: Kerbl et al., 3D Gaussian Splatting, 2023; the names are gsplat's.

    Example:
        >>> import torch, splatdistill
        >>> parts = {"means": (2, 3), "quats": (2, 4), "scales": (2, 3), "opacities": (2,), "sh0": (2, 1, 3)}
        >>> ones = {name: torch.ones(shape) for name, shape in parts.items()}
        >>> splatdistill.Splats(**ones, shN=torch.zeros(2, 0, 3))
        Splats(2 Gaussians, colour harmonics of degree 0, cpu)
    """

    def __init__(self, *, camera: CameraConfig | None = None, **tensors: Tensor) -> None:
        super().__init__(**tensors)
        self.camera = camera or CameraConfig()

    @classmethod
    def of(cls, splats: gaussians.Splats, camera: CameraConfig | None = None) -> Splats:
        """A copy without gradients of the splats of a training. camera: its cameras, for turntables."""
        return cls(camera=camera, **{name: value.detach().clone() for name, value in splats.tensors.items()})

    @classmethod
    def load(cls, path: str | Path, *, up: UpAxis = "auto", fit: bool = False, sh_degree: Degree = "auto") -> Splats:
        """The splats of a file, recognised by its contents: .ply, .compressed.ply, .splat, .ksplat, .spz, .sog or .glb.

        up: the axis of the file that points up; auto takes what the file says. fit: move and scale the splats so that
        they fill the ball of radius 1 that cameras look at. sh_degree: to which the colour harmonics are cut or filled.
        A UserWarning says what the file left open. ValueError, one sentence, for a file that cannot be read.
        """
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"load: there is no file {path}.")
        found = formats.open_file(path, kinds.Assumptions(up, fit, sh_degree))
        if found.notes or found.said.startswith("assumed"):
            warnings.warn(found.sentence(), stacklevel=2)
        return cls.of(found.splats)

    def to(self, device: torch.device | str) -> Splats:
        """The same on a device of torch."""
        return Splats(camera=self.camera, **super().to(device).tensors)

    def detach(self) -> Splats:
        """The same tensors without gradients."""
        return Splats(camera=self.camera, **super().detach().tensors)

    def save(
        self,
        path: str | Path,
        *,
        kind: str | None = None,
        frames: int = 60,
        size: int = 512,
        triangles: int = 20_000,
        texture: int = 0,
    ) -> Path:
        """Writes a file whole or not at all, in the place of one that is there, and returns its path.

        kind: ply, compressed.ply, splat, spz, sog, glb, usda or usdz for splats; mp4 or gif for a turntable; png for
        the front on a transparent ground; html for a page; mesh for triangles as .glb or .obj. None goes by the name.
        frames, size: of turntable and picture, size in pixels. triangles, texture: of a mesh, at most so many, and the
        side in texels of a picture on them, 0 for colours at the corners.
        ValueError, one sentence, for another kind, a folder that is not there, or values that are not finite.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise ValueError(f"save: there is no folder {path.parent}.")
        known = (*kinds.kinds(), *kinds.MEDIA, kinds.MESH)
        wanted = kind or ("mesh" if path.suffix.lower() == ".obj" else kinds.suffix_of(path, known))
        if wanted not in known:
            raise ValueError(f"save: {kind or path.name!r} is no kind of file; take one of {', '.join(known)}.")
        if wanted == "html":
            path.write_bytes(self._page(path.stem))
            return path
        turntable = Turntable(self.camera, frames=frames, size=size)
        style = writer.MeshStyle(triangles, texture)
        return writer.write(path, self.detach(), kind=wanted, turntable=turntable, style=style)

    @torch.no_grad()
    def render(
        self, cameras: Cameras | None = None, *, background: Sequence[float] = (1.0, 1.0, 1.0)
    ) -> dict[str, Image]:
        """What V cameras see: `rgb` [V,H,W,3] and `alpha` [V,H,W,1] in 0..1, `depth` [V,H,W,1] in world units along the
        view, weighted by alpha; float32 arrays. cameras: None takes one in front. background: rgb in 0..1.

        ValueError for a background that is not three numbers.
        """
        if len(background) != 3:
            raise ValueError(f"background must be three numbers in 0..1; it has {len(background)}.")
        cameras = orbit() if cameras is None else cameras
        behind = torch.tensor([list(background)], dtype=torch.float32, device=self.device).expand(len(cameras), 3)
        drawn = make_renderer(self.device).render(self, cameras, background=behind)
        found = {"rgb": drawn.rgb.clamp(0, 1), "alpha": drawn.alpha, "depth": drawn.depth}
        return {name: cast(Image, value.cpu().numpy()) for name, value in found.items()}

    def turntable(self, *, frames: int = 60, size: int = 256) -> NDArray[np.uint8]:
        """[frames,size,size,3] uint8 once round the object on white, the first frame in front, by the cameras that the
        object was trained with. size: pixels. `save("turntable.gif")` writes it.
        """
        images = Turntable(self.camera, frames=frames, size=size).images(make_renderer(self.device), self)
        return np.stack([(image.numpy() * 255 + 0.5).astype(np.uint8) for image in images])

    def show(self, *, frames: int = 24, size: int = 256, page: bool = False) -> None:
        """Shows the turntable in a notebook; page: the page of the viewer instead, to turn and zoom the splats in.
        frames, size: of the turntable, size in pixels.

        Where there is no notebook a UserWarning says what to do instead, and nothing is drawn.
        """
        if not notebook.is_here():
            warnings.warn("show: this is no notebook; save('turntable.gif') writes what it would show.", stacklevel=2)
        elif page:
            notebook.show_page(self._page("splats"), height=size)
        else:
            notebook.show_frames(self.turntable(frames=frames, size=size))

    def _page(self, name: str) -> bytes:
        """The page with these splats, as one file."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.ply"
            formats.write(file, self)
            return cast(bytes, notebook.page_of(file))


def orbit(
    azimuth_deg: float | Sequence[float] = 0.0,
    elevation_deg: float | Sequence[float] = ELEVATION_DEG,
    *,
    radius: float | None = None,
    fovy_deg: float = 37.5,
    size: int = 512,
) -> Cameras:
    """Cameras on a sphere about the origin, which they look at: one for each azimuth and elevation, or as many as the
    longer list has.

    azimuth_deg: degrees, 0 in front (on +z), growing towards +x. elevation_deg: degrees above the horizon. radius:
    world units; None takes the one at which an object of radius 1 fills 0.87 of the frame. fovy_deg: vertical field of
    view in degrees, above 0 and below 180. size: side of the images in pixels.

    Returns: V cameras with viewmats [V,4,4], world to camera in OpenCV's axes, and Ks [V,3,3] in pixels.
    Raises: ValueError, one sentence, for lists of unequal length and values out of range.
    Source: the axes are OpenCV's and the azimuths DreamFusion's (arXiv 2209.14988).

    Example:
        >>> import splatdistill
        >>> cameras = splatdistill.orbit([0, 90, 180, 270], size=128)
        >>> cameras.viewmats.shape, cameras.width
        (torch.Size([4, 4, 4]), 128)
    """
    angles = [torch.tensor(given, dtype=torch.float32).reshape(-1) for given in (azimuth_deg, elevation_deg)]
    count = max(len(angle) for angle in angles)
    if any(len(angle) not in (1, count) for angle in angles):
        raise ValueError(f"orbit: {len(angles[0])} azimuths and {len(angles[1])} elevations; give as many of both.")
    if not 0 < fovy_deg < 180 or size < 1 or (radius is not None and not radius > 0):
        raise ValueError("orbit: fovy_deg must lie between 0 and 180, and radius and size must be above 0.")
    fovy = math.radians(fovy_deg)
    away = CameraConfig().object_radius / (math.sin(0.5 * fovy) * 0.87) if radius is None else radius
    azimuth, elevation = (torch.deg2rad(angle).expand(count) for angle in angles)
    full = torch.ones(count)
    return scene_cameras.orbit(azimuth=azimuth, elevation=elevation, radius=away * full, fovy=fovy * full, size=size)
