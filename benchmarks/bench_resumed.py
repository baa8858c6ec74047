"""A `bench` that is killed twice and resumed, against one that nobody stops: is it one table?

    python benchmarks/bench_resumed.py --out DIR

Three methods, six prompts and three seeds with the shipped prior, and short runs (suites/killed.yaml). SIGKILL comes in
the middle of a run. Compares the two bench.json but for what a clock and the memory say, and the bytes of all splats.
Writes benchmarks/results/bench_resumed.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import ROOT, commit, machine, progress
from evidence import write_json

METHODS, SEEDS, PROMPTS = "sds,vsd,csd", 3, 6
RUNS = 3 * SEEDS * PROMPTS
KILLED_IN = (14, 37)
"""The runs, counted from 1, in the middle of which SIGKILL comes."""
LINES = 1  # of metrics, a quarter of those of a run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="an empty folder, for both")
    args = parser.parse_args()
    stopped, whole = args.out / "stopped", args.out / "whole"
    for number in KILLED_IN:
        killed(stopped, number)
    for out in (stopped, whole):
        subprocess.run(command(out), check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    same = {"table": figures(stopped) == figures(whole), "splats": splats(stopped) == splats(whole)}
    same["all runs"] = len(splats(whole)) == RUNS
    write_json(
        {
            "command": "python benchmarks/bench_resumed.py --out DIR", "commit": commit(), "machine": machine(),
            "methods": METHODS, "prompts": PROMPTS, "seeds": SEEDS, "killed_in_run": KILLED_IN, "same": same,
            "table": figures(whole)["table"],
        },
        ROOT / "benchmarks" / "results" / "bench_resumed.json",
    )  # fmt: skip
    progress(str(same))
    shutil.rmtree(args.out)
    sys.exit(not all(same.values()))


def command(out: Path) -> list[str]:
    suite = ROOT / "benchmarks" / "suites" / "killed.yaml"
    words = ["bench", suite, "--methods", METHODS, "--seeds", SEEDS, "--judges", "external,own", "--out", out]
    return [sys.executable, "-m", "splatdistill", *map(str, words)]


def killed(out: Path, number: int) -> None:
    """Kills the bench where its run of that number, of those that there are, has begun to log."""
    process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL)  # noqa: S603
    while process.poll() is None and not is_half_way(out, number):
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it could be killed"
    process.kill()
    process.wait()
    assert is_half_way(out, number) and not (out / "bench.json").exists()


def is_half_way(out: Path, number: int) -> bool:
    """Whether there are `number` runs, one of which has logged and is not done."""
    logs = list(out.glob("runs/*/metrics.jsonl"))
    open_ones = [log for log in logs if not log.with_name("splats.ply").exists()]
    return len(logs) == number and any(log.read_text().count("\n") >= LINES for log in open_ones)


def figures(out: Path) -> Any:
    """The record of a bench but for what a clock and the memory say."""
    found = json.loads((out / "bench.json").read_text())
    for row in (*found["table"], *found["objects"]):
        del row["seconds"], row["peak_memory_mb"]
    return found


def splats(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in out.glob("runs/*/splats.ply")}


if __name__ == "__main__":
    main()
