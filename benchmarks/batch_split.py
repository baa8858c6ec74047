"""How many objects an hour `batch` makes of 12 prompts: one run after another on all cores, and one run for each core.

Both are whole commands, start-up and final pictures included, one after the other on a machine with nothing else to
do. With few `--steps` what is not the loop weighs more than in runs of the default length, so `loop_seconds`, the
seconds of the steps alone, stand beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common

from splatdistill.io.files import write_text
from splatdistill.utils.system import num_cores

COLOURS, THINGS = ("red", "blue", "green"), ("armchair", "car", "teddy bear", "snowman")


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--steps", type=int, default=600, help="of a run (default %(default)s)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    args = made.parse_args()
    cores = num_cores()
    splits = {f"1 run of {cores} threads": ["--workers", "1", "--threads", str(cores)], "as shipped": []}
    cells = [measure(name, flags, steps=args.steps) for name, flags in splits.items()]
    gain = common.significant(cells[1]["objects_an_hour"] / cells[0]["objects_an_hour"])
    common.progress(f"as shipped over one run after another: {gain}")
    record = {
        "bench": "batch_split",
        "machine": common.machine(),
        "commit": common.commit(),
        "command": common.command(),
    }
    common.write(record | {"steps": args.steps, "cores": cores, "gain": gain, "cells": cells}, args.json)


def measure(name: str, flags: list[str], *, steps: int) -> dict[str, Any]:
    """One batch of all colours and things."""
    prompts = [f"a {colour} {thing}" for colour in COLOURS for thing in THINGS]
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "prompts.txt", Path(folder) / "out"
        write_text(file, "\n".join(prompts) + "\n")
        words = ["batch", "--prompts", str(file), "--out", str(out), "--device", "cpu", "--steps", str(steps), *flags]
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "splatdistill", *words], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        seconds = time.perf_counter() - begun
        runs = [json.loads(path.read_text()) for path in out.glob("*/summary.json")]
    cell = {
        "name": name,
        "objects": len(runs),
        "seconds": common.significant(seconds),
        "objects_an_hour": common.significant(3600 * len(runs) / seconds),
        "loop_seconds": common.significant(statistics.median(run["seconds_total"] for run in runs)),
        "loop_cpu_seconds": common.significant(statistics.median(run["seconds_cpu"] for run in runs)),
        "dtype": runs[0]["dtype"],
        "threads": runs[0]["threads"],
    }
    common.progress(f"{name:<24} {cell['objects_an_hour']:8.1f} objects an hour, {cell['loop_seconds']:.1f} s a loop")
    return cell


if __name__ == "__main__":
    main()
