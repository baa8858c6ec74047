"""One worker: weights are loaded once, done runs stay as they are, and what goes wrong is reported and not raised."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from splatdistill import priors
from splatdistill.batch import worker as workers
from splatdistill.batch.ledger import Ledger
from splatdistill.batch.plan import Job
from splatdistill.batch.worker import Teachers, Worker
from splatdistill.config import settings
from splatdistill.config.schema import SplatsConfig, TrainConfig
from splatdistill.guidance.methods.sds import SDSConfig
from splatdistill.guidance.methods.vsd import VSDConfig
from splatdistill.training.errors import RunFailure, Stopped
from splatdistill.training.run_log import NoLog
from splatdistill.training.trainer import Trainer
from tests.training.test_trainer import SMALL, unet_prior

CONFIG = replace(SMALL, steps=4, size=16, splats=SplatsConfig(num_init=30))
CPU = torch.device("cpu")


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setattr(workers, "keep_freed_memory", lambda: None)  # it would hold for all tests of this process
    (tmp_path / "ledger").mkdir()
    return Worker(tmp_path, command="splatdistill batch")


def job(run: str, config: TrainConfig = CONFIG) -> Job:
    return Job(run, config, "")


def test_weights_are_loaded_once_and_dropped_when_others_are_wanted(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    class Weights:
        dtype, network_engine = "bf16", "torch"

    def load(name: str, **_: Any) -> Any:
        loaded.append(name)
        return Weights()

    monkeypatch.setattr(priors, "load", load)
    teachers = Teachers(worker.ledger)
    first = replace(CONFIG, prior="a", stages=({"start": 0.5, "prior": "b"},))
    for config, dtype in ((first, "auto"), (first, "bf16"), (replace(CONFIG, prior="b"), "auto"), (first, "auto")):
        teachers.keep({stage.prior for _, stage in settings.stages(config)})
        for name in {config.prior, "b"}:
            teachers(name, device=CPU, dtype=dtype, engine="torch" if dtype == "bf16" else "auto", max_memory=0.0)
    assert sorted(loaded) == ["a", "a", "b"]  # a was dropped for the third run
    asked = {"dtype": "auto", "engine": "auto"}
    for number, other in enumerate(({"dtype": "fp32"}, {"engine": "onnx"}, {"encoder": "a tiny one"}), 4):
        teachers("b", device=CPU, max_memory=0.0, **(asked | other))
        assert loaded[-1] == "b" and len(loaded) == number


def test_what_is_done_is_not_made_again(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker.run(job("a")).error is None
    before = {path: path.stat().st_mtime_ns for path in (worker.out / "a").rglob("*")}
    monkeypatch.setattr(workers, "train", lambda *_, **__: pytest.fail("it was made again"))
    (worker.ledger.folder / "a.json").unlink()  # as when the end came before the record of it
    assert worker.run(job("a")).error is None
    assert worker.ledger.read("a")["state"] == "done"
    assert {path: path.stat().st_mtime_ns for path in (worker.out / "a").rglob("*")} == before


@pytest.mark.parametrize(
    ("error", "sentence", "again"),
    [
        (ValueError("steps is\nwrong."), "steps is wrong.", False),
        (Stopped(Path(), step=1, signal=0), "It was asked to stop; the same command goes on with it.", False),
        (Stopped(Path(), step=1, signal=15), "It was asked to stop; the same command goes on with it.", True),
        (RuntimeError("out of memory"), "RuntimeError: out of memory", True),
        (RunFailure("disk: it is full."), "disk: it is full.", True),
    ],
)
def test_what_goes_wrong_is_told(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, error: BaseException, sentence: str, again: bool
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(workers, "train", fail)
    outcome = worker.run(job("a"))
    assert (outcome.error, outcome.again) == (sentence, again)
    record = worker.ledger.read("a")
    assert (record["state"], record["tries"]) == ("waiting" if isinstance(error, Stopped) else "running", 1)
    assert ("traceback" in record) == isinstance(error, RuntimeError)


def test_nobody_works_on_a_run_that_another_has(worker: Worker) -> None:
    """Even one that is not of this command; the second finds it done."""
    begun: list[float] = []
    with Ledger(worker.out).claim("a"):
        thread = threading.Thread(target=lambda: begun.append(worker.run(job("a")).seconds))
        thread.start()
        time.sleep(0.2)
        assert not begun and not (worker.out / "a").exists()
    thread.join()
    assert begun


def test_a_machine_that_does_not_see_the_folder_says_so(worker: Worker) -> None:
    worker.ledger.folder.rmdir()
    assert "--out must be a folder of all machines" in (worker.run(job("a")).error or "")


def test_a_prior_that_learned_for_one_run_is_as_new_for_the_next() -> None:
    """VSD's second score puts adapters on the network that the runs of a worker share."""

    def means(prior: Any, method: Any) -> torch.Tensor:
        config = replace(CONFIG, method=method, steps=2, vsd=VSDConfig(lora_rank=2, lora_lr=1e-2), sds=SDSConfig())
        trainer = Trainer(config, prior=prior, device=CPU)
        for _ in range(config.steps):
            trainer.advance(NoLog())
        return trainer.splats.means

    def hooks(prior: Any) -> int:
        return len(prior.time_embedding._forward_hooks)

    new: Callable[[], Any] = unet_prior
    once, plain, shared = means(new(), "vsd"), means(new(), "sds"), new()
    for _ in range(2):
        assert torch.equal(means(shared, "vsd"), once)
        assert torch.equal(means(shared, "sds"), plain)
        assert hooks(shared) == 1
    names = [name for name, _ in new().network.named_modules()]
    shared.adapters.remove()
    assert hooks(shared) == 0 and [name for name, _ in shared.network.named_modules()] == names
