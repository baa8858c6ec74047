"""Turning, moving and joining splats, and the one place that knows which way is up in whose files.

Our world, glTF and Niantic's .spz are right-handed with +y up; INRIA's .ply and what descends from it take +y down.
N splats, K harmonics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import cast

import torch
from torch import Tensor

from splatdistill.io.kinds import Up
from splatdistill.ops.geometry import rotation_matrices, sh_basis
from splatdistill.scene.gaussians import FIELDS, Splats, with_sh_degree

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
_HALF = math.sqrt(0.5)
TO_OURS: dict[Up, Quaternion] = {
    "+y": (1.0, 0.0, 0.0, 0.0),
    "-y": (0.0, 0.0, 0.0, 1.0),
    "-y-z": (0.0, 1.0, 0.0, 0.0),
    "+z": (_HALF, -_HALF, 0.0, 0.0),
    "-z": (_HALF, _HALF, 0.0, 0.0),
}
"""The turn, wxyz, from a world with that axis up to ours."""


def convert_frame(splats: Splats, *, source: Up, target: Up, reuse: bool = False) -> Splats:
    """The same object in a world where `target` points up: means, quaternions and colour harmonics are turned. reuse:
    whether the numbers of `splats` may be overwritten, for nobody else has them.
    """
    if source == target:
        return splats
    turn = _turn(source, target)
    if turn.count(0.0) == 3:
        return _half_turned(splats, turn, reuse=reuse)
    return transform(splats, rotation=turn)


@cache
def _turn(source: Up, target: Up) -> Quaternion:
    """From a world with one axis up to a world with the other, wxyz."""
    w, x, y, z = TO_OURS[target]
    back = torch.tensor([w, -x, -y, -z], dtype=torch.float64)
    w, x, y, z = (float(part) for part in _product(back, torch.tensor(TO_OURS[source], dtype=torch.float64)))
    return w, x, y, z


def _half_turned(splats: Splats, turn: Quaternion, *, reuse: bool) -> Splats:
    """The splats turned by 180 degrees about an axis: signs alone change, exactly. turn: wxyz."""
    means, order, quats, harmonics = _signs(turn, splats.sh_degree)
    flipped = {"means": splats.means if reuse else splats.means.clone(), "quats": splats.quats.index_select(1, order)}
    for name, signs in (("means", means), ("quats", quats)):
        for axis, sign in enumerate(signs):
            if sign < 0:
                flipped[name][:, axis].neg_()
    if splats.sh_degree:
        table = splats.shN.reshape(len(splats), -1)  # one row of numbers each goes several times as fast
        flipped["shN"] = (table.mul_(harmonics) if reuse else table * harmonics).view_as(splats.shN)
    return Splats(**{**splats.tensors, **flipped})


@cache
def _signs(turn: Quaternion, degree: int) -> tuple[list[float], Tensor, list[float], Tensor]:
    """What half a turn does: signs of x, y and z, which number of a quaternion [4] each becomes and its sign [4], and
    the signs of harmonics [3K].
    """
    exact = torch.tensor(turn, dtype=torch.float64)
    matrix = rotation_matrices(exact[None])[0]
    product = _product(exact.expand(4, 4), torch.eye(4, dtype=torch.float64)).T  # of unit quaternions, as columns
    harmonics = _sh_rotation(matrix, degree).diagonal().round().float().repeat_interleave(3)
    means, quats = ([float(sign) for sign in signs] for signs in (matrix.diagonal(), product.sum(1)))
    return means, product.abs().argmax(1), quats, harmonics


def fitted(splats: Splats, *, radius: float) -> tuple[Splats, str]:
    """The splats moved and scaled so that 99 in 100 of them lie within `radius` (world units) of the origin, and a
    sentence about that. Splats that hardly show count for nothing.
    """
    middle, extent = ball(splats)
    scale = radius / max(extent, 1e-12)
    x, y, z = (float(-scale * v) for v in middle)
    said = f"it was a ball of radius {extent:.3g} about {_point(middle)}, moved and made {scale:.3g} times as large"
    return transform(splats, scale=scale, translation=(x, y, z)), said


def ball(splats: Splats) -> tuple[Tensor, float]:
    """The middle [3] of the splats that show, and how far 99 in 100 of them lie from it at most, world units."""
    shown = splats.means[splats.opacities > -2.2]  # opacity 0.1
    means = (shown if len(shown) else splats.means).double()
    order = means.sort(dim=0).values
    rank = (len(means) - 1) * torch.tensor([0.01, 0.99], dtype=torch.float64)
    low, high = order[int(rank[0].floor())], order[int(rank[1].ceil())]
    middle = 0.5 * (low + high)
    far = cast(Tensor, (means - middle).norm(dim=-1)).sort().values  # pyright: ignore[reportUnknownMemberType]
    return middle, float(far[int(rank[1].ceil())])


def refuse_out_of_sight(splats: Splats, *, radius: float, name: str) -> None:
    """ValueError where less than half of the splats lie where cameras look that orbit a ball of `radius` (world units)
    about the origin. name: what the sentence calls them.
    """
    far = cast(Tensor, splats.means.norm(dim=-1))  # pyright: ignore[reportUnknownMemberType]
    inside = int((far < 1.5 * radius).sum())
    if 2 * inside < len(splats):
        middle, extent = ball(splats)
        outside = f"{len(splats) - inside} of {len(splats)} splats lie outside"
        raise ValueError(
            f"{name}: the cameras look at a ball of radius {radius:g} about the origin, but {outside}; together they "
            f"are a ball of radius {extent:.3g} about {_point(middle)}. --fit moves and scales them."
        )


def _point(place: Tensor) -> str:
    return "(" + ", ".join(f"{float(v):.3g}" for v in place) + ")"


def transform(
    splats: Splats, *, rotation: Quaternion = (1, 0, 0, 0), scale: float = 1.0, translation: Vector = (0, 0, 0)
) -> Splats:
    """The splats scaled, then turned by a unit quaternion wxyz, then moved; scale > 0, translation in world units."""
    turn = torch.tensor(rotation, dtype=torch.float64)
    matrix = rotation_matrices(turn[None])[0]
    means = scale * splats.means.double() @ matrix.T + torch.tensor(translation, dtype=torch.float64)
    moved = {
        "means": means.float(),
        "quats": _product(turn.expand(len(splats), 4), splats.quats.double()).float(),
        "scales": splats.scales + math.log(scale),
        "shN": torch.einsum("kj,njc->nkc", _sh_rotation(matrix, splats.sh_degree), splats.shN.double()).float(),
    }
    return Splats(**{**splats.tensors, **moved})


def concatenate(parts: Sequence[Splats]) -> Splats:
    """All splats of `parts` as one object, of the highest degree among them."""
    degree = max(part.sh_degree for part in parts)
    alike = [with_sh_degree(part, degree) for part in parts]
    return Splats(**{name: torch.cat([part.tensors[name] for part in alike]) for name in FIELDS})


def from_turns(degrees: Vector) -> Quaternion:
    """The quaternion wxyz of turning about x, then y, then z, each counter-clockwise seen from its positive end."""
    turn = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    for axis, angle in enumerate(degrees):
        half = math.radians(angle) / 2
        about = torch.zeros(4, dtype=torch.float64)
        about[0], about[1 + axis] = math.cos(half), math.sin(half)
        turn = _product(about, turn)
    w, x, y, z = (float(part) for part in turn)
    return w, x, y, z


def _product(p: Tensor, q: Tensor) -> Tensor:
    """Hamilton product of quaternions p and q [...,4] wxyz: first q, then p."""
    a, b, c, d = p.unbind(-1)
    w, x, y, z = q.unbind(-1)
    return torch.stack(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ],
        -1,
    )


def _sh_rotation(matrix: Tensor, degree: int) -> Tensor:
    """[K,K] that turns the harmonics of degree 1..degree: solved from their values in directions before and after the
    turn matrix [3,3].
    """
    g = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(64, 3, generator=g, dtype=torch.float64), dim=-1)
    after, before = (sh_basis(d, degree)[:, 1:] for d in (directions, directions @ matrix))
    return cast(Tensor, torch.linalg.lstsq(after, before).solution)  # pyright: ignore[reportUnknownMemberType]
