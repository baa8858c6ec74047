"""The feature volume against cameras and closed forms: where rays pass, how dense a plain ball is, its conditioning."""

from __future__ import annotations

import math

import pytest
import torch

from splatdistill.embedded.prior import architecture as network
from splatdistill.priors.base import Condition
from splatdistill.priors.embedded import MultiViewPrior
from splatdistill.priors.schedule import Schedule
from splatdistill.priors.volume import CELLS, FeatureVolume, concat_features
from splatdistill.scene.cameras import camera_token, orbit
from tests.rounding import DOUBLE, UNIT, assert_rounded, assert_same, assert_within

WIDTH = 16


def volume(**shape: int) -> FeatureVolume:
    torch.manual_seed(0)
    return FeatureVolume(WIDTH, hidden=16, **{"side": 8, "size": 8, "depth": 16} | shape)


def ring(size: int = 8):
    fovy = torch.full((4,), math.radians(37.5))
    azimuth = torch.tensor([0.3, 1.9, -2.0, -0.5])
    elevation = torch.tensor([0.2, -0.1, 0.9, 0.4])
    radius = torch.full((4,), 1 / (math.sin(math.radians(37.5) / 2) * 0.87))
    return orbit(azimuth=azimuth, elevation=elevation, radius=radius, fovy=fovy, size=size)


