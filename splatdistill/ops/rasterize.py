"""Differentiable Gaussian rasteriser on the CPU, with the rules of gsplat 1.5.3: all views in one call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from splatdistill.ops import _check, _library  # noqa: F401  _library registers the ops

MAX_SIDE = 16384
MAX_CHANNELS = 1024
_CPU = torch.device("cpu")
_RECORD_FLOATS = 16  # sizeof(ProjectedSplat) / sizeof(float) in csrc/cpu/raster.h


class RasterInputs(NamedTuple):
    """What is drawn, and from where: V views of N splats, float32 on the CPU. Gradients reach all but Ks.

    means: [N,3] world units. quats: [N,4] wxyz, any norm but 0. scales: [N,3] standard deviations, world units.
    opacities: [N] in 0..1. colors: [N,D] with any number of channels, or [V,N,D] when they depend on the view, or
    spherical harmonics where the settings name their degree. viewmats: [V,4,4] world to camera, OpenCV axes.
    Ks: [V,3,3] px, pixel centres at +0.5. background: [V,D].
    means2d_offset: [V,N,2] px, added to the projected means. Pass zeros that require grad: their gradient is the one
    with respect to means2d, the densify statistic.
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor
    viewmats: Tensor
    Ks: Tensor
    background: Tensor
    means2d_offset: Tensor | None = None


class RasterSettings(NamedTuple):
    """How it is drawn.

    width, height: px. sh_degree: 0..3 makes `colors` spherical harmonics [N,K,3], K >= (sh_degree + 1)^2, in the order
    of 3DGS: the colour is max(0.5 + their sum in the direction from the camera's centre to the mean, 0), and D is 3.
    near, far: world units; splats outside are not drawn. eps2d: px^2, added to the projected variances.
    """

    width: int
    height: int
    sh_degree: int | None = None
    near: float = 0.01
    far: float = 1e10
    eps2d: float = 0.3


class Raster(NamedTuple):
    """Legend: V views, N splats, H W pixels.

    rgb: [V,H,W,D] over the background, D the channels of `colors`. alpha: [V,H,W,1] coverage in 0..1, without the
    background. depth: [V,H,W,1] sum of weight times camera z, world units. means2d: [V,N,2] px, 0 where not seen.
    radii: [V,N,2] int32 px per axis, 0 where not seen.
    """

    rgb: Tensor
    alpha: Tensor
    depth: Tensor
    means2d: Tensor
    radii: Tensor


def rasterize(inputs: RasterInputs, settings: RasterSettings) -> Raster:
    """Draws N Gaussians into V views, front to back.

    Gradients are bitwise the same for any number of threads. A splat that is not finite is not drawn. gsplat's rules:
    alpha capped at 0.999, pairs below 1/255 skipped, a pixel stops before the splat that would leave a transmittance of
    1e-4 or less, ties in depth go by index.
    """
    if not isinstance(inputs.means, Tensor) or inputs.means.device != _CPU:
        raise ValueError("means must be a tensor on the CPU; on a GPU use the gsplat renderer.")
    _check_settings(settings)
    arguments = (*_checked(inputs, settings), *settings)
    if torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in arguments):
        outputs = _Rasterize.apply(*arguments)
    else:
        outputs = torch.ops.splatdistill.rasterize_forward.default(*arguments)
    return Raster(*outputs[:5])


def _checked(inputs: RasterInputs, settings: RasterSettings) -> RasterInputs:
    def checked(name: str, *shape: int | None) -> Tensor:
        return _check.tensor(name, getattr(inputs, name), shape=shape, dtype=torch.float32, device=_CPU)

    means, viewmats = checked("means", None, 3), checked("viewmats", None, 4, 4)
    num_splats, num_views = means.shape[0], viewmats.shape[0]
    Ks = checked("Ks", num_views, 3, 3)
    _check_cameras(viewmats, Ks)
    colors = _check_colors(inputs.colors, settings.sh_degree, num_views, num_splats)
    return RasterInputs(
        means,
        checked("quats", num_splats, 4),
        checked("scales", num_splats, 3),
        checked("opacities", num_splats),
        colors,
        viewmats,
        Ks,
        checked("background", num_views, colors.shape[-1]),
        None if inputs.means2d_offset is None else checked("means2d_offset", num_views, num_splats, 2),
    )


def _grouped(arguments: Sequence[Any]) -> tuple[RasterInputs, RasterSettings]:
    """The arguments of the operator, which are the fields of both one after another."""
    count = len(RasterInputs._fields)
    return RasterInputs(*arguments[:count]), RasterSettings(*arguments[count:])


def _check_settings(settings: RasterSettings) -> None:
    _check.integer("width", settings.width, low=1, high=MAX_SIDE)
    _check.integer("height", settings.height, low=1, high=MAX_SIDE)
    if not 0 < settings.near < settings.far:
        raise ValueError(f"near and far must satisfy 0 < near < far, got {settings.near} and {settings.far}.")
    if not 0 <= settings.eps2d < math.inf:
        raise ValueError(f"eps2d must be finite and at least 0, got {settings.eps2d}.")


