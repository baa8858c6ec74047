"""A closed coloured triangle mesh of an object, with normals and a material, as .glb. Legend: M vertices, T triangles.

Lit by white light of irradiance pi it looks as the splats do: their colours are what a screen shows, its are linear.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splatdistill.export import fusion
from splatdistill.export.fusion import Sight
from splatdistill.export.manifold import closed
from splatdistill.io.files import replacing
from splatdistill.rendering.renderer import Renderer
from splatdistill.scene.gaussians import Splats
from splatdistill.utils.srgb import linear

RESOLUTION = 160  # its cube is the number of grid points. At 144 a rough knot missed 0.01 of its radius
CRUMB = 0.005  # of the volume of the largest part: smaller parts are left out, as are hollows that nobody sees
AGGRESSIONS = (4, 5, 7, 10, 15, 20)  # of simplifying: the lower, the better, but the sooner it stops short
PACKAGES = ("trimesh", "skimage", "scipy", "fast_simplification")
SLACK = (
    0.03  # of the radius of what is seen: how far a point may lie from the depth that a view sees, to be painted by it
)
MATT = {
    "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
    "extensions": {"KHR_materials_specular": {"specularFactor": 0.0}},  # gloss is in the colours already
}


@dataclass(frozen=True)
class Mesh:
    """vertices: [M,3] world units; faces: [T,3] indices, counter-clockwise from outside; normals: [M,3] unit; colours:
    [M,3] in 0..1, as a screen shows them.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    colours: np.ndarray


@dataclass(frozen=True)
class MeshStyle:
    """triangles: at most so many. texture: side of a picture on the mesh, texels; 0 has colours at the vertices."""

    triangles: int = 20_000
    texture: int = 0

    def __post_init__(self) -> None:
        if self.triangles < 100:
            raise ValueError(f"triangles must be 100 or more; it is {self.triangles}.")
        if self.texture and not 64 <= self.texture <= 8192:
            raise ValueError(f"texture must be 0, or 64 to 8192 texels; it is {self.texture}.")


@torch.no_grad()
def make(
    splats: Splats, renderer: Renderer, *, triangles: int, resolution: int = RESOLUTION
) -> tuple[Mesh, list[Sight]]:
    """The mesh, of at most `triangles`, and the views that it was made of. ValueError when nothing is solid, and when
    a package is missing.
    """
    require(PACKAGES)
    sights = fusion.look(splats, renderer)
    shape = simplified(*fusion.fuse(sights, resolution=resolution).surface(), triangles)
    vertices, normals = np.array(shape.vertices, np.float32), np.array(shape.vertex_normals, np.float32)
    colours = paint(vertices, normals, sights)
    return Mesh(vertices, np.array(shape.faces, np.int64), normals, colours), sights


def require(packages: Sequence[str]) -> None:
    """ValueError, one sentence, when one of them cannot be imported."""
    try:
        for name in packages:
            importlib.import_module(name)
    except ImportError as error:
        raise ValueError("format: a mesh needs more packages; install splatdistill[mesh].") from error


def simplified(points: np.ndarray, faces: np.ndarray, triangles: int) -> Any:
    """A trimesh of at most `triangles`, closed, without crumbs, of a closed surface: points [M,3], faces [T,3].
    ValueError when no such mesh is found.
    """
    trimesh: Any = importlib.import_module("trimesh")
    simplify: Any = importlib.import_module("fast_simplification").simplify
    shape = _without_crumbs(trimesh.Trimesh(points, faces, process=False))
    for aggression in AGGRESSIONS:
        if len(shape.faces) <= triangles:
            break
        fewer = simplify(shape.vertices.astype("f4"), shape.faces.astype("i4"), target_count=triangles, agg=aggression)
        made = _without_crumbs(trimesh.Trimesh(*closed(*fewer), process=False))
        if not len(made.faces):
            break  # it was simplified away
        shape = made
    if len(shape.faces) > triangles:
        raise ValueError(f"triangles: no closed mesh of {triangles} was found; ask for {len(shape.faces)}.")
    return shape


