"""Makes small meshes of models: what can be seen of them, in few flat triangles, and few bits a number.

A mesh of more triangles is tried until the pictures are like the model's own from the cameras of its first rings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from splatdistill.embedded.corpus.meshes import ModelMesh
from splatdistill.embedded.corpus.rays import camera_rays
from splatdistill.embedded.corpus.render import Caster
from splatdistill.priors.gbuffer import ALBEDO, ALPHA, PAINTS, SHADING, rgba_white
from splatdistill.priors.instances import COLOURS, GRID, SHADES, MeshCode
from splatdistill.priors.zbuffer import draw
from splatdistill.scene.cameras import orbit
from splatdistill.scene.types import Cameras

SIZES = (250, 500, 850, 1200, 2400)
"""Triangles that are tried."""
GOOD_DB, POOR_DB = 33.0, 29.0
"""A mesh is good enough when its pictures are this close to the model's. The last size is for those that are poor."""
_VIEWS, _SIDE = 24, 104  # from which the surface is looked at, pixels a side
_LAYERS = 4  # surfaces behind each other that a ray passes where materials are transparent
_INSIDE = 3  # a triangle's colour is read at so many points a side
_LOW = 1e-3  # world units, less than half a step of GRID
_VARIED = 0.06  # spread of colours in a triangle from which it is split


def simplify(mesh: ModelMesh, paint: NDArray[np.int64], *, cameras: Cameras, truth: Tensor) -> MeshCode:
    """The smallest mesh of those tried that is good enough, or the best of them. paint: [M] of each material, -1 for
    none; truth: G-buffers [V,S,S,8] uint8 of the model from the cameras.
    """
    surface = VisibleSurface(mesh, paint)
    wanted = pictures(truth.float() / 255)
    best, error = None, math.inf
    for code in surface.codes():
        level = -10 * math.log10(max(error, 1e-9))
        if level >= GOOD_DB or (len(code.faces) > SIZES[-2] and level >= POOR_DB):
            break
        seen = draw(code.decode(), cameras, size=truth.shape[1])
        found = float((pictures(seen) - wanted).square().mean())
        if found < 0.9 * error:  # more triangles must pay
            best, error = code, found
    assert best is not None
    return best


def pictures(buffers: Tensor) -> Tensor:
    """[V,7,S/2,S/2] in 0..1 of G-buffers [V,S,S,8] in 0..1: on white, with alpha and paints, at half the side."""
    alpha = buffers[..., ALPHA, None]
    seen = rgba_white(buffers[..., ALBEDO] * buffers[..., SHADING, None], alpha) * 0.5 + 0.5
    masks = torch.stack([buffers[..., i] * alpha[..., 0] for i in PAINTS], 1)
    return F.avg_pool2d(torch.cat([seen, masks], 1), 2)


