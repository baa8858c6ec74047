"""Two processes at once in one run folder: `python -m tests.reliability.writers FOLDER --tries N`.

Two that begin it, two that go on with it, one of each. One must write, and the other end with exit code 2 and a
sentence that has the first one's number. The one that writes waits in its loop until the other has ended, so that both
are always there at once. Prints what happened as JSON; children are forked from one process that imported everything.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

import torch

from splatdistill import cli, viewer
from splatdistill.priors import analytic
from splatdistill.training import run as training
from tests.reliability.flips import TINY, half_done

ONCE = (analytic, viewer)  # imported here for all children
KINDS = ("train/train", "resume/resume", "train/resume")
PATIENCE = 120.0  # s that a child waits for the other


def child(words: list[str], log: Path, go: Path) -> int:
    """The id of a process that runs a command, and waits before its first step until the file `go` is there."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        quiet = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        steps = training._loop

        def waiting(*args: object, **kwargs: object) -> None:
            until = time.monotonic() + PATIENCE
            while not go.exists() and time.monotonic() < until:
                time.sleep(0.002)
            steps(*args, **kwargs)  # type: ignore[arg-type]

        training._loop = waiting
        code = cli.main(words)
    finally:
        os._exit(code)


class Tries:
    """Keeps the score of all tries."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.half, self.wanted = half_done(folder)
        self.bad: list[str] = []
        self.done = 0

    def commands(self, kind: str, name: str) -> tuple[list[str], list[str]]:
        begin = ["train", "--config", str(self.folder / "keep.yaml"), *TINY, "--out", str(self.folder), "--name", name]
        go_on = ["train", "--resume", str(self.folder / name)]
        return {"train/train": (begin, begin), "resume/resume": (go_on, go_on), "train/resume": (begin, go_on)}[kind]

    def one(self, kind: str) -> None:
        self.done += 1
        name = f"run-{self.done}"
        run, go = self.folder / name, self.folder / f"go-{self.done}"
        first, second = self.commands(kind, name)
        if kind == "resume/resume":
            shutil.copytree(self.half, run)
        logs = [self.folder / f"{name}.{index}.log" for index in (0, 1)]
        pids = [child(first, logs[0], go)]
        while kind == "train/resume" and not run.exists():
            time.sleep(0.002)
        pids.append(child(second, logs[1], go))
        ended, status = os.wait()
        go.touch()
        other, last = os.wait()
        codes = os.waitstatus_to_exitcode(status), os.waitstatus_to_exitcode(last)
        said = logs[pids.index(ended)].read_text().splitlines()[-1]
        records = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        left = [path.name for path in self.folder.rglob(".*")]
        sound = (
            codes == (cli.USAGE, cli.DONE)
            and said.startswith(f"splatdistill: {run} is being written by process {other} on ")
            and (run / "splats.ply").read_bytes() == self.wanted
            and records == sorted(set(records))
            and (run / "events.jsonl").read_text().count('"done"') == 1
            and not left
        )
        if not sound:
            self.bad.append(f"{kind}: exit codes {codes}, logged {records}, left {left}, said: {said}")
        shutil.rmtree(run)


def main(args: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tries", type=int, default=100)
    flags = parser.parse_args(args)
    torch.set_num_threads(1)
    tries = Tries(flags.folder)
    for index in range(flags.tries):
        tries.one(KINDS[index % len(KINDS)])
    print(json.dumps({"tries": tries.done, "bad": tries.bad}))


if __name__ == "__main__":
    main(sys.argv[1:])
