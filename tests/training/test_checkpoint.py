"""Checkpoints are whole or absent, and only the newest are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from splatdistill import __version__
from splatdistill.training import checkpoint
from splatdistill.training.errors import RunFailure


def save(root: Path, step: int, *, keep: int = 2) -> None:
    checkpoint.save(root, step=step, tensors={"a": torch.full((3,), float(step))}, meta={"note": step}, keep=keep)


def test_round_trip_and_retention(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    for step in (10, 20, 30):
        save(root, step)
    tensors, meta, notes = checkpoint.load(root)
    assert meta == {"step": 30, "version": __version__, "note": 30} and tensors["a"].eq(30).all() and not notes
    assert sorted(p.name for p in root.iterdir()) == ["latest", "step_000020", "step_000030"]
    save(root, 40, keep=1)
    assert sorted(p.name for p in root.iterdir()) == ["latest", "step_000040"]


def test_a_failed_save_leaves_the_last_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "checkpoints"
    save(root, 10)

    def broken(*args: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", broken)
        with pytest.raises(RunFailure, match="disk full"):
            save(root, 20, keep=1)
    assert checkpoint.load(root)[1]["step"] == 10 and {p.name for p in root.iterdir()} == {"latest", "step_000010"}
    save(root, 20)  # what the failed save left does not stand in the way
    assert checkpoint.load(root)[1]["step"] == 20


def test_saving_the_latest_step_again_never_removes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 10)
    monkeypatch.setattr(Path, "rename", None)  # nothing is written a second time
    save(tmp_path, 10)
    assert checkpoint.load(tmp_path)[1]["step"] == 10


def test_missing_and_damaged_checkpoints_are_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint yet"):
        checkpoint.load(tmp_path / "checkpoints")
    save(tmp_path / "checkpoints", 10)
    state = tmp_path / "checkpoints" / "step_000010" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-4])
    with pytest.raises(ValueError, match=f"is whole; .*{state} is damaged"):
        checkpoint.load(tmp_path / "checkpoints")
    (tmp_path / "checkpoints" / "latest").write_text("../../elsewhere")
    with pytest.raises(ValueError, match=f"is whole; .*{state} is damaged"):
        checkpoint.load(tmp_path / "checkpoints")


def test_the_old_one_goes_once_the_new_one_has_been_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 10, keep=1)
    for tensors in ({}, {"a": torch.full((3,), 21.0)}, {"a": torch.full((2,), 20.0)}):  # none of them is what was saved
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "load_file", lambda path, tensors=tensors: tensors)
            with pytest.raises(RunFailure, match="what was written is not what is read back"):
                save(tmp_path, 20, keep=1)
        assert checkpoint.load(tmp_path)[1]["step"] == 10
    values = (
        torch.tensor([float("nan"), -0.0]),
        torch.zeros((), dtype=torch.int64),
        torch.zeros(0, 3),
        torch.ones(2) > 0,
    )
    checkpoint.save(tmp_path, step=20, tensors=dict(zip("abcd", values, strict=True)), meta={}, keep=1)
    assert checkpoint.load(tmp_path)[0].keys() == set("abcd")


def test_whoever_may_read_the_run_may_read_its_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 10)
    (tmp_path / "plain").touch()
    modes = {path.stat().st_mode for path in (tmp_path / "step_000010").iterdir()}
    assert modes == {(tmp_path / "plain").stat().st_mode}
