"""What the rasteriser promises besides numbers: threads, levels, odd inputs, messages, torch's op contract."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from splatdistill import ops
from tests.ops.conftest import Scene, arguments
from tests.packaging.audit import ROOT
from tests.rounding import FACTOR, moved

INPUTS = ("means", "quats", "scales", "opacities", "colors", "viewmats", "background", "means2d_offset")
GEOMETRY = ("means", "quats", "scales", "opacities", "colors")


def render_and_grads(scene, threads=1, **options):
    """Every output, then the gradient of every input for a fixed loss over rgb, alpha and depth."""
    torch.set_num_threads(threads)
    leaves = {k: scene[k].clone().requires_grad_() for k in INPUTS}
    out = ops.rasterize(*arguments(scene | leaves | options))
    generator = torch.Generator().manual_seed(1)
    loss = sum((torch.randn(image.shape, generator=generator) * image).sum() for image in out[:3])
    loss.backward()
    return [*(t.detach() for t in out), *(leaf.grad for leaf in leaves.values())]


@pytest.mark.parametrize("colors", [{}, {"channels": 7}, {"sh_degree": 3}, {"num_views": 1}])
def test_threads_do_not_change_a_bit(make_scene, colors):
    scene = make_scene(400, **({"num_views": 3, "width": 75, "height": 50} | colors))
    one = render_and_grads(scene)
    for threads in (2, 4):
        for a, b in zip(one, render_and_grads(scene, threads), strict=True):
            assert torch.equal(a, b)


def test_views_do_not_depend_on_each_other(make_scene):
    scene = make_scene(100, num_views=3)
    together = ops.rasterize(*arguments(scene))
    for v in range(3):
        per_view = ("viewmats", "Ks", "background", "means2d_offset")
        alone = ops.rasterize(*arguments(scene | {k: scene[k][v : v + 1] for k in per_view}))
        for a, b in zip(together, alone, strict=True):
            assert torch.equal(a[v], b[0])


def test_offset_moves_means2d_and_its_gradient_is_that_of_means2d(make_scene):
    scene = make_scene(50)
    shift = torch.randn(scene["means2d_offset"].shape)
    moved = ops.rasterize(*arguments(scene | {"means2d_offset": shift}))
    plain = ops.rasterize(*arguments(scene | {"means2d_offset": None}))
    both = (moved.radii > 0).all(-1) & (plain.radii > 0).all(-1)
    torch.testing.assert_close(moved.means2d[both], (plain.means2d + shift)[both])

    offset = torch.zeros_like(shift).requires_grad_()
    ops.rasterize(*arguments(scene | {"means2d_offset": offset})).means2d[..., 0].sum().backward()
    assert offset.grad is not None
    assert torch.equal(offset.grad, torch.stack([both_seen(plain), torch.zeros(2, 50)], -1))


def both_seen(out):
    return (out.radii > 0).any(-1).float()


def test_equal_depths_are_drawn_by_index(make_scene):
    scene = make_scene(2, num_views=1, scale=0.3, opacity=(0.99, 0.99))
    scene["means"] = torch.zeros(2, 3)
    scene["quats"] = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(2, 1)
    scene["scales"] = torch.full((2, 3), 0.3)
    scene["colors"] = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    red, green, _ = ops.rasterize(*arguments(scene)).rgb[0, 16, 16]
    assert red > 0.9 > 0.1 > green


@pytest.mark.parametrize("num_splats", [0, 1, 15, 16, 17])
def test_any_number_of_splats(make_scene, num_splats):
    for tensor in render_and_grads(make_scene(num_splats, num_views=2, width=5, height=3)):
        assert torch.isfinite(tensor).all()


def test_no_splats_is_the_background(make_scene):
    scene = make_scene(0)
    out = ops.rasterize(*arguments(scene))
    assert torch.equal(out.rgb, scene["background"][:, None, None].expand_as(out.rgb))
    assert out.alpha.abs().max() == 0
    assert out.radii.shape == (2, 0, 2)


def test_colors_of_each_view_for_many_splats(make_scene):
    scene = make_scene(1500, per_view_colors=True, scale=0.01)
    assert ops.rasterize(*arguments(scene)).rgb.shape == (2, 32, 32, 3)


def test_no_views(make_scene):
    scene = make_scene(3, num_views=1)
    out = ops.rasterize(
        *arguments(scene | {k: scene[k][:0] for k in ("viewmats", "Ks", "background", "means2d_offset")})
    )
    assert out.rgb.shape == (0, 32, 32, 3)


def test_splats_behind_the_camera_are_not_drawn_and_get_no_gradient(make_scene):
    scene = make_scene(20, num_views=1, radius=0.3)
    *out, _means, quats, scales, opacities, colors, _, _, offset = render_and_grads(scene, near=0.3)
    hidden = (out[4][0] == 0).all(-1)
    assert hidden.any()
    assert not hidden.all()
    for grad in (quats, scales, opacities, colors, offset[0]):
        assert grad[hidden].abs().max() == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [("scales", 1e-12), ("scales", 1e4), ("scales", 1e30), ("means", 1e30), ("means", float("inf")),
     ("means", float("nan")), ("scales", float("nan")), ("quats", 0.0), ("quats", float("nan")),
     ("opacities", 0.0), ("opacities", 1.0), ("opacities", float("nan")), ("quats", 1e-12), ("colors", float("nan"))],
)  # fmt: skip
@pytest.mark.parametrize("eps2d", [0.0, 0.3])
@pytest.mark.parametrize("sh_degree", [None, 3])
def test_extreme_splats_do_no_harm(make_scene, key, value, eps2d, sh_degree):
    scene = make_scene(40, sh_degree=sh_degree)
    scene[key][::3] = value
    for tensor in render_and_grads(scene, eps2d=eps2d):
        assert torch.isfinite(tensor).all()


def rounding_of(scene: Scene, weights: float | torch.Tensor = 0.0) -> tuple[float, float]:
    """How far two programs for a scene may lie apart: the largest difference of a pixel, and the norm of the difference
    of the means' gradient when the loss is the sum of weights [V,H,W,C] times pictures.
    """
    double = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in scene.items()}
    means = double["means"].detach().requires_grad_()

    def twin() -> dict[str, torch.Tensor]:
        rgb = ops.reference.rasterize(*arguments(double | {"means": means})).rgb
        return {"rgb": rgb, "means": torch.autograd.grad((rgb * weights).sum(), means)[0]}

    away = moved(twin)
    return FACTOR * float(away["rgb"].max()), FACTOR * float(away["means"].norm())


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 40), (16, 16), (17, 3), (15, 33)])
@pytest.mark.parametrize("channels", [1, 3, 6])
def test_any_size_agrees_with_reference(make_scene, width, height, channels):
    scene = make_scene(60, num_views=1, width=width, height=height, channels=channels, scale=0.2)
    double: dict[str, Any] = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in scene.items()}
    want = ops.reference.rasterize(*arguments(double))
    got = ops.rasterize(*arguments(scene))
    assert ((got.rgb - want.rgb).abs() * ~want.near_cut[..., None]).max() <= rounding_of(scene)[0]
    for grad in render_and_grads(scene)[5:]:
        assert torch.isfinite(grad).all()


def test_channels_do_not_depend_on_each_other(make_scene):
    """However many there are and however they are grouped, geometry's gradient is the sum of theirs."""
    scene = make_scene(120, channels=9, width=40)
    means = [scene["means"].clone().requires_grad_() for _ in range(2)]
    together = ops.rasterize(*arguments(scene | {"means": means[0]})).rgb
    weights = torch.randn(together.shape, generator=torch.Generator().manual_seed(2))
    (together * weights).sum().backward()
    for first, count in ((0, 3), (3, 1), (4, 2), (6, 3)):
        some = slice(first, first + count)
        part = scene | {"colors": scene["colors"][:, some], "background": scene["background"][:, some]}
        alone = ops.rasterize(*arguments(part | {"means": means[1]})).rgb
        assert torch.equal(alone, together[..., some])
        (alone * weights[..., some]).sum().backward()
    one, many = means[0].grad, means[1].grad
    assert one is not None
    assert many is not None
    assert (one - many).norm() <= rounding_of(scene, weights)[1]


