"""The rasteriser against a dense float64 autograd reference."""

from __future__ import annotations

import pytest
import torch

from splatdistill import ops
from tests.ops.conftest import arguments
from tests.rounding import FACTOR, moved, neighbours

INPUTS = ("means", "quats", "scales", "opacities", "colors", "viewmats", "background", "means2d_offset")
SCENES = {
    "plain": {"num_splats": 300},
    "one view": {"num_splats": 200, "num_views": 1},
    "three views, not square": {"num_splats": 250, "num_views": 3, "width": 33, "height": 47},
    "colors of each view": {"num_splats": 200, "num_views": 3, "per_view_colors": True},
    "saturating": {"num_splats": 300, "scale": 0.15, "opacity": (0.9, 1.0)},
    "faint": {"num_splats": 200, "opacity": (0.001, 0.05)},
    "smaller than a pixel": {"num_splats": 300, "scale": 0.002},
    "camera among the splats": {"num_splats": 150, "radius": 0.3, "scale": 0.03},
    "one splat": {"num_splats": 1, "scale": 0.2},
    "one channel": {"num_splats": 150, "channels": 1},
    "two channels": {"num_splats": 150, "channels": 2},
    "four channels": {"num_splats": 150, "channels": 4},
    "nine channels": {"num_splats": 150, "channels": 9},
    "eleven channels of each view": {"num_splats": 150, "channels": 11, "per_view_colors": True},
    "harmonics of degree 0": {"num_splats": 200, "sh_degree": 0},
    "harmonics of degree 1": {"num_splats": 200, "sh_degree": 1},
    "harmonics of degree 2": {"num_splats": 200, "sh_degree": 2},
    "harmonics of degree 3": {"num_splats": 200, "sh_degree": 3},
}


def to_double(scene):
    return {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in scene.items()}


def depth_keys(scene):
    """The float32 depths of the op itself: a tie broken otherwise would be a difference of order, not of arithmetic."""
    inputs, settings = arguments(scene)
    records = torch.ops.splatdistill.rasterize_forward(*inputs, *settings)[5]
    return records[..., 6]


def both(scene):
    """The op's result and the reference's, with their leaves."""
    leaves = {k: scene[k].clone().requires_grad_() for k in INPUTS}
    double = to_double(scene)
    double_leaves = {k: double[k].clone().requires_grad_() for k in INPUTS}
    got = ops.rasterize(*arguments(scene | leaves))
    want = ops.reference.rasterize(*arguments(double | double_leaves), depth_keys=depth_keys(scene))
    return got, want, leaves, double_leaves


@pytest.mark.parametrize("name", SCENES)
def test_agrees_with_reference(make_scene, name):
    """Pictures, places and gradients, each as near as rounding in float32 lets the float64 twin be to itself."""
    scene = make_scene(**SCENES[name])
    got, want, leaves, double_leaves = both(scene)
    assert want.near_cut.float().mean() <= 1e-3  # a claim about the scene: next to nothing is left out below
    keep = ~want.near_cut[..., None]
    assert want.alpha.max() > 0.01
    assert ((got.radii - want.radii).abs() > 1).sum() == 0
    assert (got.radii == want.radii).float().mean() > 0.99

    generator = torch.Generator().manual_seed(1)
    unit = (1.0, 1.0, 0.4)  # depth is some 2.5 units: this weighs it like a colour
    weights = [
        u * torch.randn(image.shape, generator=generator).double() * keep
        for u, image in zip(unit, want[:3], strict=True)
    ]

    def results(raster, leaves, dtype):
        """Images where they are kept, and gradients by names in capitals."""
        for leaf in leaves.values():
            leaf.grad = None
        sum((w.to(dtype) * image).sum() for w, image in zip(weights, raster[:3], strict=True)).backward()
        images = {name: getattr(raster, name).detach() * keep for name in ("rgb", "alpha", "depth")}
        grads = {name.upper(): leaf.grad for name, leaf in leaves.items()}
        return images | {"means2d": raster.means2d.detach()} | grads

    def twin():
        double = arguments(to_double(scene) | double_leaves)
        return results(ops.reference.rasterize(*double, depth_keys=depth_keys(scene)), double_leaves, torch.float64)

    found, exact, away = results(got, leaves, torch.float32), twin(), moved(twin)
    for key, value in found.items():
        size = torch.linalg.vector_norm if key.isupper() else amax
        # Twice: going backward the operator rebuilds transmittance by dividing by 1 - alpha, which the twin stores.
        error, bound = size(value.double() - exact[key]), 2 * FACTOR * size(away[key])
        assert error <= bound, f"{key}: {error:.2e}, allowed {bound:.2e}"


@pytest.mark.parametrize("aspect", [10, 100, 1000, 10_000])
def test_gradients_of_needles(make_scene, aspect):
    """As near to float64 as when each input is the next number of float32, which an algorithm without cancellation is
    but for the roundings of its own (FACTOR).
    """
    scene = make_scene(20, width=64, height=64, opacity=(0.2, 0.9))
    scene["scales"] = torch.tensor([1.0, 1 / aspect, 1 / aspect]).repeat(20, 1)
    got, want, leaves, double_leaves = both(scene)
    keep = ~want.near_cut[..., None]
    weight = torch.randn(want.rgb.shape, generator=torch.Generator().manual_seed(1)).double() * keep
    (weight.float() * got.rgb).sum().backward()
    (weight * want.rgb).sum().backward()
    generator = torch.Generator().manual_seed(2)
    moved_leaves = {k: neighbours(scene[k], generator).double().requires_grad_() for k in ("means", "quats", "scales")}
    beside = to_double(scene) | moved_leaves
    (weight * ops.reference.rasterize(*arguments(beside), depth_keys=depth_keys(scene)).rgb).sum().backward()
    for key, leaf in moved_leaves.items():
        exact = double_leaves[key].grad
        error, bound = (leaves[key].grad.double() - exact).norm(), FACTOR * (leaf.grad - exact).norm()
        assert error <= bound, f"{key}: {error:.2e}, allowed {bound:.2e}"


def amax(x):
    return x.abs().max()
