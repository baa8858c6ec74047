"""How many assets an hour more devices make, prompts split or views split: predicted from the parts of a step that are
measured here, and checked against two processes.

`python benchmarks/scale_plan.py` runs the default method with one thread: alone with 4 and with 8 views a step, as two
processes with a prompt each, and as two ranks that share 8 views. From the first two follow the seconds of a step that
views take and those that they do not; from sums of two sizes over two ranks the latency and the bandwidth of a message.
A step of G ranks is then predicted as fixed + per_view V / G + the sum of the gradients, by a ring: 2 (G - 1) messages
of bytes / G. `devices` are what was measured: a core of a CPU here. With --latency-us and --gb-per-s the link is
another one; nothing else changes, and what is predicted with them is not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import common
import torch

from splatdistill import priors
from splatdistill.config.presets import load
from splatdistill.training.run_log import NoLog
from splatdistill.training.trainer import Trainer
from splatdistill.utils.distributed import ALONE, Ranks

VIEWS = 4  # the least of a multi-view prior
WARM_UP, SMALL, LARGE = 3, 1 << 10, 1 << 24  # steps, bytes, bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20, help="of each measurement")
    parser.add_argument("--asset-steps", type=int, default=600)
    parser.add_argument("--asset-views", type=int, default=256, help="of a step, over all devices")
    parser.add_argument("--latency-us", type=float, help="of a message, instead of what is measured")
    parser.add_argument("--gb-per-s", type=float, help="of a link, instead of what is measured")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/scale_plan.json"))
    parser.add_argument("--worker", nargs=2, metavar=("VIEWS", "STEPS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(work(*map(int, args.worker))))
        return
    one, two = run([VIEWS], args.steps), run([2 * VIEWS], args.steps)
    prompts = run([VIEWS] * 2, args.steps)
    ranks = run([2 * VIEWS] * 2, args.steps, together=True)
    record = plan(args, one=one[0], two=two[0], prompts=prompts, ranks=ranks)
    for line in table(record):
        common.progress(line)
    args.json.write_text(json.dumps(record, indent=1) + "\n")


def run(views: list[int], steps: int, *, together: bool = False) -> list[dict[str, float]]:
    """A process for each entry, at once; as ranks of one run if `together`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = []
    for rank, count in enumerate(views):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        if together:
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(len(views))}
        command = [sys.executable, __file__, "--worker", str(count), str(steps)]
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))  # noqa: S603
    said = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit("A worker failed; what it said stands above.")
    return [json.loads(text) for text in said]


def work(num_views: int, steps: int) -> dict[str, float]:
    """Seconds of a step, bytes of gradients, and of sums of two sizes where there are ranks."""
    torch.set_num_threads(1)
    device = torch.device("cpu")
    ranks = Ranks.join(device)
    config = load("multiview")[0]
    config = replace(config, prompt="a red lamp", num_views=num_views, steps=1000)
    prior = priors.load(config.prior, device=device, dtype=config.dtype)
    trainer = Trainer(config, prior=prior, device=device, ranks=ranks)
    seconds = []
    for _ in range(WARM_UP + steps):
        start = time.perf_counter()
        trainer.advance(NoLog())
        seconds.append(time.perf_counter() - start)
    size = sum(x.nbytes for name, x in trainer.splats.tensors.items() if hasattr(config.optim, name))
    sums = {f"sum_{count}": sum_seconds(ranks, count) for count in (SMALL, LARGE)} if ranks is not ALONE else {}
    ranks.leave()
    return {"step": statistics.median(seconds[WARM_UP:]), "bytes": size, "splats": len(trainer.splats), **sums}


def sum_seconds(ranks: Ranks, count: int) -> float:
    values, seconds = torch.zeros(count // 4), []
    for _ in range(12):
        start = time.perf_counter()
        ranks.sum([values])
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def plan(
    args: argparse.Namespace,
    *,
    one: dict[str, float],
    two: dict[str, float],
    prompts: list[dict[str, float]],
    ranks: list[dict[str, float]],
) -> dict[str, Any]:
    per_view = (two["step"] - one["step"]) / VIEWS
    fixed = max(0.0, one["step"] - VIEWS * per_view)
    small, large = (max(rank[f"sum_{count}"] for rank in ranks) for count in (SMALL, LARGE))
    latency = args.latency_us * 1e-6 if args.latency_us else small / 2  # a ring of two: two messages
    bandwidth = args.gb_per_s * 1e9 if args.gb_per_s else LARGE / max(large - small, 1e-9)

    def step(devices: int, views: int) -> float:
        messages = 2 * (devices - 1)
        return fixed + per_view * views / devices + messages * (latency + one["bytes"] / devices / bandwidth)

    measured_ranks = max(rank["step"] for rank in ranks)
    measured_prompts = statistics.mean(process["step"] for process in prompts)
    rows = []
    for devices in (1, 8, 64):
        seconds = args.asset_steps * step(1, args.asset_views), args.asset_steps * step(devices, args.asset_views)
        rows.append(
            {
                "devices": devices,
                "prompts_split_assets_per_hour": common.significant(3600 * devices / seconds[0]),
                "views_split_assets_per_hour": common.significant(3600 / seconds[1]),
                "views_split_seconds_per_asset": common.significant(seconds[1]),
                "views_split_mb_sent_per_step_and_device": common.significant(
                    2 * (devices - 1) / devices * one["bytes"] / 1e6
                ),
            }
        )
    return {
        "bench": "scale_plan",
        "command": f"python {' '.join(sys.argv)}",
        "commit": common.commit(),
        "machine": common.machine(),
        "parts": {
            "fixed_ms": common.milliseconds([fixed]),
            "per_view_ms": common.milliseconds([per_view]),
            "gradient_mb": common.significant(one["bytes"] / 1e6),
            "splats": one["splats"],
            "latency_us": common.significant(latency * 1e6),
            "gb_per_s": common.significant(bandwidth / 1e9),
            "link": "given" if args.latency_us or args.gb_per_s else "measured, gloo between two processes",
        },
        "check": {
            "two_ranks_step_ms": common.milliseconds([measured_ranks]),
            "predicted_ms": common.milliseconds([step(2, 2 * VIEWS)]),
            "two_prompts_step_ms": common.milliseconds([measured_prompts]),
            "predicted_alone_ms": common.milliseconds([one["step"]]),
        },
        "asset": {"steps": args.asset_steps, "views": args.asset_views},
        "rows": rows,
    }


def table(record: dict[str, Any]) -> list[str]:
    check, parts = record["check"], record["parts"]
    lines = [
        f"{record['machine']}: {parts['fixed_ms']} ms + {parts['per_view_ms']} ms a view; link "
        f"{parts['latency_us']} us, {parts['gb_per_s']} GB/s ({parts['link']}), gradients {parts['gradient_mb']} MB",
        f"two ranks, {2 * VIEWS} views: {check['two_ranks_step_ms']} ms, predicted {check['predicted_ms']} ms",
        f"two prompts at once: {check['two_prompts_step_ms']} ms a step, alone {check['predicted_alone_ms']} ms",
    ]
    for row in record["rows"]:
        lines.append(
            f"{row['devices']:3d} devices: {row['prompts_split_assets_per_hour']} assets an hour with prompts split, "
            f"{row['views_split_assets_per_hour']} with views split ({row['views_split_seconds_per_asset']} s each)"
        )
    return lines


if __name__ == "__main__":
    main()