def _without_crumbs(shape: Any) -> Any:
    trimesh: Any = importlib.import_module("trimesh")
    parts = shape.split(only_watertight=False)
    with np.errstate(invalid="ignore"):  # trimesh divides by the volume, which may be 0
        volumes = [part.volume for part in parts]
    least = CRUMB * max(volumes, default=0)
    kept = [part for part, volume in zip(parts, volumes, strict=True) if volume > max(least, 0)]
    return trimesh.util.concatenate(kept) if kept else trimesh.Trimesh()


@torch.no_grad()
def paint(points: np.ndarray, normals: np.ndarray, sights: Sequence[Sight]) -> np.ndarray:
    """[M,3]: the colour of each of `points` [M,3] in the views that see it, the straighter the more. What none sees has
    the colour of the nearest point that one does.
    """
    spatial: Any = importlib.import_module("scipy.spatial")
    at, normal = (torch.from_numpy(x).to(sights[0].depth.device) for x in (points, normals))  # pyright: ignore[reportUnknownMemberType]
    total, weight = torch.zeros_like(at), torch.zeros_like(at[:, :1])
    for sight in sights:
        camera = sight.view.viewmats[0].to(at.device)
        pixel, z = sight.project(at)
        towards = torch.nn.functional.normalize(-(at @ camera[:3, :3].T + camera[:3, 3]), dim=-1) @ camera[:3, :3]
        straight = (towards * normal).sum(-1).clamp(min=0) ** 4
        depth, trust = sight.at(pixel)
        seen = straight * trust * ((depth - z).abs() < SLACK * sight.radius)
        total += seen[:, None] * _between(sight.colour, pixel)
        weight += seen[:, None]
    known = (weight[:, 0] > 1e-3).cpu().numpy()
    colours = (total / weight.clamp(min=1e-3)).clamp(0, 1).cpu().numpy()
    if not known.any():
        raise ValueError("the splats hold no solid surface, so there is no mesh of them.")
    colours[~known] = colours[known][spatial.cKDTree(points[known]).query(points[~known])[1]]
    return colours


def _between(picture: Tensor, pixel: Tensor) -> Tensor:
    """[M,3] of a picture [H,W,3] at pixel [M,2], bilinear."""
    size = torch.tensor([picture.shape[1], picture.shape[0]], device=pixel.device)
    grid = (2 * pixel / size - 1)[None, None]
    found = torch.nn.functional.grid_sample(
        picture.permute(2, 0, 1)[None], grid, padding_mode="border", align_corners=False
    )
    return found[0, :, 0].T


def write(path: Path, mesh: Mesh) -> None:
    """Writes a .glb with a colour for each vertex and a rough material, whole or not at all."""
    trimesh: Any = importlib.import_module("trimesh")
    shape = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_normals=mesh.normals, process=False)
    shape.vertex_attributes[_COLOUR] = linear(mesh.colours).astype(np.float32)
    export(path, shape, _with_material)


_COLOUR = "_COLOUR"  # trimesh itself would write colours in 8 bits, too few for linear ones


def _with_material(tree: dict[str, Any]) -> None:
    tree["materials"] = [MATT]
    tree["extensionsUsed"] = list(MATT["extensions"])
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            primitive["material"] = 0
            primitive["attributes"]["COLOR_0"] = primitive["attributes"].pop(_COLOUR)


def export(path: Path, shape: Any, change: Any = None) -> None:
    """Writes a trimesh as .glb with its normals. change: is handed the description and may alter it."""
    gltf: Any = importlib.import_module("trimesh.exchange.gltf")
    data = gltf.export_glb(shape.scene(), include_normals=True, tree_postprocessor=change)
    with replacing(path) as temporary:
        temporary.write_bytes(data)
