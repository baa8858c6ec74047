"""Primitives of procedural objects, balls, frusta, rings and convex hulls, and rays cast at them in closed form: no
mesh, no library but NumPy, so that a machine with the code and a seed has the images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from splatdistill.embedded.corpus.rays import camera_rays, enclosing_ball, pixels, shade
from splatdistill.priors.gbuffer import CHANNELS
from splatdistill.scene.types import Cameras

Kind = Literal["ball", "frustum", "ring", "box", "pyramid", "roof"]
Colour = tuple[float, float, float]
DARK, LIGHT, WOOD, METAL = (0.10, 0.10, 0.11), (0.93, 0.92, 0.90), (0.55, 0.36, 0.18), (0.58, 0.59, 0.62)
GLASS, WAFER = (0.70, 0.85, 0.93), (0.82, 0.60, 0.32)
"""Colours of parts that take none of the object's."""
_FAR = np.float32(1e9)
BARE = 0.6  # albedo under paint
_PLANES: dict[str, list[tuple[float, float, float, float]]] = {
    "box": [(1, 0, 0, 1), (-1, 0, 0, 1), (0, 1, 0, 1), (0, -1, 0, 1), (0, 0, 1, 1), (0, 0, -1, 1)],
    "pyramid": [(0, -1, 0, 1), (2, 1, 0, 1), (-2, 1, 0, 1), (0, 1, 2, 1), (0, 1, -2, 1)],
    "roof": [(0, -1, 0, 1), (2, 1, 0, 1), (-2, 1, 0, 1), (0, 0, 1, 1), (0, 0, -1, 1)],
}


@dataclass(frozen=True)
class Part:
    """One solid, the unit one moved by `matrix` [3,4] (world from local).

    ball: radius 1. frustum: |y| <= 1, radius 1 below and `ratio` above. ring: round y, radius 1, `ratio` thick. The
    hulls fill |x|, |y|, |z| <= 1: box, pyramid with its tip up, roof with its ridge along z.
    paint: which of the object's colours it takes, or an sRGB colour of its own.
    """

    kind: Kind
    matrix: NDArray[np.floating]
    paint: int | Colour
    ratio: float = 1.0

    @property
    def bound(self) -> tuple[NDArray[np.floating], float]:
        """Centre and radius of a ball that holds it, its axes being square to each other."""
        x, y, z = np.linalg.norm(self.matrix[:, :3], axis=0)
        match self.kind:
            case "ball":
                radius = max(x, y, z)
            case "ring":
                radius = math.hypot((1 + self.ratio) * max(x, z), self.ratio * y)
            case "frustum":
                radius = math.hypot(max(1.0, self.ratio) * max(x, z), y)
            case _:
                radius = math.hypot(x, y, z)
        return self.matrix[:, 3], float(radius)

    def points(self) -> NDArray[np.floating]:
        """Some points [N,3] of its surface whose hull nearly holds it."""
        angle = np.arange(16) * (math.pi / 8)
        x, z = np.cos(angle), np.sin(angle)
        if self.kind == "frustum":
            local = np.concatenate([np.stack([r * x, 0 * x + y, r * z], 1) for r, y in ((1, -1), (self.ratio, 1))])
        elif self.kind == "ring":
            r = 1 + self.ratio
            local = np.stack([r * x, 0 * x, r * z], 1)
        elif self.kind == "ball":
            local = np.concatenate(
                [
                    np.stack([c * x, s + 0 * x, c * z], 1)
                    for c, s in ((1, 0), (0.7, 0.714), (0.7, -0.714), (0, 1), (0, -1))
                ]
            )
        else:
            top = {"box": (-1, 1), "pyramid": (0,), "roof": (-1, 1)}[self.kind]
            low = [(x, -1, z) for x in (-1, 1) for z in (-1, 1)]
            high = [(x if self.kind == "box" else 0, 1, z) for x in (-1, 1) for z in top]
            local = np.array(low + high, dtype=np.float64)
        return local @ self.matrix[:, :3].T + self.matrix[:, 3]