def test_unused_harmonics_get_no_gradient(make_scene):
    scene = make_scene(30, sh_degree=1)
    colors = scene["colors"].clone().requires_grad_()
    ops.rasterize(*arguments(scene | {"colors": colors})).rgb.sum().backward()
    assert colors.grad is not None
    assert colors.grad[:, :4].abs().max() > 0
    assert colors.grad[:, 4:].abs().max() == 0


def test_camera_gradients_only_when_asked(make_scene):
    scene = make_scene(30)
    means = scene["means"].clone().requires_grad_()
    viewmats = scene["viewmats"].clone().requires_grad_()
    ops.rasterize(*arguments(scene | {"means": means, "viewmats": viewmats})).rgb[0].sum().backward()
    assert viewmats.grad is not None
    assert viewmats.grad[0, :3].abs().max() > 0
    assert viewmats.grad[0, 3].abs().max() == 0
    assert viewmats.grad[1].abs().max() == 0
    alone = scene["means"].clone().requires_grad_()
    ops.rasterize(*arguments(scene | {"means": alone})).rgb[0].sum().backward()
    assert means.grad is not None
    assert alone.grad is not None
    assert torch.equal(means.grad, alone.grad)


def test_inputs_need_not_be_contiguous(make_scene):
    scene = make_scene(30)
    strided = {k: torch.stack([scene[k], scene[k]], -1)[..., 0] for k in GEOMETRY}
    assert not strided["means"].is_contiguous()
    for a, b in zip(render_and_grads(scene), render_and_grads(scene | strided), strict=True):
        assert torch.equal(a, b)


