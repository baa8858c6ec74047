"""The fused operators on the GPU: residual, noising and gram against eager torch, densify against gsplat's
DefaultStrategy.

Cells of the first three: `ours_ms` and `baseline_ms` are the device's own time, the queue being full; `wall_*` is what
a program sees. `copy_ms` is a device copy that moves as many bytes, `copy_share` = copy_ms / ours_ms. Buffers rotate
over 256 MB, so that nothing is read from a cache.
Cells of densify: one event, or a step's statistics, in wall-clock time, as both wait for counts. Neither has a budget,
both have the same absolute threshold, and `equal_masks` says whether both cloned, split and pruned the same splats.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import common
import gpu_common
import torch
from gpu_common import Call
from torch import Tensor

from splatdistill import ops
from splatdistill.config.schema import DensifyConfig, OptimConfig
from splatdistill.ops import _library, densify
from splatdistill.scene.gaussians import Splats
from splatdistill.training.densifier import Densifier
from splatdistill.training.splat_optimizer import SplatOptimizer
from splatdistill.utils.adam import MOMENTS

NUM_TERMS = 3
SHAPES = [(64, 3, 512, 512), (16, 3, 512, 512), (6, 3, 512, 512), (4, 3, 512, 512), (4, 4, 64, 64)]
EVENTS = (1_000_000, 100_000)
NUM_VIEWS = 4
GROW, SPLIT_SCALE, PRUNE_OPACITY = 0.9, 0.02, 0.005


def main() -> None:
    args = gpu_common.parser(__doc__).parse_args()
    device = gpu_common.require(args.device)
    if not _library.native(device):
        raise SystemExit("The extension has no CUDA kernels: build it with SPLATDISTILL_CUDA=1.")
    record = gpu_common.record("kernels", device, args.out, build=ops.build_info(), equal_masks=None, cells=[])
    cells: list[dict[str, Any]] = []
    for make in _cells(device, quick=args.quick):
        cells.append(make())
        record.write(cells=cells)
        common.progress(common.shown(cells[-1]))
    equal = all(cell["equal_masks"] for cell in cells if "equal_masks" in cell)
    record.write(equal_masks=equal)
    raise SystemExit(0 if equal else 1)


def _cells(device: torch.device, *, quick: bool) -> Iterator[Callable[[], dict[str, Any]]]:
    """From the largest to the smallest: time may run out, and the small ones measure latency alone."""
    cpu = device.type == "cpu"
    for size in (2000,) if cpu else EVENTS[-1:] if quick else EVENTS:
        yield partial(event_cell, size, device)
        yield partial(statistics_cell, size, device)
    for shape in [(2, 4, 16, 16)] if cpu else SHAPES[-2:] if quick else SHAPES:
        for dtype in (torch.float32, torch.bfloat16):
            for make in (residual_cell, noising_cell, gram_cell):
                yield partial(make, shape, dtype, device)


def residual_cell(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    views = shape[0]
    g = torch.Generator().manual_seed(0)
    coef, weight = torch.randn(NUM_TERMS, views, generator=g).to(device), torch.rand(views, generator=g).to(device)
    elements = math.prod(shape)
    moved = elements * (NUM_TERMS * dtype.itemsize + 4)  # the terms are read, the gradient is written

    def make() -> list[Tensor]:
        terms = [torch.randn(shape, device=device, dtype=dtype) for _ in range(NUM_TERMS)]
        return [torch.randn(shape, device=device), *terms]

    buffers = gpu_common.rotating(make, num_bytes=moved)

    def ours() -> None:
        x0, *terms = buffers()
        ops.residual(x0, terms=terms, coef=coef, weight=weight)

    def eager() -> None:
        x0, *terms = buffers()
        ops.reference.residual(x0, terms, coef, weight, None, views)

    with torch.no_grad():
        return _operator_cell("residual", shape, dtype, moved, {"ours": ours, "eager": eager}, device)


def noising_cell(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    alpha, sigma = torch.rand(2, shape[0], device=device).unbind(0)
    moved = math.prod(shape) * 3 * dtype.itemsize

    def make() -> list[Tensor]:
        return [torch.randn(shape, device=device, dtype=dtype) for _ in range(2)]

    buffers = gpu_common.rotating(make, num_bytes=moved)

    def ours() -> None:
        x0, eps = buffers()
        ops.noising(x0, eps=eps, alpha=alpha, sigma=sigma)

    def eager() -> None:
        x0, eps = buffers()
        ops.reference.noising(x0, eps, alpha, sigma)

    with torch.no_grad():
        return _operator_cell("noising", shape, dtype, moved, {"ours": ours, "eager": eager}, device)


def gram_cell(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Against one stack of the terms and one batched product in float32."""
    moved = math.prod(shape) * NUM_TERMS * dtype.itemsize
    buffers = gpu_common.rotating(
        lambda: [torch.randn(shape, device=device, dtype=dtype) for _ in range(NUM_TERMS)], num_bytes=moved
    )

    def eager() -> None:
        rows = torch.stack([term.float().flatten(1) for term in buffers()], 1)
        torch.sum(rows, -1)
        torch.bmm(rows, rows.mT)

    return _operator_cell("gram", shape, dtype, moved, {"ours": lambda: ops.gram(buffers()), "eager": eager}, device)


