"""A run as long as a day: `python -m tests.reliability.long_life FOLDER --steps N`.

With somebody who looks at it all the time, and a clock that is set back and forward an hour on the way. Memory, open
files and threads must be in the last half what they were before. Prints what they were as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

import torch

from splatdistill.config.schema import CameraConfig, DensifyConfig, OutputConfig, SplatsConfig, TrainConfig
from splatdistill.io.runs import EVENTS, METRICS, Run
from splatdistill.training.run import train
from splatdistill.training.trainer import Trainer

LOOKS = 200  # times at which memory and handles are counted
HOUR = 3600.0  # s
PAGE = os.sysconf("SC_PAGE_SIZE")
GROWTH = 2 << 20  # bytes that a run may hold more in its last half: malloc keeps what previews and densify needed
CONFIG = TrainConfig(
    prompt="a red ball", prior="analytic", device="cpu", num_views=1, size=8, threads=1,
    camera=CameraConfig(views_per_group=1), splats=SplatsConfig(num_init=20), densify=DensifyConfig(max_splats=40),
)  # fmt: skip


@dataclass
class Watcher:
    """What the process held at each look. shift: s by which the clock of the machine is wrong."""

    run: Run
    steps: int
    shift: float = 0.0
    held: list[tuple[int, int, int]] = field(default_factory=list)
    now = staticmethod(time.time)

    def time(self) -> float:
        return self.now() + self.shift

    def __call__(self, trainer: Trainer, numbers: Mapping[str, float]) -> None:
        if trainer.step % max(1, self.steps // LOOKS):
            return
        self.run.touch("control/watch")  # as an open page does
        done = trainer.step / self.steps
        self.shift = -HOUR if 0.25 < done < 0.5 else HOUR if 0.5 <= done < 0.75 else 0.0
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
        self.held.append((resident, len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))))


def lived(folder: Path, *, steps: int) -> tuple[Watcher, list[str]]:
    """What a run of so many steps held, and what was wrong."""
    output = OutputConfig(
        log_every=max(1, steps // 1000), preview_every=steps // 20, save_every=steps // 20, size=16, frames=2
    )
    config = replace(CONFIG, steps=steps, output=output, densify=replace(CONFIG.densify, interval=max(1, steps // 200)))
    watcher = Watcher(Run(folder), steps)
    with patch.object(time, "time", watcher.time):
        train(config, folder=folder, callback=watcher, handle_signals=False)
    half = len(watcher.held) // 2
    bad = []
    for index, (name, allowed) in enumerate((("bytes", GROWTH), ("open files", 0), ("threads", 0))):
        before, after = (max(held[index] for held in part) for part in (watcher.held[1:half], watcher.held[half:]))
        if after > before + allowed:
            bad.append(f"{name}: {before} at most in the first half, {after} in the last")
    records = [json.loads(line) for name in (METRICS, EVENTS) for line in (folder / name).read_text().splitlines()]
    seconds = [record["seconds"] for record in records if "seconds" in record]
    if seconds != sorted(seconds) or seconds[0] < 0:
        bad.append("the seconds of the log do not grow")
    if not Run(folder).is_done(steps=steps):
        bad.append("the run is not done")
    return watcher, bad


def main(args: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=200_000)
    flags = parser.parse_args(args)
    torch.set_num_threads(1)
    begun = time.process_time()
    watcher, bad = lived(flags.folder / "run", steps=flags.steps)
    held = {name: values for name, *values in zip(("bytes", "open files", "threads"), *watcher.held, strict=True)}
    parts = {
        name: [max(values[1 : len(values) // 2]), max(values[len(values) // 2 :])] for name, values in held.items()
    }
    seconds = round(time.process_time() - begun)
    print(json.dumps({"steps": flags.steps, "most in each half": parts, "seconds_cpu": seconds, "bad": bad}))


if __name__ == "__main__":
    main(sys.argv[1:])
