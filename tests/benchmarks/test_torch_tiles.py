"""The baselines draw what the operator draws, so that the benchmark compares like with like."""

from __future__ import annotations

import functools

import plain_tiles
import pytest
import torch
import torch_tiles
from scenes import LEAVES, Shape, ball, picture_weights

from splatdistill import ops
from tests.rounding import FACTOR, moved

SCENES = {
    "ball": (Shape(300, 2, 32), {}),
    "not a whole number of tiles": (Shape(300, 1, 37), {}),
    "saturating, alpha capped": (Shape(200, 2, 32), {"scales": 4.0, "opacities": 1.2}),
    "behind the camera": (Shape(100, 1, 24), {"means": 8.0}),
    "one splat": (Shape(1, 1, 16), {}),
    "nothing": (Shape(0, 2, 16), {}),
}


def make(name):
    """The scene, its float64 twin, the pixels that no rounding can flip, and weights that leave the others out."""
    shape, factors = SCENES[name]
    scene = ball(shape)
    for key, factor in factors.items():
        scaled = getattr(scene.inputs, key).detach() * factor
        scaled = (scaled.clamp(max=1.0) if key == "opacities" else scaled).requires_grad_()
        scene = scene._replace(inputs=scene.inputs._replace(**{key: scaled}))
    inputs = ops.RasterInputs(*(x if x is None else x.detach().double() for x in scene.inputs))
    double = scene._replace(inputs=inputs)
    keep = ~ops.reference.rasterize(*double).near_cut[..., None]
    assert keep.float().mean() > 0.99
    for leaf in double.leaves():
        leaf.requires_grad_()
    return scene, double, keep, picture_weights(shape) * keep


def results(rasterize, scene, weights, keep, **options):
    """The picture where it is kept, and the gradients of the leaves."""
    leaves = scene.leaves()
    picture = rasterize(*scene, **options)
    loss = (picture.rgb * weights).sum()
    if loss.requires_grad:
        loss.backward()
    zero = torch.zeros(())
    images = {k: getattr(picture, k).detach() * keep for k in ("rgb", "alpha", "depth") if hasattr(picture, k)}
    return images, {k: zero if x.grad is None else x.grad for k, x in zip(LEAVES, leaves, strict=True)}


@functools.cache
def operator_results(name):
    """What the operator draws, and by how much rounding may move that: as much as it moves its float64 twin."""
    scene, double, keep, weights = make(name)

    def twin():
        images, grads = results(ops.reference.rasterize, double, weights.double(), keep)
        return images | grads

    return results(ops.rasterize, scene, weights, keep), moved(twin)


def compare(name, rasterize, images, **options):
    """Each is allowed what rounding moves in either program: the baseline's polynomials about the tile's centre cancel,
    so most of it is theirs, the more the further a splat's centre lies from the tile.
    """
    scene, _, keep, weights = make(name)
    (want, want_grads), of_operator = operator_results(name)
    got, got_grads = results(rasterize, scene, weights, keep, **options)

    def again():
        pictures, grads = results(rasterize, scene, weights, keep, **options)
        return pictures | grads

    of_baseline = moved(again)
    for key in images:
        allowed = FACTOR * (of_operator[key].max() + of_baseline[key].max())
        assert (got[key] - want[key]).abs().max() <= allowed, key
    for key in LEAVES:
        allowed = FACTOR * (of_operator[key].norm() + of_baseline[key].norm())
        assert (got_grads[key] - want_grads[key]).norm() <= allowed, key


@pytest.mark.parametrize("tile", [8, 16])
@pytest.mark.parametrize("name", SCENES)
def test_draws_what_the_operator_draws(name, tile):
    compare(name, torch_tiles.rasterize, ("rgb", "alpha", "depth"), tile=tile)


@pytest.mark.parametrize("name", ["ball", "saturating, alpha capped"])
def test_the_plain_loop_draws_the_same(name):
    compare(name, plain_tiles.rasterize, ("rgb",), tile=16)


def test_pairs_do_not_depend_on_the_tiles_and_stop_with_the_pixel():
    scene, _, _, _ = make("saturating, alpha capped")
    with torch.no_grad():
        pairs = [plain_tiles.rasterize(*scene, tile=tile).pairs for tile in (8, 16)]
        one = scene.inputs._replace(**{key: getattr(scene.inputs, key)[:1] for key in LEAVES})
        alpha = ops.rasterize(one, scene.settings).alpha
        alone = plain_tiles.rasterize(one, scene.settings, tile=8).pairs
    assert pairs[0] == pairs[1] < 200 * 2 * 32 * 32
    assert alone == int((alpha > 0).sum()) > 0