def _check_colors(colors: Tensor, sh_degree: int | None, num_views: int, num_splats: int) -> Tensor:
    """`colors`, contiguous, [N,D], [V,N,D] or, with harmonics of degree sh_degree, [N,K,3]; ValueError for another
    shape.
    """
    shape: list[int | None] = [num_splats, None]
    if sh_degree is not None:
        _check.integer("sh_degree", sh_degree, low=0, high=3)
        shape = [num_splats, None, 3]
    elif isinstance(colors, Tensor) and colors.dim() == 3:
        shape = [num_views, num_splats, None]
    colors = _check.tensor("colors", colors, shape=shape, dtype=torch.float32, device=_CPU)
    if sh_degree is not None and not (sh_degree + 1) ** 2 <= colors.shape[1] <= MAX_CHANNELS:
        raise ValueError(f"colors must hold {(sh_degree + 1) ** 2} harmonics or more, got {colors.shape[1]}.")
    if not 1 <= colors.shape[-1] <= MAX_CHANNELS:
        raise ValueError(f"colors must have from 1 to {MAX_CHANNELS} channels, got {colors.shape[-1]}.")
    return colors


def _check_cameras(viewmats: Tensor, Ks: Tensor) -> None:
    """ValueError for viewmats [V,4,4] or Ks [V,3,3] with which nothing can be drawn."""
    if Ks.requires_grad:
        raise ValueError("Ks must not require grad: this rasteriser gives no gradient of the intrinsics.")
    for name, matrices in (("viewmats", viewmats), ("Ks", Ks)):  # plain Python: they are few, and torch costs more
        if not all(map(math.isfinite, matrices.detach().flatten().tolist())):
            raise ValueError(f"{name} must be finite.")
    if any(K[0][0] <= 0 or K[1][1] <= 0 for K in Ks.tolist()):
        raise ValueError("Ks must have positive focal lengths.")


@torch.library.register_fake("splatdistill::rasterize_forward")
def _forward_fake(*arguments: Any) -> tuple[Tensor, ...]:
    """What the operator returns, with its shapes: colours [V,H,W,D], alpha and depth [V,H,W,1], then what backward
    needs.
    """
    inputs, settings = _grouped(arguments)
    means, height, width = inputs.means, settings.height, settings.width
    views, splats = inputs.viewmats.shape[0], means.shape[0]
    tiles = views * ((width + 15) // 16) * ((height + 15) // 16)
    entries = torch.library.get_ctx().new_dynamic_size()
    return (
        means.new_empty(views, height, width, inputs.colors.shape[-1]),
        means.new_empty(views, height, width, 1),
        means.new_empty(views, height, width, 1),
        means.new_empty(views, splats, 2),
        means.new_empty(views, splats, 2, dtype=torch.int32),
        means.new_empty(views, splats, _RECORD_FLOATS),
        means.new_empty(tiles + 1, dtype=torch.int32),
        means.new_empty(entries, dtype=torch.int32),
        means.new_empty(entries, dtype=torch.int16),
    )


# The operator for gradients takes those of four outputs, the inputs up to this one, what the forward saved, whether
# gradients of the cameras are asked for, and the settings.
_DRAWN = RasterInputs._fields.index("background")
_CAMERAS, _OFFSET = (RasterInputs._fields.index(name) for name in ("viewmats", "means2d_offset"))


@torch.library.register_fake("splatdistill::rasterize_backward")
def _backward_fake(v_color, v_alpha, v_depth, v_means2d, *arguments: Any) -> tuple[Tensor, ...]:
    """Gradients like the inputs, then of the cameras [V,4,4], the background [V,D] and means2d [V,N,2]."""
    means, *_, colors, viewmats, _Ks = arguments[:_DRAWN]
    cameras = arguments[-len(RasterSettings._fields) - 1]
    views = viewmats.shape[0]
    return (
        *(torch.empty_like(t) for t in arguments[:_CAMERAS]),
        means.new_empty(views if cameras else 0, 4, 4),
        means.new_empty(views, colors.shape[-1]),
        means.new_empty(views, means.shape[0], 2),
    )


def _setup_context(ctx, inputs, output) -> None:
    inputs, settings = _grouped(inputs)
    color, alpha, depth, _means2d, radii, records, *lists = output
    ctx.save_for_backward(*inputs[:_DRAWN], color, alpha, depth, radii, records, *lists)
    ctx.settings = settings
    ctx.mark_non_differentiable(radii, records, *lists)
    ctx.set_materialize_grads(False)


def _backward(ctx, v_color, v_alpha, v_depth, v_means2d, *_):
    v_color = torch.zeros_like(ctx.saved_tensors[_DRAWN]) if v_color is None else v_color
    grads = [None if grad is None else grad.contiguous() for grad in (v_color, v_alpha, v_depth, v_means2d)]
    cameras = ctx.needs_input_grad[_CAMERAS]
    *splats, viewmats, background, offset = torch.ops.splatdistill.rasterize_backward.default(
        *grads, *ctx.saved_tensors, cameras, *ctx.settings
    )
    viewmats = viewmats if cameras else None
    offset = offset if ctx.needs_input_grad[_OFFSET] else None
    return *splats, viewmats, None, background, offset, *[None] * len(ctx.settings)


class _Rasterize(torch.autograd.Function):
    """The same as the op's own gradient below, without the time torch takes to fill in defaults of a long signature:
    hence no `setup_context` either.
    """

    @staticmethod
    def forward(ctx, *arguments):
        outputs = torch.ops.splatdistill.rasterize_forward.default(*arguments)
        _setup_context(ctx, arguments, outputs)
        return outputs

    backward = staticmethod(_backward)


torch.library.register_autograd("splatdistill::rasterize_forward", _backward, setup_context=_setup_context)
