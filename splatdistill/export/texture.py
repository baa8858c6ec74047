"""The same mesh with a picture on it in place of colours at its corners: xatlas lays the triangles out, and every texel
is painted as the views show its point of the surface. Legend: M vertices, T triangles.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from splatdistill.export import mesh
from splatdistill.export.fusion import Sight
from splatdistill.export.mesh import Mesh

GAP = 4  # texels between charts, so that neighbours do not bleed when the picture is shrunk


def write(path: Path, shape: Mesh, sights: Sequence[Sight], *, size: int) -> None:
    """Writes a .glb with a picture of at most `size` texels a side, whole or not at all. ValueError without xatlas."""
    mesh.require((*mesh.PACKAGES, "xatlas"))
    trimesh: Any = importlib.import_module("trimesh")
    corners, faces, places = _laid_out(shape, size)
    picture = _baked(shape, corners, faces, places, sights, size=size)
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=picture)
    textured = trimesh.Trimesh(
        shape.vertices[corners],
        faces,
        vertex_normals=shape.normals[corners],
        visual=trimesh.visual.TextureVisuals(uv=places, material=material),
        process=False,
    )
    mesh.export(path, textured, _matt)


def _matt(tree: dict[str, Any]) -> None:
    (material,) = tree["materials"]
    picture = {"baseColorTexture": material["pbrMetallicRoughness"]["baseColorTexture"]}
    tree["materials"] = [{**mesh.MATT, "pbrMetallicRoughness": {**mesh.MATT["pbrMetallicRoughness"], **picture}}]
    tree["extensionsUsed"] = list(mesh.MATT["extensions"])


def _laid_out(shape: Mesh, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each corner of the charts [K], the vertex it is; triangles [T,3] of corners; and where corners lie in the
    picture [K,2] in 0..1, v up.
    """
    xatlas: Any = importlib.import_module("xatlas")
    atlas = xatlas.Atlas()
    atlas.add_mesh(shape.vertices, shape.faces.astype(np.uint32), shape.normals)
    options = xatlas.PackOptions()
    options.resolution, options.padding = size, GAP
    atlas.generate(pack_options=options)
    corners, faces, places = atlas[0]
    return corners.astype(np.int64), faces.astype(np.int64), places


def _baked(
    shape: Mesh, corners: np.ndarray, faces: np.ndarray, places: np.ndarray, sights: Sequence[Sight], *, size: int
) -> Image.Image:
    """The picture; texels beside all charts have the colour of the nearest one."""
    ndimage: Any = importlib.import_module("scipy.ndimage")
    draw: Any = importlib.import_module("skimage.draw")
    owner, bary = np.full((size, size), -1), np.zeros((size, size, 3), np.float32)
    at = np.stack([places[:, 0] * size, (1 - places[:, 1]) * size], -1)[faces] - 0.5  # [T,3,2] columns and rows
    for number, triangle in enumerate(at):
        rows, columns = draw.polygon(triangle[:, 1], triangle[:, 0], owner.shape)
        owner[rows, columns] = number
        bary[rows, columns] = _barycentric(triangle, np.stack([columns, rows], -1))
    covered = owner >= 0
    weights, vertices = bary[covered][..., None], corners[faces[owner[covered]]]
    points = (weights * shape.vertices[vertices]).sum(1)
    normals = (weights * shape.normals[vertices]).sum(1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    picture = np.zeros((size, size, 3), np.float32)
    picture[covered] = mesh.paint(points, normals.astype(np.float32), sights)
    nearest = ndimage.distance_transform_edt(~covered, return_distances=False, return_indices=True)
    return Image.fromarray(np.rint(picture[tuple(nearest)] * 255).astype(np.uint8))


def _barycentric(triangle: np.ndarray, at: np.ndarray) -> np.ndarray:
    """[P,3] weights of the corners [3,2] of a triangle at points [P,2]."""
    (a, b, c), p = triangle, at
    first, second, point = b - a, c - a, p - a
    area = first[0] * second[1] - first[1] * second[0]
    v = (point[:, 0] * second[1] - point[:, 1] * second[0]) / area
    w = (first[0] * point[:, 1] - first[1] * point[:, 0]) / area
    return np.stack([1 - v - w, v, w], -1)
