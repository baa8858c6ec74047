"""Where the time of an SDS step goes: the default run against a bare loop over the same network, alternating in one
process.

`network_share` is the part of a step spent in the prior; `network_over_bare` is that part divided by the time of
calling
the UNet on tensors of the same shape and nothing else.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from common import commit, machine

from splatdistill import priors
from splatdistill.config import OutputConfig
from splatdistill.logs import RunLog
from splatdistill.presets import load
from splatdistill.train import Trainer

PROMPT = "a red armchair"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60, help="timed steps, after five to warm up")
    parser.add_argument("--quick", action="store_true", help="ten steps")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    result = measure(10 if args.quick else args.steps)
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def measure(steps: int) -> dict[str, object]:
    """Steps of the default run (4 views at 64x64) with the splat count held at the default 5000."""
    config = load("sds")[0]
    config = replace(
        config, prompt=PROMPT, densify=replace(config.densify, start=2.0), output=OutputConfig(log_every=10)
    )
    device = torch.device("cpu")
    prior = priors.load(config.prior, device=device, dtype=config.dtype)
    trainer = Trainer(config, prior=prior, device=device)
    bare_seconds = 0.0
    with tempfile.TemporaryDirectory() as folder:
        log = RunLog(Path(folder) / "run", config, command="bm_step")
        for step in range(steps + 5):
            if step == 5:
                trainer.seconds = trainer.prior.seconds = bare_seconds = 0.0
            trainer.advance(log)
            bare_seconds += bare_network(prior, config.num_views)
    return {
        "bench": "step",
        "command": "python benchmarks/bm_step.py",
        "prompt": PROMPT,
        "config": asdict(config),
        "steps": steps,
        "num_splats": len(trainer.splats),
        "dtype": getattr(prior, "dtype", "fp32"),
        "threads": torch.get_num_threads(),
        "ms_per_step": 1e3 * trainer.seconds / steps,
        "ms_network": 1e3 * trainer.prior.seconds / steps,
        "ms_bare_unet": 1e3 * bare_seconds / steps,
        "network_share": trainer.prior.seconds / trainer.seconds,
        "network_over_bare": trainer.prior.seconds / bare_seconds,
        "commit": commit(),
        "machine": machine(),
    }


@torch.no_grad()
def bare_network(prior: priors.Prior, num_views: int) -> float:
    """Seconds of one UNet call with the shapes, precision and joint attention of a step: two conditions of every
    view.
    """
    unet, views = prior.unet, prior.views  # type: ignore[attr-defined]
    rows = 2 * num_views
    side = prior.image_size // prior.patch  # type: ignore[attr-defined]
    x = torch.randn(rows, unet.config.in_channels, side, side).contiguous(memory_format=torch.channels_last)
    text = torch.randn(rows, 16, unet.config.cross_attention_dim)
    views.num_views, views.joint_rows = prior.num_views, rows
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=prior.dtype == "bf16"):
        unet(x, torch.full((rows,), 500), text, class_labels=torch.randn(rows, 16), return_dict=False)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
