"""gsplat on the GPU against our CPU rasteriser: pictures, depth, normals and gradients of seeded scenes.

Pixels whose colours differ by more than 2e-3 are counted: near a cut (alpha at 1/255, transmittance at 1e-4) rounding
may add or drop a splat. A gradient's error is the L2 norm of the difference over that of the CPU's.
"""

from __future__ import annotations

from typing import Any

import common
import gpu_common
import torch
from torch import Tensor

from splatdistill.config.base import Degree
from splatdistill.config.schema import CameraConfig, SplatsConfig
from splatdistill.rendering.renderer import CpuRenderer, GsplatRenderer, Renderer
from splatdistill.scene.cameras import turntable
from splatdistill.scene.gaussians import Splats, init_ball
from splatdistill.scene.types import RenderOutput

NUM_VIEWS = 4
DEGREES: tuple[Degree, ...] = (0, 3)
BARS = {"mean_abs": 1e-4, "share_above_2e-3": 1e-3}


def main() -> None:
    args = gpu_common.parser(__doc__).parse_args()
    device = gpu_common.require(args.device)
    quick = args.quick or device.type == "cpu"
    record = gpu_common.record("parity", device, args.out, num_views=NUM_VIEWS, bars=BARS, passed=None, cells=[])
    cells: list[dict[str, Any]] = []
    for size in (64,) if quick else (64, 512):
        for num in (2000,) if quick else (2000, 20000):
            for degree in DEGREES:
                renderer = GsplatRenderer() if device.type == "cuda" else CpuRenderer()
                found = compare(ball(num, degree), size=size, normals=True, renderer=renderer, device=args.device)
                cells.append({"num_splats": num, "size": size, "sh_degree": degree, **found})
                record.write(cells=cells)
                common.progress(f"{num} splats, {size}x{size}, degree {degree}: mean {found['mean_abs']:.2e}")
    passed = all(cell[name] <= bar for cell in cells for name, bar in BARS.items())
    record.write(passed=passed)
    raise SystemExit(0 if passed else 1)


def ball(num: int, degree: Degree) -> Splats:
    """A ball of splats in random colours, half opaque."""
    splats = init_ball(SplatsConfig(num_init=num, sh_degree=degree, opacity=0.5), seed=0)
    g = torch.Generator().manual_seed(0)
    splats.tensors["sh0"] = torch.randn(num, 1, 3, generator=g)
    splats.tensors["shN"] = 0.3 * torch.randn(splats.shN.shape, generator=g)
    splats.tensors["scales"] = splats.scales + 0.3 * torch.randn(num, 3, generator=g)
    return splats


def compare(
    splats: Splats, *, size: int, normals: bool, renderer: Renderer | None = None, device: str = "cuda"
) -> dict[str, Any]:
    """Differences of `renderer` (default: gsplat) on `device` from the CPU rasteriser, for one random loss."""
    ours, our_grads = _drawn(CpuRenderer(), splats, size, normals)
    theirs, their_grads = _drawn(renderer or GsplatRenderer(), splats.to(device), size, normals)
    difference = (ours.rgb - theirs.rgb).abs()
    found: dict[str, Any] = {
        "mean_abs": float(difference.mean()),
        "max_abs": float(difference.max()),
        "share_above_2e-3": float((difference.amax(-1) > 2e-3).float().mean()),
        "alpha_mean_abs": float((ours.alpha - theirs.alpha).abs().mean()),
        "depth_mean_abs": float((ours.depth - theirs.depth).abs().mean()),
        "radii_equal": float((ours.radii == theirs.radii).float().mean()),
        "gradient_errors": {
            name: float((grad - their_grads[name]).norm() / grad.norm().clamp(min=1e-12))
            for name, grad in our_grads.items()
        },
    }
    if ours.normal is not None and theirs.normal is not None:
        found["normal_mean_abs"] = float((ours.normal - theirs.normal).abs().mean())
    return found


def _drawn(by: Renderer, splats: Splats, size: int, normals: bool) -> tuple[RenderOutput, dict[str, Tensor]]:
    """The picture and the gradients, all on the CPU."""
    leaves = Splats(**{name: value.detach().clone() for name, value in splats.tensors.items()}).requires_grad_()
    views = turntable(CameraConfig(), num_frames=NUM_VIEWS, size=size)
    output = by.render(leaves, views, background=torch.ones(NUM_VIEWS, 3), normals=normals)
    g = torch.Generator().manual_seed(1)
    parts = [x for x in (output.rgb, output.alpha, output.depth, output.normal) if x is not None]
    torch.stack([(x * torch.randn(x.shape, generator=g).to(x)).sum() for x in parts]).sum().backward()
    grads = {name: x.grad.cpu() for name, x in leaves.tensors.items() if x.grad is not None and x.numel()}
    assert output.probe.grad is not None
    shown = {name: x.detach().cpu() for name, x in vars(output).items() if x is not None}
    return RenderOutput(**shown), {**grads, "probe": output.probe.grad.cpu()}


if __name__ == "__main__":
    main()
