"""The baselines draw what the operator draws, so that the benchmark compares like with like."""

from __future__ import annotations

import plain_tiles
import pytest
import torch
import torch_tiles
from scenes import LEAVES, Shape, ball, picture_weights

from splatdistill import ops

SCENES = {
    "ball": (Shape(300, 2, 32), {}),
    "not a whole number of tiles": (Shape(300, 1, 37), {}),
    "saturating, alpha capped": (Shape(200, 2, 32), {"scales": 4.0, "opacities": 1.2}),
    "behind the camera": (Shape(100, 1, 24), {"means": 8.0}),
    "one splat": (Shape(1, 1, 16), {}),
    "nothing": (Shape(0, 2, 16), {}),
}


def make(name):
    """The scene, its float64 twin's pixels that no rounding can flip, and weights that leave the others out."""
    shape, factors = SCENES[name]
    scene = ball(shape)
    for key, factor in factors.items():
        scaled = scene[key].detach() * factor
        scene[key] = (scaled.clamp(max=1.0) if key == "opacities" else scaled).requires_grad_()
    double = {k: v.detach().double() if isinstance(v, torch.Tensor) else v for k, v in scene.items()}
    keep = ~ops.reference.rasterize(**double).near_cut[..., None]
    assert keep.float().mean() > 0.99
    return scene, keep, picture_weights(shape) * keep


def gradients(rasterize, scene, weights, **options):
    for key in LEAVES:
        scene[key].grad = None
    picture = rasterize(**scene, **options)
    loss = (picture.rgb * weights).sum()
    if loss.requires_grad:
        loss.backward()
    zero = torch.zeros(())
    return picture, {k: scene[k].grad if scene[k].grad is not None else zero for k in LEAVES}


@pytest.mark.parametrize("tile", [8, 16])
@pytest.mark.parametrize("name", SCENES)
def test_draws_what_the_operator_draws(name, tile):
    scene, keep, weights = make(name)
    want, want_grads = gradients(ops.rasterize, scene, weights)
    got, got_grads = gradients(torch_tiles.rasterize, scene, weights, tile=tile)
    for image in ("rgb", "alpha", "depth"):
        mine, theirs = getattr(got, image), getattr(want, image)
        unit = theirs.max().clamp(min=1.0)  # depth is in world units
        assert ((mine - theirs) * keep).abs().max() <= 1e-5 * unit, image
    for key in LEAVES:
        error = (got_grads[key] - want_grads[key]).norm()
        assert error <= 5e-5 * want_grads[key].norm() + 1e-12, key


@pytest.mark.parametrize("name", ["ball", "saturating, alpha capped"])
def test_the_plain_loop_draws_the_same(name):
    scene, keep, weights = make(name)
    want, want_grads = gradients(ops.rasterize, scene, weights)
    got, got_grads = gradients(plain_tiles.rasterize, scene, weights, tile=16)
    assert ((got.rgb - want.rgb) * keep).abs().max() <= 1e-5
    for key in LEAVES:
        assert (got_grads[key] - want_grads[key]).norm() <= 5e-5 * want_grads[key].norm(), key


def test_pairs_do_not_depend_on_the_tiles_and_stop_with_the_pixel():
    scene, _, _ = make("saturating, alpha capped")
    with torch.no_grad():
        pairs = [plain_tiles.rasterize(**scene, tile=tile).pairs for tile in (8, 16)]
        one = {key: scene[key][:1] for key in LEAVES}
        alpha = ops.rasterize(**(scene | one)).alpha
        alone = plain_tiles.rasterize(**(scene | one), tile=8).pairs
    assert pairs[0] == pairs[1] < 200 * 2 * 32 * 32
    assert alone == int((alpha > 0).sum()) > 0