def _operator_cell(
    name: str, shape: tuple[int, ...], dtype: torch.dtype, moved: int, calls: dict[str, Call], device: torch.device
) -> dict[str, Any]:
    calls = {**calls, "copy": gpu_common.copy_call(moved, device)}
    queued = gpu_common.device_seconds(calls, device)
    wall = gpu_common.wall_seconds(calls, device)
    copy_ms = common.milliseconds(queued["copy"])
    title = f"{name} {'x'.join(map(str, shape))} {str(dtype).removeprefix('torch.')}"
    made = common.cell(title, queued["ours"], queued["eager"], shape=list(shape), bytes=moved, copy_ms=copy_ms)
    return made | {
        "copy_share": common.significant(copy_ms / made["ours_ms"]),
        "gb_per_s": common.significant(moved / made["ours_ms"] / 1e6),
        "wall_ours_ms": common.milliseconds(wall["ours"]),
        "wall_baseline_ms": common.milliseconds(wall["eager"]),
        "wall_ratio": common.ratio(wall["eager"], wall["ours"]),
        "launches": gpu_common.launches(calls["ours"], device),
        "baseline_launches": gpu_common.launches(calls["eager"], device),
    }


class Scene:
    """Splats of SH degree 3 with both moments and statistics: about 5 % clone, 5 % split, and 2 % go; none does two of
    it, as gsplat prunes what has just grown and ours does not.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        g = torch.Generator().manual_seed(0)
        shapes = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": (), "sh0": (1, 3), "shN": (15, 3)}
        tensors = {name: torch.randn(size, *shape, generator=g) for name, shape in shapes.items()}
        tensors["scales"] = math.log(SPLIT_SCALE) + 0.3 * tensors["scales"] - 0.25
        tensors["opacities"] = tensors["opacities"].abs()
        grad = torch.rand(size, generator=g)
        gone = torch.rand(size, generator=g) < 0.02
        tensors["opacities"][gone], grad[gone] = -6.0, 0.0
        # One compares scales and the other their logarithms, > and >=: nothing lies on the line itself.
        tensors["scales"][(tensors["scales"].amax(-1) - math.log(SPLIT_SCALE)).abs() < 1e-4] -= 1e-3
        grad[(grad - GROW).abs() < 1e-6] = 0.5
        self.size, self.device = size, device
        self.tensors = {name: value.to(device) for name, value in tensors.items()}
        self.moments = {name: {key: torch.rand_like(x) for key in MOMENTS} for name, x in self.tensors.items()}
        self.count = torch.full((size,), NUM_VIEWS, dtype=torch.int64, device=device)
        self.grad_sum = NUM_VIEWS * grad.to(device)

    def copies(self) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
        moments = {name: {key: x.clone() for key, x in state.items()} for name, state in self.moments.items()}
        return {name: x.clone() for name, x in self.tensors.items()}, moments


def ours_event(scene: Scene) -> Call:
    """An event of a run, with its optimiser; the copies that it works on are made here, outside the clock."""
    tensors, moments = scene.copies()
    config = DensifyConfig(
        grow_gradient=GROW, split_scale=SPLIT_SCALE, prune_opacity=PRUNE_OPACITY, prune_scale=1e9,
        max_splats=4 * scene.size, stop=1.0,
    )  # fmt: skip
    optimizer = SplatOptimizer(Splats(**tensors), OptimConfig(), steps=1000)
    optimizer.replace(Splats(**tensors), moments)
    densifier = Densifier(config, num_splats=scene.size, steps=1000, device=scene.device)
    densifier.grad_sum, densifier.count = scene.grad_sum.clone(), scene.count.clone()
    return lambda: densifier.event(optimizer, seed=0, step=10)


class Theirs:
    """gsplat's strategy on the same splats. Its own reset never fires and is not part of an event here."""

    def __init__(self, scene: Scene) -> None:
        from gsplat import DefaultStrategy

        tensors, moments = scene.copies()
        self.params = {name: torch.nn.Parameter(x) for name, x in tensors.items()}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        for name, parameter in self.params.items():
            adam = torch.optim.Adam([parameter], lr=1e-3, fused=True)
            adam.state[parameter] = {"step": torch.ones((), device=scene.device), **moments[name]}
            self.optimizers[name] = adam
        self.state: dict[str, Any] = {
            "grad2d": scene.grad_sum.clone(), "count": scene.count.float(), "radii": None, "scene_scale": 1.0
        }  # fmt: skip
        self.strategy = DefaultStrategy(
            prune_opa=PRUNE_OPACITY, grow_grad2d=GROW, grow_scale3d=SPLIT_SCALE, revised_opacity=True, verbose=False
        )

    def event(self) -> None:
        """What `step_post_backward` does every 100 steps."""
        self.strategy._grow_gs(self.params, self.optimizers, self.state, 600)
        self.strategy._prune_gs(self.params, self.optimizers, self.state, 600)
        self.state["grad2d"].zero_()
        self.state["count"].zero_()