class VisibleSurface:
    """What rays from all around meet of a model: its triangles, and points with their colour, shade and paint."""

    def __init__(self, mesh: ModelMesh, paint: NDArray[np.int64]) -> None:
        from scipy.spatial import KDTree

        caster = Caster(mesh)
        found = [part for view in range(_VIEWS) for part in _look(caster, paint, _ring(), view)]
        points, values, faces = (np.concatenate(parts) for parts in zip(*found, strict=True))
        self.values: NDArray[np.float32] = values
        self._near: Any = KDTree(points)
        seen = np.unique(faces)
        self.vertices, self.faces = weld(mesh.vertices, mesh.faces[seen], cells=1 << 12)
        self.textured = any(mesh.materials[i].texture is not None for i in np.unique(mesh.face_material[seen]))

    def codes(self) -> Iterator[MeshCode]:
        """Meshes of more and more triangles, the last with all of them where these are few."""
        for most in SIZES:
            if few := len(self.faces) <= most:
                yield self._code(*self._split(self.vertices, self.faces, most))
            else:
                target = most // 2 if self.textured else most
                for reduce in (collapse, cluster):
                    vertices, faces = weld(*reduce(self.vertices, self.faces, target), cells=GRID)
                    if 0 < len(faces) <= 1.2 * target:
                        yield self._code(*self._split(vertices, faces, most))
            if few and not self.textured:
                return

    def _read(self, corners: NDArray[np.floating]) -> NDArray[np.float32]:
        """[F,P,5] values at points inside triangles [F,3,3]."""
        inside = _barycentric(_INSIDE)
        points = np.einsum("pk,fkc->fpc", inside, corners)
        _, index = self._near.query(points.reshape(-1, 3))
        return self.values[index].reshape(len(corners), len(inside), -1)

    def _split(
        self, vertices: NDArray[np.floating], faces: NDArray[np.int64], most: int
    ) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
        """Halves the triangles whose colours differ most, by area, until there are `most`."""
        while self.textured and len(faces) < most:
            corners = vertices[faces]
            area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
            spread = self._read(corners)[..., :3].std(1).max(-1)
            worth = np.where((spread > _VARIED) & (area > (6 / GRID) ** 2), spread * area, 0)
            chosen = np.argsort(-worth)[: max(1, (most - len(faces)) // 2)]
            chosen = chosen[worth[chosen] > 0]
            if not len(chosen):
                break
            some = faces[chosen]
            edges = np.linalg.norm(np.roll(vertices[some], -1, 1) - vertices[some], axis=-1)
            row, first = np.arange(len(some)), edges.argmax(1)
            a, b, c = some[row, first], some[row, (first + 1) % 3], some[row, (first + 2) % 3]
            middle = len(vertices) + row
            vertices = np.concatenate([vertices, (vertices[a] + vertices[b]) / 2])
            halves = [np.stack([a, middle, c], 1), np.stack([middle, b, c], 1)]
            faces = np.concatenate([np.delete(faces, chosen, 0), *halves])
        return vertices, faces

    def _code(self, vertices: NDArray[np.floating], faces: NDArray[np.int64]) -> MeshCode:
        """Medians of what lies in each triangle, rounded."""
        vertices, faces = weld(vertices, faces, cells=GRID)
        read = self._read(vertices[faces])
        value = np.median(read[..., :4], axis=1)
        paint = np.stack([(read[..., 4] == slot).sum(1) for slot in (-1, *range(len(PAINTS)))], 1).argmax(1)
        colour = (value[:, :3] * (COLOURS - 1)).round()
        shade = (value[:, 3] * (SHADES - 1)).round()
        cells = ((vertices + 1) / 2 * (GRID - 1)).round()
        table = np.column_stack([colour, shade, paint]).astype(np.uint8)
        return MeshCode.ordered(cells.astype(np.int16), faces, table)


def collapse(
    vertices: NDArray[np.floating], faces: NDArray[np.int64], most: int
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Edges collapse by quadric errors (Garland and Heckbert, 1997). At open borders a sheet would shrink at no cost,
    so each border edge first gets a triangle that stands upright on it, too low to outlast the rounding afterwards.
    """
    import fast_simplification

    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, first, count = np.unique(np.sort(edges, 1), axis=0, return_index=True, return_counts=True)
    border = first[count == 1]
    normal = np.cross(vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    a, b = edges[border].T
    top = len(vertices) + np.arange(len(border))
    raised = vertices[a] + _LOW * normal[border % len(faces)]
    upright = np.stack([b, a, top], 1)
    points: Any = np.concatenate([vertices, raised]).astype(np.float32)
    triangles: Any = np.concatenate([faces, upright]).astype(np.int32)
    found = fast_simplification.simplify(points, triangles, target_count=most, agg=4)
    return np.asarray(found[0], np.float64), np.asarray(found[1], np.int64)


def cluster(
    vertices: NDArray[np.floating], faces: NDArray[np.int64], most: int
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """The vertices in each cell of a grid become their mean, in the finest of some grids that leaves few triangles:
    for what is made of so many loose parts that no edge may collapse.
    """
    for cells in (96, 64, 48, 40, 32, 26, 20, 16, 12):
        at = ((vertices.clip(-1, 1) + 1) / 2 * cells).round().astype(np.int64)
        unique, number = np.unique(at, axis=0, return_inverse=True)
        number = number.reshape(-1)
        mean = np.stack([np.bincount(number, vertices[:, k], minlength=len(unique)) for k in range(3)], 1)
        mean /= np.bincount(number, minlength=len(unique))[:, None]
        found = _tidy(number[faces])
        if len(found) <= most:
            break
    return mean, found


def weld(
    vertices: NDArray[np.floating], faces: NDArray[np.int64], *, cells: int
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Vertices are rounded to a grid of cells^3 points, and what then is the same is one."""
    at = ((vertices.clip(-1, 1) + 1) / 2 * (cells - 1)).round().astype(np.int64)
    unique, number = np.unique(at, axis=0, return_inverse=True)
    faces = _tidy(number.reshape(-1)[faces])
    used, number = np.unique(faces, return_inverse=True)
    return unique[used] / (cells - 1) * 2 - 1, number.reshape(-1, 3)


def _tidy(faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Without triangles of no area, and doubles."""
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    _, first = np.unique(np.sort(faces, 1), axis=0, return_index=True)
    return faces[np.sort(first)]


def _ring() -> Cameras:
    """_VIEWS cameras all around, from a little below to above."""
    place = torch.arange(_VIEWS) + 0.5
    one = torch.ones(_VIEWS)
    golden = math.pi * (3 - math.sqrt(5))
    return orbit(
        azimuth=place * golden, elevation=torch.asin(-0.5 + 1.48 * place / _VIEWS), radius=3.3 * one,
        fovy=0.66 * one, size=_SIDE,
    )  # fmt: skip


def _look(
    caster: Caster, paint: NDArray[np.int64], cameras: Cameras, view: int
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.int64]]]:
    """Points [R,3] where rays meet the surface, colour, shade and paint [R,5], and triangles [R]."""
    origin, directions = camera_rays(cameras, view, 1)
    start, ray = np.broadcast_to(origin, directions.shape).copy(), np.arange(len(directions))
    for _ in range(_LAYERS):
        face, hit, where = caster.intersector.intersects_id(
            start[ray], directions[ray], multiple_hits=False, return_locations=True
        )
        if not len(hit):
            return
        ray = ray[hit]
        albedo, opacity, shade = caster.surface(face, where, directions[ray])
        solid = opacity >= 0.5
        slot = paint[caster.mesh.face_material[face]]
        values = np.column_stack([albedo, shade, slot]).astype(np.float32)
        yield where[solid], values[solid], face[solid]
        start[ray] = where + 1e-4 * directions[ray]
        ray = ray[~solid]
        if not len(ray):
            return


def _barycentric(side: int) -> NDArray[np.floating]:
    """[side^2,3] points spread evenly over a triangle: the middles of side^2 smaller ones."""
    up = [((i + 1 / 3) / side, (j + 1 / 3) / side) for i in range(side) for j in range(side - i)]
    down = [((i + 2 / 3) / side, (j + 2 / 3) / side) for i in range(side) for j in range(side - i - 1)]
    pairs = np.array(up + down)
    return np.column_stack([1 - pairs.sum(1), pairs])
