"""Parts of a scene: where they come to stand, and that nothing of one lies in another, by an outside solver."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from splatdistill.export import placing
from splatdistill.export.placing import Place, Pose
from splatdistill.ops.geometry import rotation_matrices
from splatdistill.scene.gaussians import Splats
from tests.rounding import DOUBLE, UNIT, assert_within


def blob(seed: int, *, count: int = 60, middle: Sequence[float] = (0, 0, 0)) -> Splats:
    """Splats of all widths and turns about a point, in a flattened ball; every fifth does not show."""
    g = torch.Generator().manual_seed(seed)
    stretch = 0.2 + torch.rand(3, generator=g)
    means = torch.tensor(middle) + stretch * torch.randn(count, 3, generator=g)
    shown = torch.arange(count) % 5 > 0
    return Splats(
        means=means, quats=torch.randn(count, 4, generator=g), scales=-3 + torch.randn(count, 3, generator=g),
        opacities=torch.where(shown, 2.0, -4.0), sh0=torch.zeros(count, 1, 3), shN=torch.zeros(count, 0, 3),
    )  # fmt: skip


def surface(splats: Splats) -> Tensor:
    """Points on the ellipsoids of one standard deviation of the splats that show, and their centres, [P,3]."""
    g = torch.Generator().manual_seed(0)
    ways = torch.nn.functional.normalize(torch.randn(20, 3, generator=g, dtype=torch.float64), dim=-1)
    axes = rotation_matrices(splats.quats.double()) * splats.scales.double().exp()[:, None]
    around = splats.means.double()[:, None] + torch.einsum("nij,pj->npi", axes, ways)
    return torch.cat([around, splats.means.double()[:, None]], 1)[splats.opacities > placing.SHOWS].flatten(0, 1)


def meet(one: Tensor, other: Tensor) -> bool:
    """Whether the convex hulls of two sets of points [P,3] share one: a mean of the first is one of the second."""
    rows = np.concatenate([one.numpy().T, -other.numpy().T], 1)
    sums = np.zeros((2, rows.shape[1]))
    sums[0, : len(one)] = sums[1, len(one) :] = 1
    found = linprog(np.zeros(rows.shape[1]), A_eq=np.concatenate([rows, sums]), b_eq=[0, 0, 0, 1, 1])
    assert found.status in (0, 2)  # solved, or without a solution
    return found.status == 0


def shifted(splats: Splats, move: Sequence[float]) -> Splats:
    return Pose(move=(move[0], move[1], move[2])).into_scene(splats)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_of_one_part_lies_in_another_once_they_are_parted(seed: int) -> None:
    g = torch.Generator().manual_seed(100 + seed)
    middles = torch.rand(4, 3, generator=g).tolist()
    parts = [blob(10 * seed + k, middle=middle) for k, middle in enumerate(middles)]
    assert any(meet(surface(a), surface(b)) for a, b in itertools.combinations(parts, 2))
    moves = placing.parted([placing.bounds(part) for part in parts])
    after = [shifted(part, move) for part, move in zip(parts, moves, strict=True)]
    assert not any(meet(surface(a), surface(b)) for a, b in itertools.combinations(after, 2))
    bounded = [placing.bounds(part) for part in after]
    assert (placing.gaps(bounded) >= 0).all() and placing.inside(after, bounded) == 0
    assert placing.inside(parts, [placing.bounds(part) for part in parts]) > 0
    assert moves[0] == (0, 0, 0) and all(move[1] >= 0 for move in moves)  # the first stays; nothing goes into the floor
    assert placing.parted(bounded) == [(0, 0, 0)] * 4  # what is parted stays


@pytest.mark.parametrize("seed", range(4))
def test_the_bounds_touch_from_outside(seed: int) -> None:
    """No point of an ellipsoid lies beyond them. Along each direction the furthest ellipsoid reaches as far as the
    square root of d' (R S)(R S)' d beyond its centre, in float64.
    """
    splats = blob(seed)
    reach, points = placing.bounds(splats), surface(splats)
    # Sums of a dozen products of numbers up to 10, in float64 either way.
    allowed = 64 * DOUBLE * 10
    assert ((points @ placing.directions().T).amax(0) <= reach + allowed).all()
    axes = rotation_matrices(splats.quats.double()) * splats.scales.double().exp()[:, None]
    ways = placing.directions()
    far = torch.einsum("mi,nij,nkj,mk->nm", ways, axes, axes, ways).sqrt() + splats.means.double() @ ways.T
    assert_within(reach, far[splats.opacities > placing.SHOWS].amax(0), allowed)


def cube(*, middle: Sequence[float], side: float) -> Splats:
    """Splats without width at the corners of a cube."""
    corners = torch.tensor(list(itertools.product((-0.5, 0.5), repeat=3)))
    return Splats(
        means=torch.tensor(middle) + side * corners, quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(8, 1),
        scales=torch.full((8, 3), -30.0), opacities=torch.ones(8), sh0=torch.zeros(8, 1, 3), shN=torch.zeros(8, 0, 3),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("middle", "way"),
    [((0.9, 0.0, 0.0), (1, 0, 0)), ((0.0, 0.2, -0.85), (0, 0, -1)), ((0.1, 0.9, 0.0), (0, 1, 0))],
)
def test_a_cube_leaves_another_by_its_nearest_side(middle: Sequence[float], way: Sequence[float]) -> None:
    bounded = [placing.bounds(cube(middle=at, side=1.0)) for at in ((0.0, 0.0, 0.0), middle)]
    depth = 1 - max(abs(value) for value in middle)
    _, move = placing.parted(bounded)
    allowed = 8 * UNIT  # the corners are float32
    assert_within(torch.tensor(move), torch.tensor(way) * (depth + placing.GAP), allowed)
    assert abs(float(placing.gaps(bounded)[0, 1]) + depth) < allowed


@pytest.mark.parametrize("turn", [0.0, 30.0, -200.0])
def test_a_part_stands_where_its_place_says(turn: float) -> None:
    place = Place((2.0, -1.0, 0.5), extent=0.7, turn=turn)
    box = cube(middle=(0.3, 0.2, -0.1), side=1.3)
    means = placing.pose_of(box, place).into_scene(box).means
    low, high = means.amin(0), means.amax(0)
    foot = torch.stack([0.5 * (low[0] + high[0]), low[1], 0.5 * (low[2] + high[2])])
    allowed = 16 * UNIT * 2  # sums of a few float32 numbers up to 2
    assert_within(foot, torch.tensor(place.at), allowed)
    assert abs(float((high - low).max()) - place.extent) < allowed
    # A quarter turn about +y takes what faces the front (+z) to the right (+x).
    quarter = Pose(turn=90.0).into_scene(cube(middle=(0.0, 0.0, 3.0), side=1.0)).means.mean(0)
    assert_within(quarter, torch.tensor([3.0, 0.0, 0.0]), 16 * UNIT * 3)


def test_out_of_the_scene_is_the_way_back() -> None:
    splats = blob(3)
    pose = Pose(scale=0.37, turn=130.0, move=(5.0, -2.0, 1.0))
    back = pose.out_of_scene(pose.into_scene(splats))
    # Places of about 5 are rounded once, and made 1 / 0.37 times as large.
    assert_within(back.means, splats.means, 8 * UNIT * 5 / 0.37)
    assert_within(back.scales, splats.scales, 4 * UNIT * float(splats.scales.abs().max() + 1))
    turned, before = (rotation_matrices(one.quats.double()) for one in (back, splats))
    assert_within(turned, before, 64 * UNIT)  # products of unit quaternions in float64, rounded to float32 twice


def test_splats_at_one_point_have_no_extent() -> None:
    with pytest.raises(ValueError, match="must have splats that lie apart; all 8 of this one are at one point"):
        placing.pose_of(cube(middle=(1.0, 2.0, 3.0), side=0.0), Place((0, 0, 0)))


def test_a_part_that_is_hemmed_in_goes_up() -> None:
    """Four cubes around a fifth that overlaps all of them a little: above is the nearest place."""
    ring = [(math.cos(a), 0.0, math.sin(a)) for a in (0, math.pi / 2, math.pi, 3 * math.pi / 2)]
    cubes = [cube(middle=middle, side=1.2) for middle in ring] + [cube(middle=(0, 0.9, 0), side=1.0)]
    moves = placing.parted([placing.bounds(one) for one in cubes])
    assert moves[-1][1] > 0 and moves[-1][0] == moves[-1][2] == 0
