"""Light on the splats: its laws, when it is drawn, and what it leaves alone."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from splatdistill.config.schema import CameraConfig, LightConfig
from splatdistill.ops.geometry import SH_C0
from splatdistill.rendering.renderer import CpuRenderer
from splatdistill.rendering.shading import Lights, centres, sample_lights, shade, sun, surface
from splatdistill.scene.cameras import turntable
from splatdistill.scene.gaussians import Splats
from splatdistill.scene.types import Cameras, RenderOutput
from splatdistill.utils import rng
from tests.rounding import DOUBLE, assert_rounded, assert_same, assert_within

RADIUS = 0.6
GRAY = torch.full((4, 3), 0.5)


def views(num: int = 4, *, size: int = 32, elevation_deg: float = 0.0) -> Cameras:
    return turntable(CameraConfig(), num_frames=num, size=size, elevation_deg=elevation_deg)


def sphere(n: int = 3000, *, size: float = 0.03) -> Splats:
    """Flat opaque splats on a sphere, their z axes along the radius, in colours of their own."""
    golden = math.pi * (3 - math.sqrt(5))
    z = 1 - 2 * (torch.arange(n) + 0.5) / n
    ring, turn = (1 - z**2).sqrt(), golden * torch.arange(n)
    out = torch.stack([ring * turn.cos(), ring * turn.sin(), z], -1)
    # the shortest turn from +z to `out`
    quats = F.normalize(torch.stack([1 + out[:, 2], -out[:, 1], out[:, 0], torch.zeros(n)], -1), dim=-1)
    colour = torch.rand(n, 1, 3, generator=torch.Generator().manual_seed(0))
    return Splats(
        means=RADIUS * out,
        quats=quats,
        scales=torch.tensor([size, size, 0.001]).log().expand(n, 3).clone(),
        opacities=torch.full((n,), 4.0),
        sh0=(colour - 0.5) / SH_C0,
        shN=torch.zeros(n, 0, 3),
    )


def lights(position: Tensor, *, ambient: float = 0.1, textureless: bool = False) -> Lights:
    num = len(position)
    return Lights(position, torch.full((num,), ambient), torch.full((num,), textureless))


def render(splats: Splats, cameras: Cameras) -> RenderOutput:
    return CpuRenderer().render(splats, cameras, background=GRAY[: len(cameras)], normals=True)


def test_normals_of_a_sphere_of_flat_splats_point_outward() -> None:
    cameras = views(size=96, elevation_deg=20.0)
    output = render(sphere(12000, size=0.012), cameras)
    assert output.normal is not None
    solid = output.alpha[..., 0] > 0.99
    outward = F.normalize(surface(output, cameras)[solid], dim=-1)
    normal = F.normalize(output.normal[solid], dim=-1)
    assert solid.float().mean() > 0.2
    assert (surface(output, cameras)[solid].norm(dim=-1) - RADIUS).abs().median() < 0.03
    cosine = (normal * outward).sum(-1)
    assert cosine.mean() > 0.99 and (cosine > 0.9).float().mean() > 0.99


def test_ambient_light_alone_is_albedo() -> None:
    cameras = views()
    output = render(sphere(), cameras)
    anywhere = lights(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), ambient=1.0)
    assert_rounded(lambda: shade(output, cameras, anywhere, background=GRAY), output.rgb)


def test_a_light_behind_leaves_the_ambient_part() -> None:
    """A disc across the z axis, from the front and from the back."""
    cameras = views(2)
    disc = Splats(
        means=torch.zeros(1, 3),
        quats=torch.tensor([[1.0, 0, 0, 0]]),
        scales=torch.tensor([[-1.0, -1.0, -5.0]]),
        opacities=torch.tensor([3.0]),
        sh0=torch.tensor([[[0.5, -0.5, 1.0]]]),
        shN=torch.zeros(1, 0, 3),
    )
    output = render(disc, cameras)
    light = lights(-10 * centres(cameras), ambient=0.3)
    assert output.alpha.max() > 0.9

    def reflected() -> tuple[Tensor, Tensor]:
        behind = (1 - output.alpha) * GRAY[:2, None, None]
        lit = shade(output, cameras, light, background=GRAY[:2])
        return lit - behind, 0.3 * (output.rgb - behind)

    assert_same(reflected)


def test_lambert_weighs_every_pixel_by_the_cosine() -> None:
    """From the light's own side a white sphere reflects the mean of the cosine over its disc."""
    cameras = turntable(CameraConfig(fovy_deg=(4.0, 4.0)), num_frames=1, size=256, elevation_deg=0.0)
    output = render(sphere(40000, size=0.006), cameras)
    far = lights(1e3 * centres(cameras), ambient=0.0, textureless=True)
    lit = shade(output, cameras, far, background=torch.zeros(1, 3))[0, ..., 0]
    pixel = cameras.radius[0] / cameras.Ks[0, 0, 0]  # world units at the sphere's middle
    y, x = (torch.stack(torch.meshgrid(*[torch.arange(256) - 127.5] * 2, indexing="ij")) * pixel) / RADIUS
    cosine = (1 - x**2 - y**2).clamp(min=0).sqrt()
    inside = cosine > 0.5  # the rim is as soft as the splats are wide
    # Claims about splats as a surface, not about rounding: at the rim of this disc the cosine changes by 0.017 over the
    # 0.006 that a splat is wide, and a pixel blends those within three of its widths.
    assert (lit - cosine)[inside].abs().max() < 3 * 0.006 / RADIUS * (1 - 0.5**2) ** 0.5 / 0.5
    energy = 2 / 3 * (1 - 0.5**3) / (1 - 0.5**2)  # mean of the cosine where it exceeds 0.5
    assert lit[inside].mean().item() == pytest.approx(energy, rel=3 * 0.006 / RADIUS)