def test_samples_lie_on_the_rays_of_the_cameras_pixels_nearest_first():

    def sampled() -> tuple[torch.Tensor, ...]:
        it, cameras = volume(), ring()
        axes = camera_token(cameras).view(-1, 4, 4)[:, :3, :3]
        z_up = torch.einsum("vij,pj->vpi", axes, it.points)
        world = z_up[..., [1, 2, 0]]  # the token's world is (z, x, y)
        inside = torch.einsum("vij,vpj->vpi", cameras.viewmats[:, :3, :3], world) + cameras.viewmats[:, None, :3, 3]
        pixels = torch.einsum("vij,vpj->vpi", cameras.Ks, inside / inside[..., 2:])[..., :2]
        return pixels, it.samples // 16, inside, world

    _, ray, inside, world = sampled()
    assert_rounded(lambda: sampled()[0], torch.stack([ray % 8, ray // 8], -1) + 0.5)
    further = inside[..., 2].diff(dim=-1)[:, ray.diff() == 0]
    assert further.shape[1] > 200 and (further > 0).all()
    assert (world.norm(dim=-1) < 1).all()


def test_a_ball_of_one_density_fades_with_the_length_of_the_chord():
    samples = 400
    it = volume(depth=samples)
    with torch.no_grad():
        it.decoder[2].weight.zero_()
        it.decoder[2].bias.fill_(0.5)
        out = it(torch.randn(1, WIDTH), camera_token(ring())[:1])[0]
    at = (torch.arange(8) + 0.5) / 4 - 1
    slope = math.tan(math.radians(37.5) / 2) * (at[:, None] ** 2 + at**2).sqrt()
    off = torch.sin(torch.atan(slope)) / (math.sin(math.radians(37.5) / 2) * 0.87)  # of the ray, from the middle
    chord = 2 * (1 - off**2).clamp(min=0).sqrt()
    density = 8 * math.log1p(math.exp(0.5 - 2)) / 2  # depth samples cover two world units
    alpha = 1 - torch.exp(-density * chord)
    # The middles of sections inside an interval count its length to one section. Then that many numbers are added.
    allowed = density * 2 / samples + samples * UNIT
    assert_within(out[-1], alpha, allowed)
    assert_within(out[0], 0.5 * alpha, 0.5 * allowed)


def test_what_is_in_front_hides_what_is_behind():
    it = volume(depth=32, size=9)
    feature = torch.zeros(1, 3, 8, 8, 8)
    feature[:, 0, 0, :, 4:] = 1.0  # the xy plane of the z-up world: the half with x > 0, which is the front, is lit
    with torch.no_grad():
        it.planes.weight.zero_()
        it.planes.bias.copy_(feature.flatten())
        first, last = it.decoder[0], it.decoder[2]
        for layer in (first, last):
            layer.weight.zero_()
            layer.bias.zero_()
        first.weight[0, 0] = 10.0
        last.weight[0, 0] = 0.1  # the first feature: about 1 where lit
        last.bias[-1] = 12.0  # dense everywhere
        angles = torch.tensor([0.0, math.pi])
        cameras = orbit(azimuth=angles, elevation=0 * angles, radius=angles + 3, fovy=angles * 0 + 0.65, size=9)
        front, back = it(torch.zeros(2, WIDTH), camera_token(cameras))[:, 0, 4, 4]
    assert front > 0.5 and back < 0.05


def test_without_a_camera_view_words_say_where_to_look_from():
    it = volume()
    words = {name: torch.randn(WIDTH) for name in ("front", "side", "back", "overhead")}
    azimuth = torch.tensor([0.0, math.pi / 2, math.pi, 0.0])
    elevation = torch.deg2rad(torch.tensor([15.0, 15.0, 15.0, 75.0]))
    cameras = orbit(azimuth=azimuth, elevation=elevation, radius=azimuth + 3, fovy=azimuth * 0 + 0.6, size=8)
    vectors, tokens = torch.stack(list(words.values())), camera_token(cameras)

    def given_and_from_words() -> tuple[torch.Tensor, torch.Tensor]:
        it.align_view_words(words)
        return it(vectors, tokens), it(vectors, torch.zeros(4, 16))

    assert_same(given_and_from_words)
    assert (it(vectors, tokens) - it(vectors, tokens.roll(1, 0))).abs().max() > 1e-3


def test_gradients_reach_planes_words_and_the_look():
    torch.manual_seed(1)
    it, words = volume(side=4, size=3, depth=4).double(), torch.randn(2, WIDTH, dtype=torch.float64, requires_grad=True)
    tokens = torch.cat([camera_token(ring())[:1].double(), torch.zeros(1, 16, dtype=torch.float64)])
    out = it(words, tokens)
    out.square().sum().backward()
    assert words.grad is not None and (words.grad.abs().amax(1) > 0).all()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in it.parameters())
    assert torch.autograd.gradcheck(lambda w: it(w, tokens), (words,))


@pytest.mark.parametrize("side", [2, 4])
def test_features_stand_beside_the_picture_they_belong_to(side):
    xt, features = torch.randn(2, 5, side, side), torch.randn(2, 3, 8, 8)
    out = concat_features(xt, features)
    assert out.shape == (2, 5 + 3 * CELLS**2, side, side) and torch.equal(out[:, :5], xt)
    cell = 8 // side
    assert_same(lambda: (concat_features(xt, features)[:, 5:].mean((1, 2, 3)), features.mean((1, 2, 3))))
    corner = slice(5 + CELLS**2, 5 + 2 * CELLS**2)
    assert_same(
        lambda: (concat_features(xt, features)[0, corner, -1, -1].mean(), features[0, 1, -cell:, -cell:].mean()),
    )


def test_a_prior_hears_the_camera_by_its_volume_alone():
    torch.manual_seed(0)
    parts = network.create(channels=(16, 32, 32), text_width=16)
    prior = MultiViewPrior(
        parts.unet.eval(), text_encoder=parts.text_encoder, volume=parts.volume, tokenizer=parts.tokenizer,
        schedule=Schedule.from_config(parts.scheduler.config), meta=network.meta(image_size=16),
    )  # fmt: skip
    torch.nn.init.zeros_(parts.unet.class_embedding.linear_2.weight)  # type: ignore[union-attr]
    torch.nn.init.zeros_(parts.unet.class_embedding.linear_2.bias)  # type: ignore[union-attr]
    xt, t = torch.randn(4, 48, 4, 4), torch.full((4,), 700)
    one = prior.embed("a red sofa", ring())
    assert one.camera is not None
    other = Condition(text=one.text, camera=one.camera.roll(1, 0), pooled=one.pooled)
    first, second = prior.predict(xt, t, [one, other])
    assert (first - second).abs().max() > 1e-3 and first.shape == xt.shape


@pytest.mark.parametrize("conditioned", [True, False])
def test_two_conditions_of_the_same_views_are_sampled_as_each_alone(conditioned):
    torch.manual_seed(0)
    it, words = volume().double(), torch.randn(8, WIDTH, dtype=torch.float64)
    tokens = camera_token(ring())[:4].double().repeat(2, 1) * conditioned

    def alone() -> torch.Tensor:
        return torch.cat([it(w[None], t[None]) for w, t in zip(words, tokens, strict=True)])

    with torch.no_grad():
        assert_same(lambda: (it(words, tokens), alone()), unit=DOUBLE)
    assert_same(lambda: (it(words, tokens), alone()), unit=DOUBLE)  # one by one, for the gradient
