"""Real trainings that are ended at random moments: `python -m tests.reliability.ends FOLDER --kills N --seed S`.

Each child trains through the command line until a signal ends it; then the checkpoint must load, and the next child
goes on with the run. A run that reaches its end must have made the same object as one that nobody disturbed. Prints
what happened as JSON. Children are forked from one process that has imported everything.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from splatdistill import cli, viewer
from splatdistill.priors import analytic
from splatdistill.training import checkpoint
from splatdistill.training import run as training

ONCE = (analytic, training, viewer)  # imported here for all children
STEPS = 60
SETTINGS = [
    "--config", "smoke", "--prompt", "a red ball", "--steps", str(STEPS), "--size", "32", "--splats.num-init", "50",
    "--densify.interval", "10", "--output.size", "32", "--output.frames", "2", "--output.save-every", "1",
    "--output.log-every", "5",
]  # fmt: skip
POLITE = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


def child(folder: Path) -> int:
    """The id of a process that begins the run or goes on with it."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let what runs in the background ignore it
        quiet = os.open(folder.parent / f"{folder.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        where = ["--resume", str(folder)] if folder.exists() else [*SETTINGS, "--out", str(folder.parent), "--name"]
        code = cli.main(["train", *where, *([] if folder.exists() else [folder.name])])
    finally:
        os._exit(code)


def code_of(pid: int) -> int:
    """As Python has it: negative for a signal that ended the process."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def result(folder: Path) -> tuple[bytes, list[dict[str, float]]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return (folder / "splats.ply").read_bytes(), [{k: v for k, v in x.items() if k != "seconds"} for x in lines]


class Ends:
    """Ends trainings and keeps the score."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.bad: list[str] = []
        self.kills = self.finished = self.runs = 0
        begun = time.monotonic()
        assert code_of(child(folder / "undisturbed")) == 0, (folder / "undisturbed.log").read_text()
        self.whole = time.monotonic() - begun  # s
        self.wanted = result(folder / "undisturbed")

    def step_of(self, run: Path) -> int:
        """The step of the checkpoint, which must load; 0 before the first."""
        if not (run / "checkpoints" / "latest").is_file():
            return 0
        try:
            return checkpoint.load(run / "checkpoints")[1]["step"]
        except ValueError as error:
            self.bad.append(f"{run.name} after {self.kills} kills: {error}")
            return 0

    def next_run(self) -> Path:
        self.runs += 1
        return self.folder / f"run-{self.runs}"

    def kill(self, count: int) -> None:
        """SIGKILL at a random moment, `count` times; a finished run makes way for a new one."""
        run, before = self.next_run(), 0
        while self.kills < count:
            pid = child(run)
            time.sleep(self.random.uniform(0, self.whole / 2))
            os.kill(pid, signal.SIGKILL)
            code = code_of(pid)
            if code == 0:
                self.finish(run)
                run, before = self.next_run(), 0
                continue
            self.kills += 1
            if code != -signal.SIGKILL:
                self.bad.append(f"{run.name}: ended with {code}: {run.with_suffix('.log').read_text()[-300:]}")
            step = self.step_of(run)
            if step < before:
                self.bad.append(f"{run.name}: the checkpoint went back from step {before} to {step}")
            before = step
        self.finish(run)

    def polite(self, name: signal.Signals) -> None:
        """Ends a run by a signal that is waited for, at a random moment of its loop, and goes on with it."""
        run = self.next_run()
        pid = child(run)
        pointer, first = run / "checkpoints" / "latest", f"step_{self.random.randrange(2, STEPS // 2):06d}"
        while not pointer.exists() or pointer.read_text() < first:
            time.sleep(0.002)
        os.kill(pid, name)
        code, step = code_of(pid), self.step_of(run)
        events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
        stopped = code == 128 + name and events[-1]["kind"] == "stop" and events[-1]["step"] == step < STEPS
        if not stopped:
            self.bad.append(f"{name.name}: exit code {code}, checkpoint of step {step}, last event {events[-1]}")
        self.finish(run)

    def finish(self, run: Path) -> None:
        """The end of a run that was disturbed is that of one that was not, and nothing is left lying about."""
        code = code_of(child(run))
        if code != 0 or result(run) != self.wanted:
            self.bad.append(f"{run.name}: ended with {code} and {'the same' if code == 0 else 'no'} result")
        if left := [str(path) for path in self.folder.rglob(".*")]:
            self.bad.append(f"{run.name}: left over: {left}")
        self.finished += 1


def main(args: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args(args)
    torch.set_num_threads(1)
    ends = Ends(flags.folder, seed=flags.seed)
    ends.kill(flags.kills)
    for name in POLITE:
        ends.polite(name)
    print(json.dumps({"kills": ends.kills, "runs": ends.finished, "bad": ends.bad, "seed": flags.seed}))


if __name__ == "__main__":
    main(sys.argv[1:])
