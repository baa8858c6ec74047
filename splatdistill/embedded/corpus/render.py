"""Casts rays at a mesh and keeps albedo, shading, paint mask and alpha apart, so that colours can change later."""

from __future__ import annotations

from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray
from trimesh.ray.ray_pyembree import RayMeshIntersector

from splatdistill.embedded.corpus.meshes import ModelMesh
from splatdistill.embedded.corpus.rays import camera_rays, pixels, shade
from splatdistill.priors.gbuffer import PAINTS
from splatdistill.scene.types import Cameras

_MAX_LAYERS = 6  # surfaces a ray may pass through where the material is transparent


class Caster:
    """Ray casting at one mesh; the search tree is built once.

    paint [M] int says which of the three paints a material takes, -1 for none; `choose_paint` finds them.
    """

    def __init__(self, mesh: ModelMesh) -> None:
        self.mesh = mesh
        surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        self.face_normals = np.cross(
            mesh.vertices[mesh.faces[:, 1]] - mesh.vertices[mesh.faces[:, 0]],
            mesh.vertices[mesh.faces[:, 2]] - mesh.vertices[mesh.faces[:, 0]],
        )
        self.face_normals /= np.linalg.norm(self.face_normals, axis=1, keepdims=True) + 1e-12
        self.intersector: Any = RayMeshIntersector(surface)

    def gbuffer(self, cameras: Cameras, *, paint: NDArray[np.int64], rays: int = 3) -> NDArray[np.uint8]:
        """[V,H,W,8] uint8 as `rays.CHANNELS` says, with rays x rays per pixel."""
        views = []
        for view in range(len(cameras)):
            values, hit, _ = self._trace(*_rays(cameras, view, rays), paint)
            views.append(pixels(values, hit, size=cameras.height, rays=rays))
        return np.stack(views)

    def choose_paint(self, cameras: Cameras) -> tuple[NDArray[np.int64], list[float]]:
        """For each material its paint, -1 for none, and the share of the visible surface that each of the three covers.

        The first is what shows most, with all of a similar colour; the others are the next such groups. Counted in
        visible pixels: by area the unseen insides of a car would win.
        """
        materials = self.mesh.materials
        none = np.full(len(materials), -1)
        count, colour = np.zeros(len(materials)), np.zeros((len(materials), 3))
        for view in range(len(cameras)):
            values, hit, material = self._trace(*_rays(cameras, view, 1), none)
            count += np.bincount(material[hit], minlength=len(materials))
            for channel in range(3):
                colour[:, channel] += np.bincount(material[hit], values[hit, channel], minlength=len(materials))
        colour /= np.maximum(count, 1)[:, None]
        similar = np.linalg.norm(colour[:, None] - colour[None], axis=-1) < 0.18
        paint, shares = none, []
        for slot in range(len(PAINTS)):
            free = np.where(paint < 0, count, 0)
            best = similar[int(np.argmax(np.where(free > 0, similar @ free, -1)))] & (paint < 0)
            if not free[best].sum():
                break
            paint = np.where(best, slot, paint)
            shares.append(float(free[best].sum() / count.sum()))
        return paint, shares + [0.0] * (len(PAINTS) - len(shares))

    def _trace(
        self, origins: NDArray[np.floating], directions: NDArray[np.floating], paint: NDArray[np.int64]
    ) -> tuple[NDArray[np.floating], NDArray[np.bool_], NDArray[np.int64]]:
        """First opaque hit of each ray: (albedo rgb, shading, paints) [R,7], hit [R], material [R]."""
        values = np.zeros((len(origins), 7), dtype=np.float32)
        hit = np.zeros(len(origins), dtype=bool)
        material = np.zeros(len(origins), dtype=np.int64)
        alive = np.arange(len(origins))
        for _ in range(_MAX_LAYERS):
            if not len(alive):
                break
            face, ray, where = self.intersector.intersects_id(
                origins[alive], directions[alive], multiple_hits=False, return_locations=True
            )
            ray = alive[ray]
            albedo, opacity, shading = self.surface(face, where, directions[ray])
            solid = opacity >= 0.5
            values[ray[solid], :3], values[ray[solid], 3] = albedo[solid], shading[solid]
            values[ray[solid], 4:] = paint[self.mesh.face_material[face[solid]], None] == np.arange(len(PAINTS))
            hit[ray[solid]] = True
            material[ray[solid]] = self.mesh.face_material[face[solid]]
            alive = ray[~solid]
            origins = origins.copy()
            origins[alive] = where[~solid] + 1e-4 * directions[alive]
        return values, hit, material

    def surface(
        self, face: NDArray[np.int64], where: NDArray[np.floating], direction: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
        mesh, corners = self.mesh, self.mesh.faces[face]
        weights = trimesh.triangles.points_to_barycentric(mesh.vertices[corners], where).clip(0, 1)
        flat = self.face_normals[face]
        normal = np.einsum("rk,rkc->rc", weights, mesh.normals[corners])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
        normal = np.where(np.abs((normal * flat).sum(1, keepdims=True)) < 0.7, flat, normal)
        normal = np.where((normal * direction).sum(1, keepdims=True) > 0, -normal, normal)
        uv = np.einsum("rk,rkc->rc", weights, mesh.uv[corners])
        albedo = np.zeros((len(face), 3), dtype=np.float32)
        opacity = np.ones(len(face), dtype=np.float32)
        for index in np.unique(mesh.face_material[face]):
            mine = mesh.face_material[face] == index
            material = mesh.materials[index]
            albedo[mine], opacity[mine] = material.colour, material.opacity
            if material.texture is not None:
                height, width = material.texture.shape[:2]
                column = (uv[mine, 0] % 1 * width).astype(int).clip(0, width - 1)
                row = ((1 - uv[mine, 1] % 1) * height).astype(int).clip(0, height - 1)
                texel = material.texture[row, column]
                albedo[mine], opacity[mine] = texel[:, :3], texel[:, 3] * material.opacity
        return albedo, opacity, shade(normal).astype(np.float32)


def _rays(cameras: Cameras, view: int, rays: int) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Origins and unit directions, one row a ray."""
    origin, directions = camera_rays(cameras, view, rays)
    return np.broadcast_to(origin, directions.shape), directions