def test_white_splats_hide_the_colours() -> None:
    cameras = views()
    splats = sphere().requires_grad_()
    output = render(splats, cameras)
    lit = shade(output, cameras, lights(centres(cameras), textureless=True), background=GRAY)
    weight = torch.rand(lit.shape, generator=torch.Generator().manual_seed(0))
    (lit * weight).sum().backward()
    for name, moved in {"sh0": False, "quats": True, "means": True, "opacities": True}.items():
        grad = splats.tensors[name].grad
        assert grad is not None and bool(grad.abs().max() > 0) is moved, name
    assert all(x.grad is None or torch.isfinite(x.grad).all() for x in splats.tensors.values())


@pytest.mark.parametrize("textureless", [False, True])
def test_gradients_of_shading(textureless: bool) -> None:
    cameras = views(2, size=4)
    g = torch.Generator().manual_seed(0)

    def draw(channels: int) -> Tensor:
        return torch.rand(2, 4, 4, channels, generator=g, dtype=torch.float64)

    alpha, depth = 0.3 + 0.6 * draw(1), 3 + 0.1 * draw(1)
    light = lights(centres(cameras).double(), textureless=textureless)

    def shaded(rgb: Tensor, alpha: Tensor, normal: Tensor) -> Tensor:
        empty = torch.empty(0)
        output = RenderOutput(rgb, alpha, alpha.detach() * depth, empty, empty, empty, normal)
        return shade(output, cameras, light, background=GRAY[:2].double())

    inputs = [x.requires_grad_() for x in (draw(3), alpha, draw(3) - 0.5)]
    assert torch.autograd.gradcheck(shaded, inputs)


def test_splats_that_disagree_about_their_normal_have_bounded_gradients() -> None:
    cameras = views(1, size=4)
    normal = torch.full((1, 4, 4, 3), 1e-9, requires_grad=True)
    empty, one = torch.empty(0), torch.ones(1, 4, 4, 1)
    output = RenderOutput(one.expand(-1, -1, -1, 3), one, 3 * one, empty, empty, empty, normal)
    shade(output, cameras, lights(centres(cameras)), background=GRAY[:1]).sum().backward()
    assert normal.grad is not None and 0 < normal.grad.abs().max() < 20


def drawn(config: LightConfig, *, step: int, progress: float = 0.9, num: int = 8) -> Lights | None:
    return sample_lights(config, views(num), group=4, progress=progress, generator=rng.generator(0, step, "light"))


def test_plain_colours_come_first_and_alone_by_default() -> None:
    assert all(drawn(LightConfig(), step=i, progress=1.0) is None for i in range(20))
    late = LightConfig(start=0.5, albedo=0.0)
    assert drawn(late, step=0, progress=0.49) is None and drawn(late, step=0, progress=0.5) is not None


def test_kinds_of_shading_come_as_often_as_asked_and_are_shared_by_a_group() -> None:
    config = LightConfig(start=0.0)
    kinds = torch.zeros(3)
    for step in range(400):
        light = drawn(config, step=step)
        ambient, white = (torch.ones(8), torch.zeros(8, dtype=torch.bool)) if light is None else (
            light.ambient, light.textureless,
        )  # fmt: skip
        assert all((x.view(2, 4) == x.view(2, 4)[:, :1]).all() for x in (ambient, white))
        plain = ambient == 1
        kinds += torch.stack([plain.sum(), white.sum(), (~plain & ~white).sum()]) / (8 * 400)
    # Binomial, of two groups a step: five standard deviations.
    shares = torch.tensor([0.25, 0.375, 0.375])
    assert_within(kinds, shares, 5 * (shares * (1 - shares) / (2 * 400)).sqrt())


def test_lights_stand_near_their_cameras_and_soft_light_varies() -> None:
    config = LightConfig(start=0.0, albedo=0.0, random_ambient=True)
    found = [light for step in range(100) if (light := drawn(config, step=step)) is not None]
    position, ambient = torch.stack([x.position for x in found]), torch.stack([x.ambient for x in found])
    distance = position.norm(dim=-1)
    assert 0.8 <= distance.min() < 0.85 and 1.45 < distance.max() <= 1.5
    toward = F.normalize(centres(views(8)), dim=-1)
    cosine = (F.normalize(position, dim=-1) * toward).sum(-1)
    assert 0.7 < cosine.mean() < 0.95
    assert 0.1 <= ambient.min() < 0.15 and 0.95 < ambient.max() <= 1.0
    again = drawn(config, step=3)
    assert again is not None and torch.equal(again.position, found[3].position)


def test_the_sun_stands_where_a_camera_of_that_azimuth_would() -> None:
    assert_rounded(
        lambda: F.normalize(sun(azimuth=math.pi / 2, elevation=0.0, num_views=2).position, dim=-1),
        torch.tensor([1.0, 0, 0]).expand(2, 3), off=DOUBLE,
    )  # fmt: skip
    cameras = views(4, elevation_deg=30.0)
    aimed = sun(azimuth=cameras.azimuth[1].item(), elevation=cameras.elevation[1].item(), num_views=1)

    def directions() -> tuple[Tensor, Tensor]:
        return F.normalize(aimed.position[0], dim=-1), F.normalize(centres(views(4, elevation_deg=30.0))[1], dim=-1)

    assert_same(directions)
