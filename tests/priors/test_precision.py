"""dtype auto follows a timing, once for each model of processor; a cache that is no use is done without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from splatdistill.priors import precision
from splatdistill.priors.network import pick_dtype
from splatdistill.priors.precision import FASTER, Precision, has_fast_bf16, measured, time_both


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """The answers that timing gives, one after another; those that are left."""
    answers = [(10.0, 4.0), (10.0, 17.0)]
    monkeypatch.setattr(precision, "time_both", lambda: answers.pop(0))
    return answers


def test_bf16_must_be_faster_by_the_margin() -> None:
    for bf16_ms, dtype in ((10.0 / FASTER, "bf16"), (10.01 / FASTER, "fp32"), (16.0, "fp32"), (4.0, "bf16")):
        assert Precision.of(10.0, bf16_ms, processor="x").dtype == dtype


def test_timing_takes_no_random_number_and_leaves_the_threads() -> None:
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert all(0 < milliseconds < float("inf") for milliseconds in time_both())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_it_is_timed_once_for_a_processor_and_a_torch(
    own_cache: Path, timed: list[tuple[float, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_cache / "precision.json").unlink()
    assert measured() == measured() == Precision("bf16", 10.0, 4.0, precision.processor())
    assert has_fast_bf16() and pick_dtype("auto", device="cpu") == "bf16" and len(timed) == 1
    monkeypatch.setattr(precision, "processor", lambda: "another")
    assert measured() == measured() == Precision("fp32", 10.0, 17.0, "another")
    assert pick_dtype("auto", device="cpu") == "fp32" and pick_dtype("auto", device="cuda:0") == "bf16"
    assert pick_dtype("bf16", device="cpu") == "bf16" and pick_dtype("fp32", device="cuda") == "fp32"
    held = json.loads((own_cache / "precision.json").read_text())
    assert [list(fields.values()) for fields in held.values()] == [[10.0, 4.0], [10.0, 17.0]]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", '{"KEY": 3}', '{"KEY": {"fp32_ms": 1}}', '{"KEY": {"fp32_ms": "1", "bf16_ms": -2}}',
                '{"KEY": {"fp32_ms": NaN, "bf16_ms": 0}}', "\x00\xff"],
)  # fmt: skip
def test_a_damaged_cache_is_written_anew(own_cache: Path, timed: list[tuple[float, float]], content: str) -> None:
    key = f"{precision.processor()}, torch {torch.__version__}"
    (own_cache / "precision.json").write_text(content.replace("KEY", key), encoding="latin-1")
    assert measured() == measured()
    assert len(timed) == 1
    assert json.loads((own_cache / "precision.json").read_text())[key] == {"fp32_ms": 10.0, "bf16_ms": 4.0}


def test_without_a_cache_it_is_timed_each_time(
    tmp_path: Path, timed: list[tuple[float, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPLATDISTILL_CACHE", str(tmp_path / "file"))
    assert [measured().dtype, measured().dtype] == ["bf16", "fp32"]


def test_a_user_without_a_home_has_no_cache(timed: list[tuple[float, float]], monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("SPLATDISTILL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", home)
    assert measured().dtype == "bf16"