def solid(
    kind: Kind,
    at: Sequence[float],
    size: Sequence[float] | float,
    paint: int | Colour,
    *,
    ratio: float = 1.0,
    turn: tuple[float, float, float] = (0, 0, 0),
) -> Part:
    """A part with its middle at `at` [3] and half extents `size` (one number or three), turned by degrees about x, then
    y, then z.
    """
    x, y, z = (math.radians(a) for a in turn)
    about_x = np.array([[1, 0, 0], [0, math.cos(x), -math.sin(x)], [0, math.sin(x), math.cos(x)]])
    about_y = np.array([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    about_z = np.array([[math.cos(z), -math.sin(z), 0], [math.sin(z), math.cos(z), 0], [0, 0, 1]])
    scale = np.diag(np.broadcast_to(np.asarray(size, dtype=np.float64), 3))
    return Part(
        kind, np.concatenate([about_z @ about_y @ about_x @ scale, np.array(at, float)[:, None]], 1), paint, ratio
    )


def limb(
    a: Sequence[float], b: Sequence[float], radius: float, paint: int | Colour, *, end: float | None = None
) -> Part:
    """A frustum from point `a` to point `b`; `end`: its radius at `b`."""
    start, stop = np.array(a, float), np.array(b, float)
    up = (stop - start) / 2
    length = float(np.linalg.norm(up))
    across = np.cross(up / length, [1.0, 0, 0] if abs(up[0]) < 0.9 * length else [0, 0, 1.0])
    across /= np.linalg.norm(across)
    other = np.cross(across, up / length)
    columns = [radius * across, up, radius * other, (start + stop) / 2]
    return Part("frustum", np.stack(columns, 1), paint, 1.0 if end is None else end / radius)


def around(num: int, radius: float, start: float = 0.0) -> list[tuple[float, float, float]]:
    """`num` points (x, z, degrees) evenly round the vertical axis."""
    angles = [start + 2 * math.pi * i / num for i in range(num)]
    return [(radius * math.sin(a), radius * math.cos(a), math.degrees(a)) for a in angles]


def fit(parts: Sequence[Part]) -> list[Part]:
    """The parts together in the unit ball."""
    centre, radius = enclosing_ball(np.concatenate([p.points() for p in parts]))
    moved = []
    for part in parts:
        matrix = part.matrix / radius
        matrix[:, 3] = (part.matrix[:, 3] - centre) / radius
        moved.append(replace(part, matrix=matrix))
    return moved


def gbuffer(parts: Sequence[Part], cameras: Cameras, *, rays: int = 3) -> NDArray[np.uint8]:
    """[V,H,W,8] uint8 as `rays.CHANNELS` says, with rays x rays per pixel."""
    views = []
    for view in range(len(cameras)):
        origin, directions = camera_rays(cameras, view, rays)
        values, hit = _trace(parts, origin, directions.astype(np.float32))
        views.append(pixels(values, hit, size=cameras.height, rays=rays))
    out = np.stack(views)
    assert out.shape[-1] == CHANNELS
    return out


def _trace(
    parts: Sequence[Part], origin: NDArray[np.floating], directions: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    nearest = np.full(len(directions), _FAR)
    normals = np.zeros((len(directions), 3), dtype=np.float32)
    owner = np.full(len(directions), -1)
    for index, part in enumerate(parts):
        centre, radius = part.bound
        away = (centre - origin).astype(np.float32)
        along = directions @ away
        rows = np.flatnonzero(np.float32(away @ away) - along**2 < np.float32(radius**2))
        if not len(rows):
            continue
        inverse = np.linalg.inv(part.matrix[:, :3])
        start = (inverse @ (origin - centre)).astype(np.float32)
        t, normal = _INTERSECT[part.kind](part, start, directions[rows] @ inverse.T.astype(np.float32))
        closer = t < nearest[rows]
        rows = rows[closer]
        nearest[rows], owner[rows] = t[closer], index
        normals[rows] = normal[closer] @ inverse.astype(np.float32)
    hit = owner >= 0
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + np.float32(1e-12)
    values = np.zeros((len(directions), 7), dtype=np.float32)
    values[:, 3] = shade(normals)
    appearance = np.zeros((len(parts), 7), dtype=np.float32)
    for row, part in zip(appearance, parts, strict=True):
        if isinstance(part.paint, int):
            row[:3], row[4 + part.paint] = BARE, 1
        else:
            row[:3] = part.paint
    keep = [0, 1, 2, 4, 5, 6]
    values[:, keep] = appearance[owner][:, keep]
    return values, hit


def _ball(
    _: Part, o: NDArray[np.floating], d: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    a, b, c = (d * d).sum(1), d @ o, o @ o - np.float32(1)
    under = b * b - a * c
    t = np.where(under >= 0, (-b - np.sqrt(np.maximum(under, 0))) / a, _FAR)
    return t, o + t[:, None] * d


def _frustum(
    part: Part, o: NDArray[np.floating], d: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    middle, slope = np.float32((part.ratio + 1) / 2), np.float32((part.ratio - 1) / 2)
    wide = middle + slope * o[1]
    a = d[:, 0] ** 2 + d[:, 2] ** 2 - (slope * d[:, 1]) ** 2
    a = np.where(np.abs(a) < 1e-9, np.float32(1e-9), a)
    b = d[:, 0] * o[0] + d[:, 2] * o[2] - wide * slope * d[:, 1]
    c = o[0] ** 2 + o[2] ** 2 - wide**2
    under = b * b - a * c
    root = np.sqrt(np.maximum(under, 0))
    best = np.full(len(d), _FAR)
    normal = np.zeros_like(d)
    for sign in (-1, 1):
        t = (-b + sign * root) / a
        y = o[1] + t * d[:, 1]
        ok = (under >= 0) & (t > 0) & (np.abs(y) <= 1) & (t < best)
        best = np.where(ok, t, best)
        side = np.stack([o[0] + t * d[:, 0], -slope * (middle + slope * y), o[2] + t * d[:, 2]], 1)
        normal = np.where(ok[:, None], side, normal)
    down = np.where(np.abs(d[:, 1]) < 1e-9, np.float32(1e-9), d[:, 1])
    for y, radius in ((-1, 1.0), (1, part.ratio)):
        t = (np.float32(y) - o[1]) / down
        x, z = o[0] + t * d[:, 0], o[2] + t * d[:, 2]
        ok = (x * x + z * z <= radius**2) & (t > 0) & (t < best)
        best = np.where(ok, t, best)
        normal = np.where(ok[:, None], np.array([0, y, 0], dtype=np.float32), normal)
    return best, normal


def _hull(
    part: Part, o: NDArray[np.floating], d: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    enter, leave = np.full(len(d), -_FAR), np.full(len(d), _FAR)
    normal = np.zeros_like(d)
    for *n, distance in _PLANES[part.kind]:
        plane = np.array(n, dtype=np.float32)
        speed = d @ plane
        gap = np.float32(distance) - o @ plane
        t = gap / np.where(np.abs(speed) < 1e-9, np.float32(1e-9), speed)
        inward = (speed < 0) & (t > enter)
        normal = np.where(inward[:, None], plane, normal)
        enter = np.where(inward, t, enter)
        leave = np.where((speed > 0) & (t < leave), t, leave)
        leave = np.where((np.abs(speed) < 1e-9) & (gap < 0), -_FAR, leave)
    return np.where((enter < leave) & (enter > 0), enter, _FAR), normal


def _ring(
    part: Part, o: NDArray[np.floating], d: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    # The quartic is badly conditioned in float32; distances to a torus are exact, so steps of that length are safe.
    speed = np.sqrt((d * d).sum(1))
    b = d @ o / speed
    thick = np.float32(part.ratio)
    t = np.maximum(-b - np.sqrt(np.maximum(b * b - (o @ o - (1 + thick) ** 2), 0)), 0)
    gap = np.full_like(t, _FAR)
    for _ in range(32):
        p = o + (t / speed)[:, None] * d
        round_ = np.sqrt(p[:, 0] ** 2 + p[:, 2] ** 2) - 1
        gap = np.sqrt(round_**2 + p[:, 1] ** 2) - thick
        t = t + gap
    p = o + (t / speed)[:, None] * d
    length = np.sqrt(p[:, 0] ** 2 + p[:, 2] ** 2) + np.float32(1e-9)
    normal = np.stack([p[:, 0] * (1 - 1 / length), p[:, 1], p[:, 2] * (1 - 1 / length)], 1)
    return np.where(gap < np.float32(0.01), t / speed, _FAR), normal


_INTERSECT = {"ball": _ball, "frustum": _frustum, "ring": _ring, "box": _hull, "pyramid": _hull, "roof": _hull}
