"""Seconds from the command `splatdistill train` to its first step, and of the whole command with default settings, with
the embedded prior, in processes of their own.

Each process runs the command line as the console script does and notes the time at the first call of Trainer.advance.
The first process fills the file cache and is left out. `modules` counts what is imported by then.

    python benchmarks/bm_start.py --json benchmarks/results/cpu_start.json
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import parser, progress, record, significant, write

CODE = """
import json, os, sys, time
from splatdistill import cli
from splatdistill.utils import malloc
keep = malloc.keep_freed_memory
def begin():  # what `train` calls last before its own modules
    from splatdistill.training import trainer
    advance = trainer.Trainer.advance
    def first(self, log):
        begun = time.time()
        advance(self, log)
        facts = {"to_step_0": begun - float(sys.argv[1]), "step_0": time.time() - begun, "modules": len(sys.modules)}
        print(json.dumps(facts | {"cpu": sum(os.times()[:2])}), flush=True)
        os._exit(0)
    trainer.Trainer.advance = first
    return keep()
malloc.keep_freed_memory = begin
sys.exit(cli.main(["train", "--prompt", "a red armchair", *sys.argv[2:]]))
"""


def main() -> None:
    made = parser(__doc__, threads=os.cpu_count() or 1)
    made.add_argument("--network-engine", default="auto", help="as of train")
    made.add_argument("--dtype", default="auto", help="as of train")
    args = made.parse_args()
    runs: list[dict[str, float]] = []
    wanted = ["--threads", str(args.threads), "--network-engine", args.network_engine, "--dtype", args.dtype]
    for _ in range(4 if args.quick else 8):
        with tempfile.TemporaryDirectory() as out:
            begun = repr(time.time())
            done = subprocess.run(  # noqa: S603
                [sys.executable, "-c", CODE, begun, "--out", out, *wanted], capture_output=True, text=True, check=True
            )
        runs.append(json.loads(done.stdout.splitlines()[-1]))
        progress(str(runs[-1]))
    kept = runs[1:]
    middle = {key: significant(statistics.median(run[key] for run in kept)) for key in kept[0]}
    best = {f"best_{key}": significant(min(run[key] for run in kept)) for key in ("to_step_0", "cpu")}
    cells = [{"name": "start", **middle, **best}, whole(wanted, runs=1 if args.quick else 3)]
    write(record("start", cells, quick=args.quick, threads=args.threads), args.json)
    progress(str(cells))


def whole(words: list[str], *, runs: int) -> dict[str, Any]:
    """Wall seconds of the whole command with default settings, from the prompt to the files; the median run's facts."""
    made = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as out:
            command = [
                sys.executable,
                "-m",
                "splatdistill",
                "train",
                "--prompt",
                "a red armchair",
                "--out",
                out,
                *words,
            ]
            begun = time.perf_counter()
            subprocess.run([*command, *words], capture_output=True, check=True)  # noqa: S603
            seconds = time.perf_counter() - begun
            (summary,) = Path(out).rglob("summary.json")
            found = json.loads(summary.read_text(encoding="utf-8"))
        keep = ("steps", "network_engine", "dtype", "seconds_total", "seconds_waiting", "network_share")
        made.append({"name": "whole command", "seconds": significant(seconds), **{key: found[key] for key in keep}})
        progress(str(made[-1]))
    return sorted(made, key=lambda run: run["seconds"])[len(made) // 2]


if __name__ == "__main__":
    main()
