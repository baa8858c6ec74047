"""Workers of this machine end when they are told to, wherever they are."""

from __future__ import annotations

import signal
from pathlib import Path

from splatdistill.batch.local import LocalPool
from splatdistill.batch.plan import Job
from splatdistill.config.schema import TrainConfig


def test_a_worker_that_still_starts_just_ends(tmp_path: Path) -> None:
    """By the signal, and not by a kill once nobody waits for it any more."""
    (tmp_path / "ledger").mkdir()
    with LocalPool(1, out=tmp_path, command="") as pool:
        pool.start(Job("run", TrainConfig(prompt="a red ball", prior="analytic"), "here"))
        (worker,) = pool._workers
        assert worker is not None
    assert worker.process.exitcode == -signal.SIGTERM
    assert not (tmp_path / "run").exists()
