"""Checkpoints are whole or absent, and only the newest are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from splatdistill import checkpoint


def save(root: Path, step: int, *, keep: int = 2) -> None:
    checkpoint.save(root, step=step, tensors={"a": torch.full((3,), float(step))}, meta={"note": step}, keep=keep)


def test_round_trip_and_retention(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    for step in (10, 20, 30):
        save(root, step)
    tensors, meta = checkpoint.load(root)
    assert meta == {"step": 30, "note": 30} and tensors["a"].eq(30).all()
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
        with pytest.raises(OSError, match="disk full"):
            save(root, 20)
    assert checkpoint.load(root)[1]["step"] == 10
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
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoint.load(tmp_path / "checkpoints")
