"""Turning, moving and joining: what a camera that moves along sees does not change."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from splatdistill.config.schema import CameraConfig
from splatdistill.io.frames import concatenate, convert_frame, from_turns, transform
from splatdistill.ops.geometry import rotation_matrices
from splatdistill.rendering.renderer import CpuRenderer
from splatdistill.scene.cameras import turntable
from splatdistill.scene.gaussians import FIELDS, Splats
from tests.io.scenes import asymmetric
from tests.rounding import assert_same

VIEWS = turntable(CameraConfig(), num_frames=3, size=48)


def drawn(splats: Splats, views=VIEWS) -> torch.Tensor:
    return CpuRenderer().render(splats, views, background=torch.ones(len(views), 3)).rgb


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("turns", [(180.0, 0, 0), (20.0, -70.0, 130.0)])
def test_a_camera_that_moves_along_sees_the_same(degree: int, turns: tuple[float, float, float]) -> None:
    splats, rotation, scale, shift = asymmetric(200, degree=degree), from_turns(turns), 1.7, (0.3, -0.2, 0.5)

    def pictures() -> tuple[torch.Tensor, torch.Tensor]:
        moved = transform(splats, rotation=rotation, scale=scale, translation=shift)
        world = torch.eye(4)
        world[:3, :3] = rotation_matrices(torch.tensor([rotation]))[0]
        world[:3, 3] = torch.tensor(shift) / scale  # a scene of another size looks alike from as much further away
        viewmats = VIEWS.viewmats @ torch.linalg.inv(world)
        viewmats[:, :3, 3] *= scale
        return drawn(moved, replace(VIEWS, viewmats=viewmats)), drawn(splats)

    assert_same(pictures)
    moved = transform(splats, rotation=rotation, scale=scale, translation=shift)
    assert (drawn(moved) - drawn(splats)).abs().max() > 0.1


def test_turning_twice_by_half_a_turn_is_no_turn() -> None:
    splats = asymmetric(50, degree=3)
    down = convert_frame(splats, source="+y", target="-y")
    torch.testing.assert_close(down.means, splats.means * torch.tensor([-1.0, -1, 1]))
    back = convert_frame(down, source="-y", target="+y")
    for name in FIELDS:
        torch.testing.assert_close(back.tensors[name], splats.tensors[name])
    assert convert_frame(splats, source="+y", target="+y") is splats


def test_turns_follow_the_right_hand_x_before_y_before_z() -> None:
    for turns, vector, expected in (
        ((90, 0, 0), (0, 1, 0), (0, 0, 1)),
        ((0, 90, 0), (0, 0, 1), (1, 0, 0)),
        ((0, 0, 90), (1, 0, 0), (0, 1, 0)),
        ((90, 90, 0), (0, 1, 0), (1, 0, 0)),
    ):
        matrix = rotation_matrices(torch.tensor([from_turns(turns)]))[0]
        torch.testing.assert_close(matrix @ torch.tensor(vector, dtype=torch.float32), torch.tensor(expected).float())
    assert math.isclose(sum(x * x for x in from_turns((10, 20, 30))), 1)


def test_parts_are_joined_at_the_highest_degree() -> None:
    one, two = asymmetric(5, degree=0), asymmetric(7, degree=2, seed=1)
    both = concatenate([one, two])
    assert len(both) == 12 and both.sh_degree == 2
    assert torch.equal(both.means, torch.cat([one.means, two.means]))
    assert not both.shN[:5].any() and torch.equal(both.shN[5:], two.shN)
