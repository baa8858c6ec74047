"""Turning, moving and joining splats, and the one place that knows which way is up in whose files.

Our world, glTF and .spz are right-handed with +y up; INRIA's .ply and what descends from it take +y down. One is the
other turned by 180 degrees about x. N splats, K harmonics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from splatdistill.io.kinds import Up
from splatdistill.ops.geometry import rotation_matrices, sh_basis
from splatdistill.scene.gaussians import FIELDS, Splats, with_sh_degree

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
UPSIDE_DOWN: Quaternion = (0.0, 1.0, 0.0, 0.0)


def convert_frame(splats: Splats, *, source: Up, target: Up) -> Splats:
    """The same object in a world where `target` points up: means, quaternions and colour harmonics are turned."""
    return splats if source == target else transform(splats, rotation=UPSIDE_DOWN)


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
