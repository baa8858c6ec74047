"""Ray that is not there, or not where it was said to be, is one sentence."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from splatdistill import cli


def needs_ray() -> None:
    """Skips without Ray, unless SPLATDISTILL_REQUIRE_RAY is 1."""
    if importlib.util.find_spec("ray") is None and os.environ.get("SPLATDISTILL_REQUIRE_RAY") != "1":
        pytest.skip("needs Ray, the extra `ray`")


def said(folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    (folder / "p.txt").write_text("a red ball\n")
    flags = ("--prompts", str(folder / "p.txt"), "--out", str(folder / "out"), *flags)
    assert cli.main(["batch", "--engine", "ray", "--prior", "analytic", "--device", "cpu", *flags]) == cli.USAGE
    return capsys.readouterr().err


def test_ray_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    sentence = 'splatdistill: engine: Ray is not installed; `pip install "splatdistill[ray]"` adds it.\n'
    assert said(tmp_path, capsys) == sentence
    assert not (tmp_path / "out").exists()


def test_ranks_of_torchrun_start_no_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_ray()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "torchrun and ray both spread the prompts" in said(tmp_path, capsys)
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs_ray()
    sentence = "splatdistill: ray_address: no Ray answers at 127.0.0.1:1: [Errno 111] Connection refused; if it asks"
    assert said(tmp_path, capsys, "--ray-address", "127.0.0.1:1").startswith(sentence)
