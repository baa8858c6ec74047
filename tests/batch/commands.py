"""Batches of small runs with the analytic prior: in this process, and as commands of their own that can be killed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from splatdistill import cli
from splatdistill.batch import worker
from splatdistill.batch.dispatch import Outcome
from splatdistill.batch.plan import Job
from splatdistill.commands import batch
from tests.packaging.audit import ROOT
from tests.patience import PATIENCE

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray")
SMALL = {
    "prior": "analytic", "device": "cpu", "steps": 12, "size": 16, "splats": {"num_init": 60},
    "densify": {"interval": 4}, "output": {"log_every": 4, "save_every": 4, "size": 16, "frames": 2},
}  # fmt: skip
LONG = 160  # steps: enough to be killed on the way


def write_prompts(path: Path, *, count: int) -> Path:
    """`count` prompts, of which the first two take longest and the last two are twice the same. The first ones of a
    longer file are those of a shorter one.
    """
    prompts = [f"a {COLOURS[min(i, len(COLOURS) - 1)]} ball" for i in range(count)]
    entries = [{"prompt": prompt, "steps": LONG if i < 2 else SMALL["steps"]} for i, prompt in enumerate(prompts)]
    path.write_text(yaml.safe_dump({"defaults": SMALL, "prompts": entries}))
    return path


class Here:
    """One worker, in this process."""

    def __init__(self, out: Path) -> None:
        self._worker = worker.Worker(out, command="")
        self._job: Job | None = None

    @property
    def busy(self) -> int:
        return int(self._job is not None)

    @property
    def idle(self) -> int:
        return 1 - self.busy

    def start(self, job: Job) -> None:
        self._job = job

    def wait(self, seconds: float) -> list[tuple[Job, Outcome]]:
        assert self._job is not None
        job, self._job = self._job, None
        return [(job, self._worker.run(job))]


def make_here(prompts: Path, out: Path, **variables: str) -> int:
    """The exit code of the command, carried out by this process alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "keep_freed_memory", lambda: None)  # it would hold for all tests of this process
        patch.setattr(batch, "_worker_pool", lambda flags, todo, rank, out, *_: nullcontext(Here(out)))
        for name, value in variables.items():
            patch.setenv(name, value)
        return cli.main(["batch", "--prompts", str(prompts), "--out", str(out)])


def start(prompts: Path, out: Path, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "splatdistill", "batch", "--prompts", str(prompts), "--out", str(out), *flags]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(command: subprocess.Popen[str]) -> None:
    out, err = command.communicate(timeout=PATIENCE)
    assert command.returncode == 0, out + err


def records(out: Path) -> dict[str, dict[str, Any]]:
    """The ledger, by run."""
    return {path.stem: json.loads(path.read_text()) for path in (out / "ledger").glob("[!.]*.json")}


def hashes(out: Path) -> dict[str, str]:
    """SHA-256 of every asset, as the files have it and as the ledger says, by run."""
    found = {run: hashlib.sha256((out / run / "splats.ply").read_bytes()).hexdigest() for run in records(out)}
    assert found == {run: record["sha256"] for run, record in records(out).items()}
    return found


def events(out: Path, run: str) -> list[str]:
    return [json.loads(line)["kind"] for line in (out / run / "events.jsonl").read_text().splitlines()]


def wait_for(what: Callable[[], Any], command: subprocess.Popen[str]) -> Any:
    """The first answer that is not empty; fails when the command ends before."""
    while not (answer := what()):
        assert command.poll() is None, command.communicate()
        time.sleep(0.02)
    return answer


def half_way(out: Path) -> Sequence[dict[str, Any]]:
    """The records of runs that are being made and have a checkpoint."""
    if not out.exists():
        return []
    return [
        {**record, "run": run}
        for run, record in records(out).items()
        if record["state"] == "running" and (out / run / "checkpoints" / "latest").exists()
    ]
