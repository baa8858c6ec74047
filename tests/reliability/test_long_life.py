"""Runs that last: flat in memory and handles, whatever the clock does, and through the sleep of a laptop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from splatdistill import cli
from splatdistill.training.remote_control import WATCHED, RemoteControl
from splatdistill.training.run_log import MemoryLog
from tests.io.scenes import knot
from tests.packaging.audit import ROOT
from tests.patience import wait_for
from tests.reliability.flips import TINY
from tests.reliability.long_life import lived

STEPS = 2000  # `make soak` has 200,000


def test_memory_and_handles_stay_and_seconds_grow(tmp_path: Path) -> None:
    """In the first steps torch allocates what it keeps, so a short run says less of memory than of handles."""
    watcher, bad = lived(tmp_path / "run", steps=STEPS)
    assert not [line for line in bad if not line.startswith("bytes")], bad
    assert len(watcher.held) >= 100 and watcher.held[0][0] > 0


@pytest.mark.parametrize("shift", [-3600.0, 3600.0])
def test_a_look_of_another_hour_is_none(tmp_path: Path, shift: float) -> None:
    """A clock that was set back would leave the last look of a closed page in the future."""
    control = RemoteControl(tmp_path, MemoryLog())
    watch = tmp_path / "control" / "watch"
    watch.touch()
    os.utime(watch, (time.time() + shift, time.time() + shift))
    control.obey(knot(5), step=1)
    control.wait()
    assert not list((tmp_path / "snapshots").iterdir())
    os.utime(watch, (time.time() - WATCHED / 2, time.time() - WATCHED / 2))
    control.obey(knot(5), step=1)
    control.wait()
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["000001.splat"]


def test_a_laptop_that_slept_and_few_files(tmp_path: Path) -> None:
    """Stopped in the middle and continued, with 48 files that may be open: the object of a run that nobody stopped."""
    words = [*TINY, "--steps", "400", "--output.save-every", "100", "--out", str(tmp_path)]
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48)); from splatdistill import cli"
    start = [sys.executable, "-c", f"{limited}; sys.exit(cli.main(sys.argv[1:]))", "train", *words, "--name", "slept"]
    process = subprocess.Popen(start, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "slept" / "metrics.jsonl"
    wait_for(lambda: process.poll() is not None or (log.exists() and log.stat().st_size > 0), what="the first steps")
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    process.send_signal(signal.SIGCONT)
    said = process.communicate()[1]
    assert process.returncode == cli.DONE, said
    assert cli.main(["train", *words, "--name", "awake"]) == cli.DONE
    assert (tmp_path / "slept" / "splats.ply").read_bytes() == (tmp_path / "awake" / "splats.ply").read_bytes()
