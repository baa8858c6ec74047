"""`gsplat.rasterization` as gsplat 1.5.3 documents it, drawn by our own rasteriser: for machines without CUDA.

Arguments are bound to the signature of the installed gsplat, and their shapes are those that it asserts itself.
"""

from __future__ import annotations

import inspect
from typing import Any

import gsplat
import torch
from torch import Tensor

from splatdistill import ops

draw = ops.rasterize
SIGNATURE = inspect.signature(gsplat.rasterization)
DRAWN = {
    "means", "quats", "scales", "opacities", "colors", "viewmats", "Ks", "width", "height", "near_plane", "far_plane",
    "eps2d", "sh_degree", "packed", "backgrounds", "render_mode",
}  # fmt: skip


def rasterization(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    bound = SIGNATURE.bind(*args, **kwargs)
    bound.apply_defaults()
    a = bound.arguments
    for name, parameter in SIGNATURE.parameters.items():
        assert name in DRAWN or a[name] == parameter.default, f"{name} is not drawn here"
    assert a["packed"] is False and a["render_mode"] == "RGB+D"
    n, views = len(a["means"]), len(a["viewmats"])
    shapes = {"means": (n, 3), "quats": (n, 4), "scales": (n, 3), "opacities": (n,),
              "viewmats": (views, 4, 4), "Ks": (views, 3, 3)}  # fmt: skip
    for name, shape in shapes.items():
        assert a[name].shape == shape and a[name].dtype == torch.float32, name
        assert a[name].device == a["means"].device, name
    colors, degree = a["colors"], a["sh_degree"]
    if degree is None:
        assert colors.shape[:-1] in ((n,), (views, n))
    else:
        assert colors.shape[:-2] == (n,) and colors.shape[-1] == 3 and (degree + 1) ** 2 <= colors.shape[-2]
    # gsplat puts a 0 for depth behind the background itself, after which the channels must agree.
    assert a["backgrounds"].shape == (views, colors.shape[-1])
    inputs = ops.RasterInputs(
        a["means"], a["quats"], a["scales"], a["opacities"], colors, a["viewmats"], a["Ks"], a["backgrounds"]
    )
    settings = ops.RasterSettings(a["width"], a["height"], degree, a["near_plane"], a["far_plane"], a["eps2d"])
    with torch.no_grad():
        projected = draw(inputs, settings).means2d
    # A tensor of the graph, as gsplat's is: its gradient is there after retain_grad only.
    shift = torch.zeros_like(projected, requires_grad=a["means"].requires_grad and torch.is_grad_enabled())
    means2d = projected + shift
    drawn = draw(inputs._replace(means2d_offset=means2d - projected), settings)
    names = "depths conics opacities tiles_per_gauss isect_ids flatten_ids isect_offsets".split()
    meta = dict.fromkeys([*names, "batch_ids", "camera_ids", "gaussian_ids"])
    meta |= {"means2d": means2d, "radii": drawn.radii, "width": a["width"], "height": a["height"],
             "tile_size": a["tile_size"], "n_cameras": views, "n_batches": 1}  # fmt: skip
    return torch.cat([drawn.rgb, drawn.depth], -1), drawn.alpha, meta
