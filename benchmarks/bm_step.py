"""Where the time of an SDS step goes: the default run, a bare loop over the same network and the rasteriser, in turn.

`network_share` is the part of a step spent in the prior; `network_over_bare` is that part divided by the time of
calling the UNet on tensors of the same shape and nothing else. `raster_share` is forward and backward of 10,000 splats
in 4 views of 64x64 over the time of a step. Wall-clock time, with as many threads as a run would take.

In the cells, ratio = baseline / ours has these meanings: "step" the network's share, "network" what the network would
need on its own, "raster" how many times the rasteriser fits into a step.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import common
import torch
from scenes import Scene, Shape, ball, picture_weights

from splatdistill import ops, priors
from splatdistill.config.presets import load
from splatdistill.config.schema import OutputConfig
from splatdistill.training.run_log import RunLog
from splatdistill.training.trainer import Trainer

PROMPT = "a red armchair"
RASTER = Shape(10000, 4, 64)
WARM_UP = 5


def main() -> None:
    args = common.parser(__doc__, threads=torch.get_num_threads()).parse_args()
    torch.set_num_threads(args.threads)
    result = measure(10 if args.quick else 60, quick=args.quick)
    for cell in result["cells"]:
        common.progress(common.shown(cell))
    for name in ("network_share", "network_over_bare", "raster_share"):
        common.progress(f"{name} {result[name]:.4f}")
    common.write(result, args.json)


def measure(steps: int, *, quick: bool) -> dict[str, Any]:
    """Steps of the default run (4 views at 64x64) with the splat count held at the default 5000."""
    config = load("sds")[0]
    config = replace(
        config, prompt=PROMPT, densify=replace(config.densify, start=2.0), output=OutputConfig(log_every=10)
    )
    device = torch.device("cpu")
    prior = priors.load(config.prior, device=device, dtype=config.dtype)
    trainer = Trainer(config, prior=prior, device=device)
    scene, weights = ball(RASTER), picture_weights(RASTER)
    times: dict[str, list[float]] = {"step": [], "network": [], "bare": [], "raster": []}
    with tempfile.TemporaryDirectory() as folder:
        log = RunLog(Path(folder) / "run", config, command="bm_step")
        for _ in range(steps + WARM_UP):
            before = trainer.seconds, trainer.prior.seconds
            trainer.advance(log)
            times["step"].append(trainer.seconds - before[0])
            times["network"].append(trainer.prior.seconds - before[1])
            times["bare"].append(bare_network(prior, config.num_views))
            times["raster"].append(raster(scene, weights))
    step, network, bare, drawn = (times[name][WARM_UP:] for name in ("step", "network", "bare", "raster"))
    return common.record(
        "step",
        [
            common.cell("step", step, network),
            common.cell("network", network, bare),
            common.cell(f"raster {RASTER}", drawn, step),
        ],
        quick=quick,
        prompt=PROMPT,
        config=asdict(config),
        steps=steps,
        num_splats=len(trainer.splats),
        dtype=getattr(prior, "dtype", "fp32"),
        threads=torch.get_num_threads(),
        network_share=sum(network) / sum(step),
        network_over_bare=sum(network) / sum(bare),
        raster_share=common.ratio(drawn, step),
    )


@torch.no_grad()
def bare_network(prior: priors.Prior, num_views: int) -> float:
    """Seconds of one UNet call with the shapes, precision and joint attention of a step: two conditions of every
    view.
    """
    unet, views = prior.unet, prior.views  # type: ignore[attr-defined]
    rows = 2 * num_views
    side = prior.image_size // prior.patch  # type: ignore[attr-defined]
    x = torch.randn(rows, unet.config["in_channels"], side, side).contiguous(memory_format=torch.channels_last)
    text = torch.randn(rows, 16, unet.config["cross_attention_dim"])
    width = unet.config["projection_class_embeddings_input_dim"]
    views.num_views, views.joint_rows = prior.num_views, rows
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=prior.dtype == "bf16"):
        unet(x, torch.full((rows,), 500), text, class_labels=torch.randn(rows, width), return_dict=False)
    return time.perf_counter() - start


def raster(scene: Scene, weights: torch.Tensor) -> float:
    """Seconds of one picture and its gradients."""
    scene.leaves()
    start = time.perf_counter()
    (ops.rasterize(*scene).rgb * weights).sum().backward()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
