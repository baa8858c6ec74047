"""Ctrl-C in the terminal of `splatdistill view` while one run trains and another waits. docs/viewer.md promises that
the server and the training end, and that the training saves a checkpoint first.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from splatdistill.io.runs import EVENTS, Run
from splatdistill.training import checkpoint
from tests.packaging.audit import ROOT
from tests.patience import PATIENCE, wait_for
from tests.viewer.serving import Served

VALUES = {
    "prompt": "a red ball", "method": "sds", "prior": "embedded", "seed": "0", "steps": "100000", "size": "32",
    "splats.num_init": "50", "output.log_every": "1",
}  # fmt: skip


@pytest.mark.parametrize("when", ["before it has a folder", "while it trains"])
def test_ctrl_c_ends_the_run_that_trains_and_starts_no_other(tmp_path: Path, when: str) -> None:
    home = tmp_path / "runs"
    home.mkdir()
    command = [sys.executable, "-m", "splatdistill", "view", str(home), "--port", "0", "--no-browser"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    ) as process:
        assert process.stdout and process.stderr
        served = Served(int(process.stdout.readline().strip().rstrip("/").rpartition(":")[2]), "", None)  # type: ignore[arg-type]
        served.token = served.json("/api/runs")["token"]
        for seed in ("0", "1"):
            assert served.post("/api/starts", {"values": VALUES | {"seed": seed}})[0] == 200
        first = home / served.json("/api/starts")["starts"][0]["name"]
        if when == "while it trains":
            wait_for(lambda: Run(first).last_step() >= 2, what="the first steps")
        else:
            wait_for(lambda: served.json("/api/starts")["starts"][0]["status"] == "running", what="the start")
        assert [start["status"] for start in served.json("/api/starts")["starts"]] == ["running", "waiting"]
        os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to all that stand in the foreground
        assert (process.wait(PATIENCE), process.stderr.read()) == (0, "")
    assert not [words for words in processes() if str(home) in words], "the training goes on"
    if when == "while it trains":
        assert [path.name for path in home.iterdir()] == [first.name], "the run that waited has begun"
        last = next(iter(Run(first).last_records(EVENTS)))
        saved = checkpoint.load(first / "checkpoints")  # whole: it holds the sums of its files
        assert last["kind"] == "stop" and saved.meta["step"] == last["step"] >= 2
        assert not [path for path in first.rglob("*") if path.name.startswith(".") or "tmp" in path.suffix]
    else:
        assert list(home.iterdir()) == [], "a folder is half made"


def processes() -> list[str]:
    """The command lines of this machine's processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it has ended
            pass
    return found
