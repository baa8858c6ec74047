"""All runs of a batch have one dtype and one engine, whoever makes them: settled once in the folder. So have all ranks
of one run.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from splatdistill.batch import worker as workers
from splatdistill.batch.ledger import Ledger
from splatdistill.batch.plan import Job
from splatdistill.commands import batch
from splatdistill.priors.analytic import AnalyticPrior, beach_ball
from splatdistill.priors.precision import Precision
from splatdistill.training import run as training
from splatdistill.utils import distributed
from splatdistill.utils.progress import Progress
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
    monkeypatch.setattr(training, "measured", lambda: pytest.fail("it was timed again"))
    made = workers.Worker(tmp_path, command="", precision=FAST).run(job(prior="a network", dtype=asked))
    assert made.error is None and loaded == [expected]
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert summary.get("precision") == (asdict(FAST) if asked == "auto" else None)


def test_bf16_needs_every_rank() -> None:
    class BesideASlowOne(distributed.Ranks):
        def any(self, flag: bool) -> bool:
            return True

    assert training._agree(FAST, distributed.ALONE) == FAST
    assert training._agree(FAST, BesideASlowOne(0, 2)) == replace(FAST, dtype="fp32")


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
            training.train(
                config, folder=tmp_path / "a", progress=progress, resume=steps == 8, load=load, precision=found
            )
    assert loaded == ["bf16", "bf16"]
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["precision"] == asdict(FAST)


class Made:
    """A prior that has said what computes it."""

    dtype = "fp32"

    def __init__(self, engine: str) -> None:
        self.network_engine = engine


def host(monkeypatch: pytest.MonkeyPatch, ledger: Ledger, *, auto: str) -> tuple[Any, list[str]]:
    """Teachers of a worker on a host where engine auto comes to `auto`, and which engines they have loaded."""
    loaded = []

    def load(name: str, *, engine: str, **_: Any) -> Made:
        loaded.append(engine)
        return Made(auto if engine == "auto" else engine)

    def ask(engine: str) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(workers.priors, "load", load)
            patch.setattr(workers.engines, "installed", lambda: auto == "onnx")
            return teachers(
                "embedded", device=torch.device("cpu"), dtype="fp32", engine=engine, max_memory=0.0
            ).network_engine

    teachers: Any = workers.Teachers(ledger)
    return ask, loaded


def test_the_first_worker_settles_the_engine(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    (first, first_loaded), (other, other_loaded) = (host(monkeypatch, ledger, auto=x) for x in ("torch", "onnx"))
    assert (first("auto"), other("auto"), other("auto")) == ("torch", "torch", "torch")
    assert (first_loaded, other_loaded) == (["auto"], ["torch"])  # nothing is loaded twice
    assert other("onnx") == "onnx"  # one that is asked for by name is nobody else's to settle


def test_a_worker_that_lacks_the_engine_of_the_others_says_so(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    (first, _), (other, _) = (host(monkeypatch, ledger, auto=x) for x in ("onnx", "torch"))
    assert first("auto") == "onnx"
    with pytest.raises(
        ValueError, match=r"^network_engine: onnxruntime is not installed on .*, and other runs of this"
    ):
        other("auto")


@pytest.mark.parametrize(
    ("auto", "others_torch", "loads"),
    [("onnx", False, ["auto"]), ("onnx", True, ["auto", "torch"]), ("torch", True, ["auto"])],
)
def test_ranks_have_one_engine(auto: str, others_torch: bool, loads: list[str]) -> None:
    class Beside(distributed.Ranks):
        def any(self, flag: bool) -> bool:
            return flag or others_torch

    loaded = []

    def load(*, engine: str) -> Any:
        loaded.append(engine)
        return Made(auto if engine == "auto" else engine)

    assert training._load_alike(load, "auto", Beside(0, 2)).network_engine == loads[-1].replace("auto", auto)
    assert loaded == loads
    assert training._load_alike(load, "onnx", Beside(0, 2)).network_engine == "onnx"  # asked for, or of a checkpoint
