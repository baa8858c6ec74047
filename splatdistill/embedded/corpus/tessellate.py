"""Procedural objects as triangles, since their rays are cast in closed form and need none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import trimesh
from numpy.typing import NDArray

from splatdistill.embedded.corpus.meshes import Material, ModelMesh, vertex_normals
from splatdistill.embedded.corpus.primitives import BARE, Part

_ROUND = 24  # sides of a large frustum or ring
_SMALL = 0.3  # radius in world units below which a solid gets half as many
_CORNERS = {
    "box": [(x, y, z) for y in (-1, 1) for x in (-1, 1) for z in (-1, 1)],
    "pyramid": [*((x, -1, z) for x in (-1, 1) for z in (-1, 1)), (0, 1, 0)],
    "roof": [*((x, -1, z) for x in (-1, 1) for z in (-1, 1)), (0, 1, -1), (0, 1, 1)],
}


def tessellate(parts: Sequence[Part]) -> tuple[ModelMesh, NDArray[np.int64]]:
    """The mesh of some parts, one material each, and the paint of each material, -1 for none."""
    shapes = [_shape(part) for part in parts]
    offsets = np.cumsum([0, *(len(vertices) for vertices, _ in shapes)])
    vertices = np.concatenate([shape[0] for shape in shapes])
    faces = np.concatenate([shape[1] + offset for shape, offset in zip(shapes, offsets[:-1], strict=True)])
    materials = [
        Material(np.asarray((BARE,) * 3 if isinstance(p.paint, int) else p.paint, np.float32), 1.0, None) for p in parts
    ]
    mesh = ModelMesh(
        vertices=vertices, normals=vertex_normals(vertices, faces), uv=np.zeros((len(vertices), 2)), faces=faces,
        face_material=np.repeat(np.arange(len(parts)), [len(shape[1]) for shape in shapes]), materials=materials,
    )  # fmt: skip
    return mesh, np.array([part.paint if isinstance(part.paint, int) else -1 for part in parts])


def _shape(part: Part) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Vertices [N,3] in the world, split where the surface has an edge, and triangles [F,3] of a part."""
    sides = _ROUND if part.bound[1] > _SMALL else _ROUND // 2
    match part.kind:
        case "ball":
            ball = trimesh.creation.icosphere(subdivisions=2 if sides == _ROUND else 1)
            local, faces = np.asarray(ball.vertices), np.asarray(ball.faces)
        case "ring":
            local, faces = _ring(part.ratio, sides)
        case "frustum":
            local, faces = _frustum(part.ratio, sides)
        case _:
            hull = trimesh.Trimesh(_CORNERS[part.kind]).convex_hull
            local, faces = np.asarray(hull.triangles).reshape(-1, 3), np.arange(3 * len(hull.faces)).reshape(-1, 3)
    return local @ part.matrix[:, :3].T + part.matrix[:, 3], faces


def _circle(sides: int) -> NDArray[np.floating]:
    angle = np.arange(sides) * (2 * math.pi / sides)
    return np.stack([np.cos(angle), 0 * angle, np.sin(angle)], 1)


def _frustum(ratio: float, sides: int) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """The wall, and two ends with vertices of their own."""
    up, circle, at = np.array([0.0, 1, 0]), _circle(sides), np.arange(sides)
    low, high = circle - up, ratio * circle + up
    after = (at + 1) % sides
    wall = [np.stack([at, after, at + sides], 1), np.stack([after, after + sides, at + sides], 1)]
    fan = np.stack([0 * at[1:-1], at[1:-1], at[2:]], 1)
    return np.concatenate([low, high, low, high]), np.concatenate([*wall, fan + 2 * sides, fan + 3 * sides])


def _ring(thick: float, sides: int) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    across = sides // 2
    angle = np.arange(across) * (2 * math.pi / across)
    circle = _circle(sides)
    vertices = (
        circle[:, None] * (1 + thick * np.cos(angle))[:, None] + np.array([0.0, thick, 0]) * np.sin(angle)[:, None]
    )
    i, j = np.meshgrid(np.arange(sides), np.arange(across), indexing="ij")
    a, b = i * across + j, (i + 1) % sides * across + j
    c, d = i * across + (j + 1) % across, (i + 1) % sides * across + (j + 1) % across
    return vertices.reshape(-1, 3), np.concatenate(
        [np.stack(three, -1).reshape(-1, 3) for three in ((a, b, c), (b, d, c))]
    )
