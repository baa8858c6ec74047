"""A training that is asked, through files, to pause, go on, save, stop and show itself."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from splatdistill.io import formats, ply
from splatdistill.scene.gaussians import FIELDS
from splatdistill.training.errors import Stopped
from splatdistill.training.remote_control import SNAPSHOT_EVERY, WATCHED, Control
from splatdistill.training.run_log import RunLog
from splatdistill.viewer.rundir import Item
from tests.io.scenes import knot
from tests.patience import PATIENCE
from tests.training.test_trainer import SMALL, run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def events(folder: Path) -> list[str]:
    return [json.loads(line)["kind"] for line in (folder / "events.jsonl").read_text().splitlines()]


@pytest.fixture
def control(folder: Path) -> Control:
    return Control(folder, RunLog(folder, SMALL, command=""))


def test_nothing_is_written_while_nobody_asks(folder: Path, control: Control) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert not any(control.obey(knot(10), step=step) for step in range(20))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_watched_training_shows_its_newest_splats_now_and_then(
    folder: Path, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    (folder / "control" / "watch").touch()
    control.obey(knot(10), step=3)
    control.wait()
    control.obey(knot(20), step=4)  # too soon
    control.wait()
    assert [p.name for p in (folder / "snapshots").iterdir()] == ["000003.splat"]
    now[0] += SNAPSHOT_EVERY
    control.obey(knot(20), step=5)
    control.wait()
    assert [p.name for p in (folder / "snapshots").iterdir()] == ["000005.splat"]
    assert len(formats.read(folder / "snapshots" / "000005.splat")) == 20
    now[0] += SNAPSHOT_EVERY
    old = time.time() - WATCHED - 1
    os.utime(folder / "control" / "watch", (old, old))
    control.obey(knot(30), step=6)  # nobody looks any more
    control.wait()
    assert [p.name for p in (folder / "snapshots").iterdir()] == ["000005.splat"]


def test_a_snapshot_is_of_its_step_though_training_goes_on(folder: Path, control: Control) -> None:
    splats, before = knot(1000), knot(1000)
    (folder / "control" / "watch").touch()
    control.obey(splats, step=3)
    for value in splats.tensors.values():
        value.zero_()
    control.wait()
    shown = (folder / "snapshots" / "000003.splat").read_bytes()
    assert shown == formats.encode(before, "splat")


def test_a_snapshot_that_fails_ends_nothing(folder: Path, control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "control" / "watch").touch()

    def full(*args: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        control.obey(knot(10), step=3)
        control.wait()
    assert events(folder) == ["warning"]
    monkeypatch.setattr(time, "monotonic", lambda: float("inf"))
    assert not control.obey(knot(10), step=4)
    control.wait()
    assert [p.name for p in (folder / "snapshots").iterdir()] == ["000004.splat"]


def test_saved_splats_are_those_of_the_step(folder: Path, control: Control) -> None:
    (folder / "control" / "save").touch()
    splats = knot(30)
    assert not control.obey(splats, step=7)
    saved = ply.read(folder / "splats.ply")
    assert all(torch.equal(saved.tensors[name], splats.tensors[name]) for name in FIELDS)
    assert not (folder / "control" / "save").exists() and events(folder) == ["save"]


def test_a_paused_training_waits(folder: Path, control: Control) -> None:
    (folder / "control" / "pause").touch()
    thread = threading.Thread(target=control.obey, args=(knot(5),), kwargs={"step": 1})
    thread.start()
    while "pause" not in events(folder):
        time.sleep(0.01)
    (folder / "control" / "save").touch()
    while "save" not in events(folder):
        time.sleep(0.01)
    assert thread.is_alive() and Item(folder).state()["status"] == "paused"
    (folder / "control" / "pause").unlink()
    thread.join(PATIENCE)
    assert not thread.is_alive() and events(folder) == ["pause", "save", "go on"]


def test_requests_of_earlier_times_are_dropped(folder: Path, control: Control) -> None:
    (folder / "control" / "stop").touch()
    (folder / "snapshots" / "000009.splat").touch()
    again = Control(folder, RunLog(folder, SMALL, command=""))
    assert not again.obey(knot(5), step=1)
    assert list((folder / "snapshots").iterdir()) == []


def test_a_stopped_training_goes_on_as_if_it_had_not_been(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole")
    obey = Control.obey

    def ask_at_17(self: Control, splats, *, step: int) -> bool:
        if step == 17:
            (self.folder / "control" / "stop").touch()
        return obey(self, splats, step=step)

    with monkeypatch.context() as patch:
        patch.setattr(Control, "obey", ask_at_17)
        with pytest.raises(Stopped):
            run(folder)
    assert events(folder)[-1] == "stop"
    splats = run(folder, resume=True)
    assert all(torch.equal(splats.tensors[name], whole.tensors[name]) for name in FIELDS)


def test_watching_changes_no_bit(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(SMALL, steps=12)
    alone = run(tmp_path / "alone", small)
    obey = Control.obey

    def watched(self: Control, splats, *, step: int) -> bool:
        (self.folder / "control" / "watch").touch()
        return obey(self, splats, step=step)

    monkeypatch.setattr(Control, "obey", watched)
    seen = run(folder, small)
    assert list((folder / "snapshots").glob("*.splat"))
    assert all(torch.equal(seen.tensors[name], alone.tensors[name]) for name in FIELDS)
