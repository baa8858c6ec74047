"""All runs of a batch have one dtype, whoever makes them: settled once in the folder and handed to the workers."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from splatdistill import ranks, train
from splatdistill.batch import worker as workers
from splatdistill.batch.ledger import Ledger
from splatdistill.batch.plan import Job
from splatdistill.commands import batch
from splatdistill.logs import Progress
from splatdistill.priors.analytic import AnalyticPrior, beach_ball
from splatdistill.priors.precision import Precision
from tests.batch.test_worker import CONFIG

FAST, SLOW = Precision("bf16", 10.0, 4.0, "one"), Precision("fp32", 10.0, 17.0, "another")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    (tmp_path / "ledger").mkdir()
    return Ledger(tmp_path)


def job(**settings: Any) -> Job:
    return Job("a", replace(CONFIG, **settings), "")


def test_the_first_to_ask_settles_it(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another rank, another host with the same folder, the same command later."""
    for found in (FAST, SLOW):
        monkeypatch.setattr(batch, "measured", lambda found=found: found)
        assert batch._precision([job(prior="embedded")], ledger) == FAST
    (ledger.folder / ".precision.json").write_text("{")  # cut
    assert batch._precision([job(prior="embedded")], ledger) == SLOW


def test_nothing_is_timed_where_no_run_asks(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "measured", lambda: pytest.fail("it was timed"))
    assert batch._precision([job(), job(prior="embedded", dtype="fp32")], ledger) is None
    assert list(ledger.folder.iterdir()) == []


@pytest.mark.parametrize(("asked", "expected"), [("auto", "bf16"), ("fp32", "fp32")])
def test_a_worker_takes_what_it_was_handed(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, asked: str, expected: str
) -> None:
    loaded = []

    def load(name: str, *, dtype: str, **_: Any) -> AnalyticPrior:
        loaded.append(dtype)
        return AnalyticPrior(beach_ball(image_size=16), image_size=16)

    monkeypatch.setattr(workers, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(workers.priors, "load", load)
    monkeypatch.setattr(train, "measured", lambda: pytest.fail("it was timed again"))
    made = workers.Worker(tmp_path, command="", precision=FAST).run(job(prior="a network", dtype=asked))
    assert made.error is None and loaded == [expected]
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert summary.get("precision") == (asdict(FAST) if asked == "auto" else None)


def test_bf16_needs_every_rank() -> None:
    class BesideASlowOne(ranks.Ranks):
        def any(self, flag: bool) -> bool:
            return True

    assert train._agree(FAST, ranks.ALONE) == FAST
    assert train._agree(FAST, BesideASlowOne(0, 2)) == replace(FAST, dtype="fp32")


def test_a_resumed_run_keeps_its_dtype(tmp_path: Path) -> None:
    loaded = []

    def load(name: str, *, dtype: str, **_: Any) -> AnalyticPrior:
        loaded.append(dtype)
        prior = AnalyticPrior(beach_ball(image_size=16), image_size=16)
        prior.dtype = dtype
        return prior

    for found, steps in ((FAST, 4), (SLOW, 8)):
        config = replace(CONFIG, prior="a network", steps=steps)
        with Progress(total=steps) as progress:
            train.train(config, folder=tmp_path / "a", progress=progress, resume=steps == 8, load=load, precision=found)
    assert loaded == ["bf16", "bf16"]
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["precision"] == asdict(FAST)
