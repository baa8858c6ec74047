"""How long a training waits for its viewers: a step's look into an empty control folder, and a snapshot when watched,
whose copy it waits for; the file is written beside the next steps.

`python benchmarks/snapshot.py` prints and writes the median and the largest of many, in wall time with the disk.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from common import commit, machine

from splatdistill.config.schema import SplatsConfig, TrainConfig
from splatdistill.scene.gaussians import init_ball
from splatdistill.training import remote_control
from splatdistill.training.run_log import RunLog


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/snapshot.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    cells = [measure(count, rounds=args.rounds) for count in (5_000, 10_000, 20_000, 100_000)]
    for cell in cells:
        print(cell)
    command = f"python benchmarks/snapshot.py --rounds {args.rounds}"
    result = {"command": command, "commit": commit(), "machine": machine(), "cells": cells}
    args.json.write_text(json.dumps(result, indent=1) + "\n")


def measure(num_splats: int, *, rounds: int) -> dict[str, float]:
    """Milliseconds of `obey` while nobody looks, and while every call writes a snapshot."""
    splats = init_ball(SplatsConfig(num_init=num_splats), seed=0)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        asked = remote_control.Control(run, RunLog(run, TrainConfig(), command=""))
        unwatched = [milliseconds(asked, splats, step) for step in range(rounds)]
        (run / "control" / "watch").touch()
        remote_control.SNAPSHOT_EVERY = 0.0
        watched = [milliseconds(asked, splats, rounds + step) for step in range(rounds)]
        assert (run / "snapshots" / f"{2 * rounds - 1:06d}.splat").stat().st_size == 32 * num_splats
    kinds = {"unwatched": unwatched, "snapshot": watched}
    numbers = {f"{name}_{what}_ms": take(values) for name, values in kinds.items() for what, take in TAKES.items()}
    return {"num_splats": num_splats, **{name: round(value, 4) for name, value in numbers.items()}}


def milliseconds(asked: remote_control.Control, splats: object, step: int) -> float:
    start = time.perf_counter()
    asked.obey(splats, step=step)  # type: ignore[arg-type]
    took = 1e3 * (time.perf_counter() - start)
    asked.wait()
    return took


TAKES = {"median": statistics.median, "largest": max}

if __name__ == "__main__":
    main()
