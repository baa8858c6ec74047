"""Noise that lies on the object: normal and white within a view, and the same where two views show the same place."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from splatdistill.guidance.base import Guidance
from splatdistill.guidance.methods.cfd import CFD, CFDConfig
from splatdistill.guidance.methods.fsd import FSD, FSDConfig
from splatdistill.guidance.methods.sds import SDS, SDSConfig
from splatdistill.guidance.object_noise import SAMPLES, on_camera_sphere, on_surface
from splatdistill.scene.cameras import orbit
from splatdistill.scene.types import Cameras, SurfaceViews
from tests.guidance.toys import Counting, draw, gaussian, gradient, prompt_prior
from tests.rounding import assert_rounded

SIZE = 32
SHAPE = (2, 3, SIZE, SIZE)


def pair(turn: float, *, size: int = 64) -> Cameras:
    """Two cameras, the second one `turn` rad further round."""
    full = torch.ones(2)
    return orbit(azimuth=torch.tensor([0.3, 0.3 + turn]), elevation=0.2 * full, radius=3 * full, fovy=0.7 * full,
                 size=size)  # fmt: skip


def ball(cameras: Cameras, radius: float = 0.8) -> SurfaceViews:
    """Depth of a ball about the origin, in closed form."""
    c2w, n = torch.linalg.inv(cameras.viewmats), cameras.height
    grid = torch.arange(n) + 0.5
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    rays = torch.stack([x, y, torch.ones_like(x)], -1) @ torch.linalg.inv(cameras.Ks[0]).T  # of length z = 1
    rays = torch.einsum("vij,hwj->vhwi", c2w[:, :3, :3], rays)
    origin = c2w[:, None, None, :3, 3]
    a, b, c = rays.square().sum(-1), (rays * origin).sum(-1), origin.square().sum(-1) - radius**2
    inside = b**2 - a * c
    depth = torch.where(inside > 0, (-b - inside.clamp(min=0).sqrt()) / a, torch.zeros(()))
    return SurfaceViews(depth[..., None], (inside > 0).float()[..., None])


def surface_noise(cameras: Cameras, *, step: int = 0, renewal: float = 0.0, seed: int = 0) -> Tensor:
    return on_surface(
        cameras, (len(cameras), *SHAPE[1:]), surface=ball(cameras), cell=2.4 / SIZE, seed=seed, step=step,
        renewal=renewal, device=torch.device("cpu"),
    )  # fmt: skip


def correlation(a: Tensor, b: Tensor) -> float:
    return float((a * b).mean() / (a.square().mean() * b.square().mean()).sqrt())


def bound_of(count: int) -> float:
    """Five standard errors of a mean of so many products of independent standard normal numbers."""
    return 5 / math.sqrt(count)


@pytest.mark.parametrize("kind", ["sphere", "surface"])
def test_it_is_standard_normal_and_white(kind: str) -> None:
    if kind == "sphere":
        rows = torch.cat([on_camera_sphere(pair(0.0), SHAPE, seed=s, step=0, fresh=0.0)[:1] for s in range(8)])
    else:
        rows = torch.cat([surface_noise(pair(0.0), seed=s)[:1] for s in range(8)])
    count = rows.numel()
    assert abs(float(rows.mean())) < bound_of(count)
    assert abs(float(rows.square().mean()) - 1) < math.sqrt(2) * bound_of(count)
    assert abs(float((rows**4).mean()) - 3) < math.sqrt(96) * bound_of(count)  # a normal fourth power varies by 96
    # Where the ball faces the camera a pixel shows a little less than a place, and shares its rim with its neighbours.
    shared = 0.0 if kind == "sphere" else 2 / SAMPLES**2
    for one, other in ((rows[..., 1:], rows[..., :-1]), (rows[..., 1:, :], rows[..., :-1, :])):
        assert correlation(one, other) < shared + bound_of(count)


def test_a_camera_that_hardly_moves_sees_the_same_noise_and_one_behind_another() -> None:
    at, near, behind = (surface_noise(pair(turn)) for turn in (0.0, 0.01, math.pi))
    assert torch.equal(at[0], at[1])
    assert correlation(near[0], near[1]) > 0.5
    assert abs(correlation(behind[0], behind[1])) < bound_of(SIZE * SIZE * 3)


def test_the_window_moves_with_the_camera() -> None:
    """Two pixels further round: the picture moves by two pixels."""
    turn = 2 / (0.5 * SIZE)
    a, b = on_camera_sphere(pair(turn), SHAPE, seed=1, step=5, fresh=0.0)
    assert torch.equal(a[:, :, 2:], b[:, :, :-2]) and not torch.equal(a, b)
    whole = on_camera_sphere(pair(2 * math.pi), SHAPE, seed=1, step=5, fresh=0.0)
    # Once round is pi windows, 100.5 pixels: the picture closes to within one of them.
    assert torch.equal(whole[0], whole[1]) or torch.equal(whole[0][..., :-1], whole[1][..., 1:])


def test_renewal_is_a_share_of_the_places_each_step_and_keeps_the_rest() -> None:
    first, later = (surface_noise(pair(0.0), step=step, renewal=1e-2) for step in (0, 20))
    assert abs(correlation(first, later) - 0.8) < bound_of(SIZE * SIZE * 3)
    assert torch.equal(surface_noise(pair(0.0), step=7, renewal=1e-2), surface_noise(pair(0.0), step=7, renewal=1e-2))
    fresh = on_camera_sphere(pair(0.0), SHAPE, seed=0, step=1, fresh=0.5)
    fixed = on_camera_sphere(pair(0.0), SHAPE, seed=0, step=1, fresh=0.0)
    assert abs(correlation(fresh, fixed) - math.sqrt(0.5)) < bound_of(fixed.numel())


@pytest.mark.parametrize("kind", [FSD, CFD])
def test_they_are_the_row_of_sds_with_a_timestep_that_falls(kind: type[Guidance]) -> None:
    prior = prompt_prior(x=gaussian(1.3, 0.7), empty=gaussian(0.2, 0.7))
    config = FSDConfig(guidance_scale=7.5) if kind is FSD else CFDConfig(guidance_scale=7.5)
    method = kind(config, prompt="x", group=1, steps=100)  # type: ignore[arg-type]
    sds = SDS(SDSConfig(guidance_scale=7.5), prompt="x", group=1, steps=100)
    z, eps = draw(4, 3, 2, 2), draw(4, 3, 2, 2, seed=1)
    same = {"z": z, "eps": eps, "t": [50, 300, 600, 950]}
    assert torch.equal(gradient(method, prior, **same), gradient(sds, prior, **same))
    # -1.011016 of the golden draws at guidance 1 is of both scores; with guidance the row has -4.732901.
    one = {"z": torch.full((1, 1, 1, 1), -0.4).double(), "eps": torch.full((1, 1, 1, 1), 0.8).double(), "t": 500}
    assert_rounded(lambda: gradient(method, prior, **one), -4.732901 * 0.7236663, off=2e-6)  # times sigma^2
    counting = Counting(prior)
    seen = []
    for step in (0, 50, 100):
        batch = method.noise(torch.zeros(2, 3, 8, 8), pair(1.0), prior, seed=0, step=step)
        seen.append(int(batch.t[0]))
        assert (batch.t == batch.t[0]).all()
        method.residual(batch, prior, step=step)
    assert seen[0] == 980 and seen[0] > seen[1] > seen[2] >= 299
    assert counting.calls == [4] * 3 and method.evaluations == 2
