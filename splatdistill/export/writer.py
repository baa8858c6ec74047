"""What finished objects become: files of splats, videos, a picture, and scenes of several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from splatdistill.export import mesh, obj, texture
from splatdistill.export.mesh import MeshStyle
from splatdistill.io import formats, video
from splatdistill.io.frames import Vector, concatenate, from_turns, transform
from splatdistill.io.kinds import MESH, kinds
from splatdistill.rendering.renderer import make_renderer
from splatdistill.rendering.turntable import Turntable
from splatdistill.scene.gaussians import Splats
from splatdistill.utils.device import pick_device


def write(
    path: Path,
    splats: Splats,
    *,
    kind: str,
    turntable: Turntable,
    style: MeshStyle = MeshStyle(),  # noqa: B008  frozen
    device: str = "auto",
    how: formats.Written | None = None,
) -> Path:
    """Writes one of `kinds`, mp4, gif, png or mesh; returns what was written. Videos turn once, on white; the picture
    shows the front on a transparent ground; the mesh is a .glb of triangles in that style, or an .obj with its .mtl
    where the name ends so. ValueError for a texture on the latter. device: what draws, as
    `pick_device` takes it. how: of files of splats.
    """
    if kind in kinds():
        formats.write(path, splats, kind=kind, how=how)
        return path
    where = pick_device(device)
    splats, renderer = splats.to(where), make_renderer(where)
    if kind == MESH:
        flat = path.suffix.lower() == ".obj"
        if flat and style.texture:
            raise ValueError("texture: an .obj has colours at its vertices only; take .glb, or leave the texture out.")
        made, sights = mesh.make(splats, renderer, triangles=style.triangles)
        if style.texture:
            texture.write(path, made, sights, size=style.texture)
        else:
            (obj.write if flat else mesh.write)(path, made)
        return path
    if kind == "png":
        with torch.no_grad():
            drawn = renderer.render(splats, replace(turntable, frames=1).cameras(), background=torch.zeros(1, 3))
        colour = drawn.rgb / drawn.alpha.clamp(min=1e-6)  # over black, so it came multiplied by alpha
        video.write_image(path, torch.cat([colour, drawn.alpha], -1)[0])
        return path
    frames = turntable.images(renderer, splats)
    return video.write_gif(path, frames) if kind == "gif" else video.write_turntable(path, frames)


def compose(
    parts: Sequence[Splats], *, translate: Sequence[Vector], rotate: Sequence[Vector], scale: Sequence[float]
) -> Splats:
    """One scene of all parts, each scaled, then turned about x, y and z (degrees), then moved (world units). Each list
    is as long as `parts`, or empty to leave all where they are. ValueError for another length or a scale of 0 or less.
    """
    for name, given in (("translate", translate), ("rotate", rotate), ("scale", scale)):
        if given and len(given) != len(parts):
            raise ValueError(f"{name}: there are {len(parts)} files, but {len(given)} values; give one for each file.")
    if not all(0 < factor < math.inf for factor in scale):
        raise ValueError("scale: every factor must be above 0.")
    return concatenate(
        [
            transform(
                part,
                rotation=from_turns(rotate[i]) if rotate else (1, 0, 0, 0),
                scale=scale[i] if scale else 1.0,
                translation=translate[i] if translate else (0, 0, 0),
            )
            for i, part in enumerate(parts)
        ]
    )


def vector(name: str, text: str) -> Vector:
    """X,Y,Z as three finite numbers; `name` is what a sentence about anything else calls it."""
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"{name} must be X,Y,Z, for example --{name} 0,1.5,0; it is {text!r}.") from error
    if not all(map(math.isfinite, (x, y, z))):
        raise ValueError(f"{name} must be finite numbers; it is {text!r}.")
    return x, y, z
