"""One process writes into a run folder; a second one is told which."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from splatdistill import cli
from splatdistill.io.lock import Claim
from tests.packaging.audit import ROOT
from tests.reliability.flips import TINY

TRIES = 3  # one of each kind; `make soak` has 100


def test_two_processes_at_once_have_one_writer(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.reliability.writers", str(tmp_path), "--tries", str(TRIES)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"tries": TRIES, "bad": []}


def test_a_folder_that_is_written_to_is_refused_before_anything_loads(tmp_path: Path) -> None:
    """By a flag-for-flag equal command, and by --resume; both leave the folder as it was."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("prompt: a red ball\n")
    with Claim(run):
        before = {path: path.read_bytes() for path in run.iterdir()}
        for words in ([*TINY, "--out", str(tmp_path), "--name", "run"], ["--resume", str(run)]):
            done = subprocess.run(
                [sys.executable, "-m", "splatdistill", "train", *words], cwd=ROOT, capture_output=True, text=True
            )
            assert done.returncode == cli.USAGE and done.stderr.count("\n") == 1
            assert done.stderr.startswith(f"splatdistill: {run} is being written by process {os.getpid()} ")
        assert before == {path: path.read_bytes() for path in run.iterdir()}
