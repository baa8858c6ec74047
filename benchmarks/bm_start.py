"""Seconds from the command `splatdistill train` to its first step, with the embedded prior, in processes of their own.

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

from common import parser, progress, record, significant, write

CODE = """
import json, os, sys, time
from splatdistill import cli, memory
keep = memory.keep_freed_memory
def begin():  # what `train` calls last before its own modules
    import splatdistill.train as train
    advance = train.Trainer.advance
    def first(self, log):
        begun = time.time()
        advance(self, log)
        facts = {"to_step_0": begun - float(sys.argv[1]), "step_0": time.time() - begun, "modules": len(sys.modules)}
        print(json.dumps(facts | {"cpu": sum(os.times()[:2])}), flush=True)
        os._exit(0)
    train.Trainer.advance = first
    return keep()
memory.keep_freed_memory = begin
sys.exit(cli.main(["train", "--prompt", "a red armchair", *sys.argv[2:]]))
"""


def main() -> None:
    made = parser(__doc__, threads=os.cpu_count() or 1)
    made.add_argument("--network-engine", default="auto", help="as of train")
    made.add_argument("--dtype", default="auto", help="as of train")
    args = made.parse_args()
    runs = []
    for _ in range(4 if args.quick else 8):
        with tempfile.TemporaryDirectory() as out:
            words = ["--out", out, "--threads", str(args.threads)]
            words += ["--network-engine", args.network_engine, "--dtype", args.dtype]
            begun = repr(time.time())
            done = subprocess.run(  # noqa: S603
                [sys.executable, "-c", CODE, begun, *words], capture_output=True, text=True, check=True
            )
        runs.append(json.loads(done.stdout.splitlines()[-1]))
        progress(str(runs[-1]))
    kept = runs[1:]
    middle = {key: significant(statistics.median(run[key] for run in kept)) for key in kept[0]}
    best = {f"best_{key}": significant(min(run[key] for run in kept)) for key in ("to_step_0", "cpu")}
    write(record("start", [{"name": "start", **middle, **best}], quick=args.quick, threads=args.threads), args.json)
    progress(str(middle | best))


if __name__ == "__main__":
    main()
