"""Orbit cameras as laws: they look at the origin, groups are orthogonal, the token is MVDream's."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from splatdistill.config.schema import CameraConfig
from splatdistill.scene.cameras import camera_token, orbit, sample, turntable, view_words
from splatdistill.scene.types import Cameras
from tests.rounding import assert_rounded, bound


def assert_between(compute: Callable[[], torch.Tensor], low: float, high: float) -> None:
    made, off = compute(), bound(compute)
    assert (made >= low - off).all() and (made <= high + off).all()


def some(seed: int = 0, **changes: object) -> Cameras:
    config = CameraConfig(**changes)  # type: ignore[arg-type]
    return sample(config, num_views=64, size=64, generator=torch.Generator().manual_seed(seed))


def test_rotations_are_proper_and_look_at_the_origin() -> None:
    cameras = some()
    assert_rounded(lambda: some().viewmats[:, :3, :3] @ some().viewmats[:, :3, :3].mT, torch.eye(3).expand(64, 3, 3))
    assert (torch.linalg.det(cameras.viewmats[:, :3, :3]) > 0).all()  # and so 1
    ahead = torch.stack([0 * cameras.radius, 0 * cameras.radius, cameras.radius], -1)
    assert torch.equal(cameras.viewmats[:, :3, 3], ahead)


def test_up_is_up_and_azimuth_grows_towards_x() -> None:
    one = torch.ones(1)
    cameras = orbit(azimuth=0 * one, elevation=0.4 * one, radius=3 * one, fovy=0.7 * one, size=100)

    def project(point: list[float]) -> torch.Tensor:
        seen = cameras.viewmats[0] @ torch.tensor([*point, 1.0])
        pixel = cameras.Ks[0] @ seen[:3]
        return pixel[:2] / pixel[2]

    assert project([0, 0.5, 0])[1] < 50 < project([0, -0.5, 0])[1]  # +y is up in the picture
    assert project([0.5, 0, 0])[0] > 50  # seen from the front, +x is on the right

    def centre() -> torch.Tensor:
        side = orbit(azimuth=math.pi / 2 * one, elevation=0 * one, radius=3 * one, fovy=0.7 * one, size=100)
        return -side.viewmats[0, :3, :3].mT @ side.viewmats[0, :3, 3]

    assert_rounded(centre, torch.tensor([3.0, 0.0, 0.0]))


def test_groups_are_orthogonal_and_inside_the_ranges() -> None:
    config = CameraConfig()
    cameras = some()

    def steps() -> torch.Tensor:
        azimuth = some().azimuth.view(-1, 4)
        return torch.remainder(azimuth.roll(-1, 1) - azimuth, 2 * math.pi)

    assert_rounded(steps, torch.full((16, 4), math.pi / 2))
    for value in (cameras.elevation, cameras.radius, cameras.Ks[:, 0, 0]):
        assert (value.view(-1, 4) == value.view(-1, 4)[:, :1]).all()
    low, high = config.elevation_deg

    def elevation() -> torch.Tensor:
        return torch.rad2deg(some().elevation)

    def fill() -> torch.Tensor:
        cameras = some()
        return config.object_radius / (cameras.radius * torch.sin(torch.atan(32 / cameras.Ks[:, 0, 0])))

    assert_between(elevation, low, high)
    assert_between(fill, *config.fill)


def test_elevation_mixes_both_rules() -> None:
    """Half uniform in degrees, half uniform on the sphere: the mean over -90..90 is 0, the share above 45 degrees
    between both.
    """
    cameras = [some(seed, elevation_deg=(-90.0, 90.0)).elevation[::4] for seed in range(200)]
    elevation = torch.rad2deg(torch.cat(cameras))
    share = (elevation > 45).float().mean().item()
    # Of 3,200 draws a share of 0.2 has a standard error of 0.007; three of them.
    assert share == pytest.approx(0.5 * 0.25 + 0.5 * (1 - math.sin(math.pi / 4)) / 2, abs=0.02)


def test_token_equals_mvdream() -> None:
    """Elevation 15 degrees in front is MVDream's azimuth 90: the example of its threestudio extension, front on +x,
    z up.
    """
    one = torch.ones(1)
    cameras = orbit(azimuth=0 * one, elevation=math.radians(15) * one, radius=2.7 * one, fovy=0.7 * one, size=64)
    expected = torch.tensor([0, -0.2588, 0.9659, 0.9659, 1, 0, 0, 0, 0, 0.9659, 0.2588, 0.2588, 0, 0, 0, 1])
    before = cameras.viewmats.clone()
    assert_rounded(lambda: camera_token(cameras)[0], expected, off=5e-5)
    assert torch.equal(cameras.viewmats, before)


def test_view_words() -> None:
    azimuth = torch.deg2rad(torch.tensor([0.0, 44, 46, 90, 134, 136, 180, -44, -136, 0]))
    elevation = torch.deg2rad(torch.tensor([0.0] * 9 + [61]))
    full = torch.ones(10)
    words = view_words(orbit(azimuth=azimuth, elevation=elevation, radius=full, fovy=full, size=8))
    assert words == ["front", "front", "side", "side", "side", "back", "back", "front", "back", "overhead"]


def test_turntable_starts_in_front() -> None:
    cameras = turntable(CameraConfig(), num_frames=8, size=32)
    assert cameras.azimuth[0] == 0
    assert view_words(cameras)[::4] == ["front", "back"]


def test_views_must_fill_groups() -> None:
    with pytest.raises(ValueError, match="num_views"):
        sample(CameraConfig(), num_views=6, size=8, generator=torch.Generator())


def test_inside_out_cameras_stand_near_the_middle_and_look_where_they_say() -> None:
    config = CameraConfig(kind="outward", position_jitter=0.3, elevation_deg=(-20.0, 30.0))

    def views() -> Cameras:
        return sample(config, num_views=400, size=16, generator=torch.Generator().manual_seed(0))

    def place(views: Cameras) -> torch.Tensor:
        return -(views.viewmats[:, :3, :3].mT @ views.viewmats[:, :3, 3:])[..., 0]

    def turn(views: Cameras) -> torch.Tensor:
        ahead = views.viewmats[:, 2, :3]
        return torch.atan2(ahead[:, 0], ahead[:, 2]) - views.azimuth

    def astray() -> torch.Tensor:
        """How far off are the distance from the middle, the elevation and the azimuth."""
        made = views()
        up = torch.asin(made.viewmats[:, 2, 1]) - made.elevation
        return torch.stack([place(made).norm(dim=-1) - made.radius, up, torch.sin(turn(made))])

    def spread() -> torch.Tensor:
        group = place(views()).view(-1, 4, 3)
        return group - group[:, :1]

    made = views()
    assert_rounded(astray, 0.0)
    assert_rounded(spread, 0.0)  # of the places of a group
    assert 0.2 < made.radius.max() <= 0.3
    assert (torch.cos(turn(made)) > 0.9).all()
    assert (made.viewmats[:, 1, 1] < -0.8).all() and (torch.linalg.det(made.viewmats[:, :3, :3]) > 0).all()
    ahead = torch.tensor([[0.0, 0, 1], [1.0, 0, 0]])
    assert_rounded(lambda: turntable(config, num_frames=4, size=16).viewmats[:2, 2, :3], ahead)
