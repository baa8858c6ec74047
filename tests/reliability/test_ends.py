"""Trainings that end at random moments: by a kill, by a signal that is waited for, by a second one, by a full disk."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from splatdistill import cli
from splatdistill.io.files import sweep
from splatdistill.training import checkpoint
from splatdistill.training import run as training
from splatdistill.training.errors import RunFailure
from splatdistill.training.remote_control import RemoteControl
from splatdistill.training.run_log import RunLog
from splatdistill.training.signals import SignalHandler
from splatdistill.utils.system import STOP_SIGNALS
from tests.io.scenes import knot
from tests.packaging.audit import ROOT
from tests.training.test_trainer import SMALL

KILLS = 4  # `make soak` has 50


def test_no_end_of_a_training_loses_anything(tmp_path: Path) -> None:
    """Every checkpoint loads, every signal saves its step first, and runs that go on end as undisturbed ones."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.ends", str(tmp_path), "--kills", str(KILLS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["bad"] == [] and result["kills"] == KILLS and result["runs"] >= 4


@pytest.mark.parametrize("name", STOP_SIGNALS)
def test_the_first_signal_is_noted_and_the_second_ends_the_process(name: signal.Signals) -> None:
    code = f"""
import os, sys
import signal
from splatdistill.training.signals import SignalHandler
signal.signal(signal.SIGINT, signal.default_int_handler)
with SignalHandler() as signals:
    os.kill(os.getpid(), {int(name)})
    print(signals.number, flush=True)
    os.kill(os.getpid(), {int(signal.SIGTERM)})
    print("still here")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == [str(int(name))]
    assert done.returncode == -signal.SIGTERM


def test_handlers_of_before_come_back_and_ignored_signals_stay_ignored() -> None:
    before = {name: signal.getsignal(name) for name in STOP_SIGNALS}
    try:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        with SignalHandler() as signals:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert signals.number == 0
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.number == signal.SIGTERM
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before[signal.SIGUSR1])
    assert {name: signal.getsignal(name) for name in STOP_SIGNALS} == before


def test_another_thread_leaves_signals_alone() -> None:
    seen = []

    def enter() -> None:
        with SignalHandler():
            seen.append({name: signal.getsignal(name) for name in STOP_SIGNALS})

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [{name: signal.getsignal(name) for name in STOP_SIGNALS}]


def test_a_paused_training_ends_for_a_signal(tmp_path: Path) -> None:
    signals = SignalHandler()
    signals.number = signal.SIGTERM
    control = RemoteControl(tmp_path / "run", RunLog(tmp_path / "run", SMALL, command=""), signals=signals)
    (tmp_path / "run" / "control" / "pause").touch()
    assert control.obey(knot(5), step=3)


def test_too_little_memory_is_one_line_of_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has 79 GiB.")

    monkeypatch.setattr(training, "train", fail)
    assert cli.main(["train", "--config", "smoke", "--prompt", "a ball", "--out", str(tmp_path)]) == cli.FAILED
    assert capsys.readouterr().err.startswith("splatdistill: memory: there is too little even for the smallest part")


def save(root: Path, step: int, *, size: int = 3) -> None:
    checkpoint.save(root, step=step, tensors={"a": torch.full((size,), float(step))}, meta={}, keep=1)


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 200 kB: what a full disk is to who writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(tmp_path: Path, small_files: None) -> None:
    root = tmp_path / "checkpoints"
    save(root, 10)
    with pytest.raises(RunFailure) as caught:
        save(root, 20, size=100_000)
    said = str(caught.value)
    assert said.startswith(f"checkpoint: step 20 could not be saved in {root} (") and "File too large" in said
    assert said.endswith(
        f"; it needs {checkpoint.MARGIN + 400_000} bytes there; make room and go on with --resume {tmp_path}, "
        "where the last checkpoint is untouched."
    )
    assert checkpoint.load(root)[1]["step"] == 10
    assert {path.name for path in root.iterdir()} == {"latest", "step_000010"}


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "checkpoints"
    save(root, 10)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1_000_000}))
    monkeypatch.setattr(checkpoint, "save_file", None)
    with pytest.raises(RunFailure, match=rf"the disk is full\); it needs {checkpoint.MARGIN + 12} bytes"):
        save(root, 20)
    assert checkpoint.load(root)[1]["step"] == 10


def test_what_a_killed_process_left_goes_at_the_next_start(tmp_path: Path) -> None:
    run = tmp_path / "run"
    kept = {RunLog(run, SMALL, command="").folder / name for name in ("config.yaml", "checkpoints", "preview")}
    (run / "checkpoints" / ".step_000010.123.tmp").mkdir()
    for name in ("checkpoints/.step_000010.123.tmp/.tmpAB12", "checkpoints/.latest.123.tmp", ".splats.123.tmp.ply"):
        (run / name).touch()
    (run / "snapshots" / ".000005.splat.123.tmp").touch()
    (run / ".mine").touch()
    RunLog(run, SMALL, command="")
    assert [path.name for path in run.rglob(".*")] == [".mine"] and all(path.exists() for path in kept)
    (tmp_path / ".other.123.tmp").mkdir()
    RunLog(tmp_path / "other", SMALL, command="")
    assert not (tmp_path / ".other.123.tmp").exists()
    sweep(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