def test_gradients_of_a_part_of_the_outputs(make_scene):
    scene = make_scene(30)
    means = scene["means"].clone().requires_grad_()
    ops.rasterize(*arguments(scene | {"means": means})).alpha.sum().backward()
    assert means.grad is not None
    assert means.grad.abs().max() > 0


BAD = {
    "means must be a tensor on the CPU; on a GPU use the gsplat renderer.": {"means": [0.0]},
    "means must have shape [any, 3], got [30].": {"means": torch.zeros(30)},
    "means must be float32, got float64.": {"means": torch.zeros(30, 3).double()},
    "quats must have shape [30, 4], got [30, 3].": {"quats": torch.zeros(30, 3)},
    "scales must be a tensor, got float.": {"scales": 1.0},
    "opacities must have shape [30], got [30, 1].": {"opacities": torch.zeros(30, 1)},
    "colors must have shape [2, 30, any], got [1, 30, 3].": {"colors": torch.zeros(1, 30, 3)},
    "colors must be on cpu, got meta.": {"colors": torch.zeros(30, 3, device="meta")},
    "viewmats must have shape [any, 4, 4], got [4, 4].": {"viewmats": torch.eye(4)},
    "viewmats must be a tensor, got NoneType.": {"viewmats": None},
    "viewmats must be finite.": {"viewmats": torch.full((2, 4, 4), torch.nan)},
    "Ks must have shape [2, 3, 3], got [1, 3, 3].": {"Ks": torch.eye(3)[None]},
    "Ks must be finite.": {"Ks": torch.full((2, 3, 3), torch.inf)},
    "Ks must have positive focal lengths.": {"Ks": torch.zeros(2, 3, 3)},
    "background must have shape [2, 3], got [3].": {"background": torch.zeros(3)},
    "means2d_offset must have shape [2, 30, 2], got [30, 2].": {"means2d_offset": torch.zeros(30, 2)},
    "Ks must not require grad: this rasteriser gives no gradient of the intrinsics.": {
        "Ks": torch.zeros(2, 3, 3, requires_grad=True)
    },
    "background must have shape [2, 5], got [2, 3].": {"colors": torch.zeros(30, 5)},
    "colors must have from 1 to 1024 channels, got 0.": {"colors": torch.zeros(30, 0)},
    "sh_degree must be an integer from 0 to 3, got 4.": {"sh_degree": 4},
    "colors must have shape [30, any, 3], got [30, 3].": {"sh_degree": 0},
    "colors must hold 9 harmonics or more, got 8.": {"sh_degree": 2, "colors": torch.zeros(30, 8, 3)},
    "width must be an integer from 1 to 16384, got 0.": {"width": 0},
    "height must be an integer from 1 to 16384, got 2.5.": {"height": 2.5},
    "near and far must satisfy 0 < near < far, got 0 and 10000000000.0.": {"near": 0},
    "near and far must satisfy 0 < near < far, got 2 and 1.": {"near": 2, "far": 1},
    "eps2d must be finite and at least 0, got nan.": {"eps2d": float("nan")},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_inputs_name_the_argument(make_scene, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011  the whole message is compared below
        ops.rasterize(*arguments(make_scene(30) | BAD[message]))
    assert str(error.value) == message


def raw_arguments(scene):
    inputs, settings = arguments(scene)
    return *inputs, *settings


def test_raw_op_refuses_what_it_cannot_read(make_scene):
    scene = make_scene(4)
    for bad in ({"quats": torch.zeros(3, 4)}, {"scales": torch.zeros(4, 3).double()}, {"means": torch.zeros(3, 4).T}):
        with pytest.raises(RuntimeError, match=r"quats|scales|means"):
            torch.ops.splatdistill.rasterize_forward(*raw_arguments(scene | bad))


@pytest.mark.parametrize("with_offset", [True, False])
@pytest.mark.parametrize("sh_degree", [None, 2])
def test_opcheck_forward(make_scene, with_offset, sh_degree):
    scene = make_scene(12, width=20, height=18, sh_degree=sh_degree)
    for key in INPUTS:
        scene[key].requires_grad_()
    if not with_offset:
        scene["means2d_offset"] = None
    torch.library.opcheck(torch.ops.splatdistill.rasterize_forward.default, raw_arguments(scene))


@pytest.mark.parametrize("cameras", [False, True])
def test_opcheck_backward(make_scene, cameras):
    scene = make_scene(12, width=20, height=18)
    inputs, settings = arguments(scene)
    color, alpha, depth, means2d, radii, *saved = torch.ops.splatdistill.rasterize_forward(*inputs, *settings)
    drawn = inputs[: inputs._fields.index("background")]
    torch.library.opcheck(
        torch.ops.splatdistill.rasterize_backward.default,
        (color, alpha, depth, means2d, *drawn, color, alpha, depth, radii, *saved, cameras, *settings),
        test_utils=("test_schema", "test_faketensor"),
    )


COMPARE_LEVELS = """
import sys, torch
from splatdistill import ops
from tests.ops.conftest import arguments
torch.set_num_threads(1)
scene, path = torch.load(sys.argv[1], weights_only=True), sys.argv[2]
means = scene["means"].requires_grad_()
rgb = ops.rasterize(*arguments(scene)).rgb
(rgb * torch.linspace(-1, 1, rgb.numel()).reshape(rgb.shape)).sum().backward()
torch.save((ops.build_info()["simd_level"], rgb.detach(), means.grad), path)
"""


def test_every_level_the_machine_has_draws_the_same(make_scene, tmp_path):
    torch.save(make_scene(200, width=40), tmp_path / "scene.pt")
    results = {}
    for level in ops.build_info().get("simd_levels", ["generic"]):
        command = [sys.executable, "-c", COMPARE_LEVELS, str(tmp_path / "scene.pt"), str(tmp_path / "out.pt")]
        subprocess.run(command, env=os.environ | {"SPLATDISTILL_SIMD": level}, check=True, cwd=ROOT)
        used, rgb, grad = torch.load(tmp_path / "out.pt", weights_only=True)
        results[used] = rgb, grad
    rgb, grad = results["generic"]
    picture, gradient = rounding_of(make_scene(200, width=40), torch.linspace(-1, 1, rgb.numel()).view(rgb.shape))
    for other_rgb, other_grad in results.values():
        assert (rgb - other_rgb).abs().max() <= picture
        assert (grad - other_grad).norm() <= gradient