def event_cell(size: int, device: torch.device) -> dict[str, Any]:
    scene = Scene(size, device)
    samples = alternate_fresh(
        {"ours": lambda: ours_event(scene), "gsplat": lambda: Theirs(scene).event}, device, rounds=7
    )
    return common.cell(
        f"densify event {size // 1000}k",
        samples["ours"],
        samples["gsplat"],
        num_splats=size,
        equal_masks=equal_masks(scene),
        launches=gpu_common.launches_of_one(lambda: ours_event(scene), device),
        baseline_launches=gpu_common.launches_of_one(lambda: Theirs(scene).event, device),
    )


def statistics_cell(size: int, device: torch.device) -> dict[str, Any]:
    scene = Scene(size, device)
    theirs = Theirs(scene)
    grad = torch.randn(NUM_VIEWS, size, 2, device=device)
    radii = torch.randint(0, 8, (NUM_VIEWS, size, 2), device=device, dtype=torch.int32)
    means2d = torch.zeros_like(grad, requires_grad=True)
    means2d.grad = grad
    info = {"width": 64, "height": 64, "n_cameras": NUM_VIEWS, "radii": radii, "gaussian_ids": None, "means2d": means2d}
    calls: dict[str, Call] = {
        "ours": lambda: densify.accumulate(scene.grad_sum, scene.count, probe_grad=grad, radii=radii),
        "gsplat": lambda: theirs.strategy._update_state(theirs.params, theirs.state, info, packed=False),
    }
    samples = gpu_common.wall_seconds(calls, device)
    counts = {name: gpu_common.launches(call, device) for name, call in calls.items()}
    return common.cell(
        f"densify statistics {size // 1000}k",
        samples["ours"],
        samples["gsplat"],
        num_splats=size,
        launches=counts["ours"],
        baseline_launches=counts["gsplat"],
    )


def alternate_fresh(makers: dict[str, Callable[[], Call]], device: torch.device, *, rounds: int) -> common.Samples:
    """Wall-clock seconds of calls that work once only: `makers` give a new one each time, outside the clock."""
    samples: common.Samples = {name: [] for name in makers}
    for turn in range(rounds + 1):
        for name, make in makers.items():
            call = make()
            gpu_common.wait(device)
            begun = time.perf_counter()
            call()
            gpu_common.wait(device)
            if turn:  # the first round warms up
                samples[name].append(time.perf_counter() - begun)
    return samples


def equal_masks(scene: Scene) -> bool:
    """Whether gsplat clones, splits and prunes the splats that ours does; its masks are read where it uses them."""
    import gsplat.strategy.default as strategy

    plan = densify.classify(
        scene.grad_sum / scene.count,
        scales=scene.tensors["scales"],
        opacities=scene.tensors["opacities"],
        grow_gradient=GROW,
        split_scale=math.log(SPLIT_SCALE),
        prune_scale=math.log(1e9),
        prune_opacity=math.log(PRUNE_OPACITY / (1 - PRUNE_OPACITY)),
        max_splats=4 * scene.size,
    )
    masks: dict[str, Tensor] = {}
    originals = {name: getattr(strategy, name) for name in ("duplicate", "split", "remove")}

    def noting(name: str) -> Callable[..., None]:
        def call(*args: Any, mask: Tensor, **kwargs: Any) -> None:
            masks[name] = mask.clone()
            originals[name](*args, mask=mask, **kwargs)

        return call

    try:
        for name in originals:
            setattr(strategy, name, noting(name))
        Theirs(scene).event()
    finally:
        for name, original in originals.items():
            setattr(strategy, name, original)
    if masks.keys() != originals.keys():
        return False
    pruned = torch.zeros(len(masks["split"]), dtype=torch.bool, device=scene.device)
    stayed = torch.where(~masks["split"])[0]  # gsplat's order: these first, then the halves of what was split
    pruned[stayed] = masks["remove"][: len(stayed)]
    kind, n = plan.kind, scene.size
    return (
        torch.equal(masks["duplicate"], kind == densify.CLONE)
        and torch.equal(masks["split"][:n], kind == densify.SPLIT)
        and torch.equal(pruned[:n], kind == densify.PRUNE)
        and int(masks["remove"].sum()) == int((kind == densify.PRUNE).sum())
    )


if __name__ == "__main__":
    main()
