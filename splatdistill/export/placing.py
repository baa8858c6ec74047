"""Parts of a scene: each stands where it was put, and a plane lies between any two of them.

A part is bounded by the half-spaces of M directions, which come in opposite pairs. Each touches the ellipsoids of one
standard deviation of the part's splats from outside. N splats, K parts; world units; +y up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from splatdistill.io.frames import Quaternion, Vector, from_turns, transform
from splatdistill.ops.geometry import rotation_matrices
from splatdistill.scene.gaussians import Splats

SHOWS = -2.2
"""Logit of the opacity 0.1, below which a splat hardly shows and bounds nothing, as in `frames.ball`."""
STRAY = 0.002
"""Share of the splats on each side that may lie outside of the box that a part is measured by."""
ROUND, SLOPED = 64, 16  # horizontal directions, and those that rise or fall by 45 degrees
GAP = 1e-3
"""How far apart parts are moved that overlapped: more than what rounding takes back."""


@dataclass(frozen=True)
class Place:
    """Where a part stands. at: the middle of the underside of its box; extent: the longest side of that box, world
    units; turn: degrees about +y, before it is measured, counter-clockwise seen from above.
    """

    at: Vector
    extent: float = 1.0
    turn: float = 0.0


@dataclass(frozen=True)
class Pose:
    """From the frame of a part to that of the scene: `scale` times as large, turned by `turn` degrees about +y, then
    moved.
    """

    scale: float = 1.0
    turn: float = 0.0
    move: Vector = (0.0, 0.0, 0.0)

    @property
    def rotation(self) -> Quaternion:
        return from_turns((0.0, self.turn, 0.0))

    def into_scene(self, splats: Splats) -> Splats:
        return transform(splats, rotation=self.rotation, scale=self.scale, translation=self.move)

    def out_of_scene(self, splats: Splats) -> Splats:
        """The inverse of `into_scene`, but for rounding."""
        back = from_turns((0.0, -self.turn, 0.0))
        matrix = rotation_matrices(torch.tensor([back], dtype=torch.float64))[0]
        x, y, z = (-float(v) / self.scale for v in matrix @ torch.tensor(self.move, dtype=torch.float64))
        return transform(splats, rotation=back, scale=1 / self.scale, translation=(x, y, z))

    def moved(self, by: Vector) -> Pose:
        x, y, z = (one + other for one, other in zip(self.move, by, strict=True))
        return replace(self, move=(x, y, z))


def pose_of(splats: Splats, place: Place) -> Pose:
    """How the splats of a part come to its place. ValueError, one sentence, where they have no extent."""
    turned = transform(_shown(splats), rotation=from_turns((0.0, place.turn, 0.0))).means.double()
    order = turned.sort(dim=0).values
    skip = int(STRAY * (len(order) - 1))
    low, high = order[skip], order[len(order) - 1 - skip]
    longest = float((high - low).max())
    if not longest > 0:
        raise ValueError(f"a part must have splats that lie apart; all {len(splats)} of this one are at one point.")
    scale = place.extent / longest
    foot = torch.stack([0.5 * (low[0] + high[0]), low[1], 0.5 * (low[2] + high[2])])
    x, y, z = (at - scale * float(v) for at, v in zip(place.at, foot, strict=True))
    return Pose(scale, place.turn, (x, y, z))


def bounds(splats: Splats) -> Tensor:
    """[M] how far the splats reach along each of the `directions`, world units."""
    shown = _shown(splats)
    ways = directions()
    axes = rotation_matrices(torch.nn.functional.normalize(shown.quats.double(), dim=-1))  # columns: of the ellipsoid
    wide = torch.einsum("nij,mi->nmj", axes, ways) * shown.scales.double().exp()[:, None]
    far = shown.means.double() @ ways.T + wide.square().sum(-1).sqrt()
    return far.amax(0)


def gaps(parts: Sequence[Tensor]) -> Tensor:
    """[K,K] of the `bounds` [M] of K parts: the widest gap between two of them along any direction, below 0 where they
    overlap; infinite on the diagonal.
    """
    reach = torch.stack(list(parts))
    return (-_opposite(reach)[:, None] - reach[None]).amax(-1).fill_diagonal_(math.inf)


def inside(parts: Sequence[Splats], bounded: Sequence[Tensor]) -> int:
    """How many splats that show have their centre within the bounds [M] of another part."""
    found = 0
    for one, part in enumerate(parts):
        reach = _shown(part).means.double() @ directions().T
        within = [(reach < other).all(-1) for index, other in enumerate(bounded) if index != one]
        found += int(torch.stack(within).any(0).sum()) if within else 0
    return found


def parted(bounded: Sequence[Tensor]) -> list[Vector]:
    """How each of K parts with these `bounds` [M] moves so that no two overlap: the first stays, and each other one
    goes the shortest way, level or up, that takes it clear of all before it. Parts that overlap none stay.
    """
    moves: list[Vector] = []
    for reach in bounded:
        before = [_along(other, move) for other, move in zip(bounded, moves, strict=False)]
        moves.append(_way_out(reach, before) if before else (0.0, 0.0, 0.0))
    return moves


def _way_out(reach: Tensor, before: Sequence[Tensor]) -> Vector:
    """The shortest move of a part that leaves a gap to others. reach: its bounds [M]; before: those of the J others,
    each [M].
    """
    ways = directions()
    gap = -_opposite(reach)[None] - torch.stack(list(before))  # [J,M]: the part beyond the other along each direction
    if bool((gap.amax(1) >= 0).all()):
        return 0.0, 0.0, 0.0
    best: tuple[float, Tensor] = math.inf, ways[0]
    for way in ways[(ways[:, 1] == 0) | (ways[:, 1] == 1)]:
        rate = ways @ way
        ahead = rate > 1e-9
        lengths = ((GAP - gap[:, ahead]) / rate[ahead]).flatten()  # where a gap opens along one of the directions
        lengths = lengths[(lengths > 0) & (lengths < best[0])].sort().values
        # The least length may be rounded to just short of the gap that it is made for.
        clear = (gap + lengths[:, None, None] * rate >= 0.5 * GAP).any(-1).all(-1)
        if bool(clear.any()):
            best = float(lengths[clear][0]), way
    x, y, z = (best[0] * float(v) for v in best[1])
    return x, y, z


@cache
def directions() -> Tensor:
    """[M,3] unit vectors of float64: level ones, sloped ones, up and down; the opposite of each is one too."""
    return torch.cat([_cone(ROUND, 0.0), _cone(SLOPED, 1.0), _cone(SLOPED, -1.0), torch.tensor(
        [[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]], dtype=torch.float64
    )])  # fmt: skip


def _cone(count: int, rise: float) -> Tensor:
    """[count,3] unit vectors evenly round +y that rise by so much for each unit on the level."""
    angle = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    x, z = angle.sin().round(decimals=12), angle.cos().round(decimals=12)  # along an axis the others are 0
    return torch.nn.functional.normalize(torch.stack([x, torch.full_like(angle, rise), z], -1))


@cache
def _opposites() -> Tensor:
    """[M] the place of each direction's opposite."""
    return (directions() @ directions().T).argmin(1)


def _opposite(reach: Tensor) -> Tensor:
    """[...,M] how far something reaches along the opposite of each direction."""
    return reach[..., _opposites()]


def _along(reach: Tensor, move: Vector) -> Tensor:
    """The bounds [M] of a part that has moved."""
    return reach + directions() @ torch.tensor(move, dtype=torch.float64)


def _shown(splats: Splats) -> Splats:
    """Those that show, all where none does."""
    shown = splats.opacities > SHOWS
    kept = shown if bool(shown.any()) else torch.ones_like(shown)
    return Splats(**{name: value[kept] for name, value in splats.detach().tensors.items()})
