"""Hands jobs to workers until all are done or have failed too often."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from splatdistill.batch.ledger import FAILED, WAITING, Ledger
from splatdistill.batch.plan import Job
from splatdistill.batch.progress_board import ProgressBoard

TICK = 0.5  # s between looks at the progress
SHUTDOWN_TIMEOUT_S = 30.0  # s that workers have to save their runs when the command is stopped


@dataclass(frozen=True)
class Outcome:
    """How a run ended: done after so many seconds of training, or with an error.

    error: one sentence; again: whether another try may help.
    """

    seconds: float = 0.0
    error: str | None = None
    again: bool = False


class WorkerPool(Protocol):
    """Workers, each with one job at most."""

    @property
    def idle(self) -> int:
        """Workers that a job can be given to now."""
        ...

    @property
    def busy(self) -> int: ...

    def start(self, job: Job) -> None:
        """Gives a job to an idle worker."""
        ...

    def wait(self, seconds: float) -> list[tuple[Job, Outcome]]:
        """What ended, as soon as something did, or nothing after so many seconds. A worker that died, or failed in a
        way that it may not have outlived whole, is replaced.
        """
        ...


def ask_to_stop(out: Path, job: Job) -> None:
    """Its worker saves a checkpoint and ends the run, if the training has begun."""
    with suppress(OSError):
        (out / job.run / "control" / "stop").touch()


def work(
    jobs: Sequence[Job], pool: WorkerPool, *, ledger: Ledger, retries: int, progress: ProgressBoard
) -> dict[str, str]:
    """Makes all the runs; returns what failed for good: the name of the run, and why."""
    waiting, tries, failed = deque(jobs), Counter[str](), dict[str, str]()
    while waiting or pool.busy:
        while waiting and pool.idle:
            job = waiting.popleft()
            tries[job.run] += 1
            progress.started(job)
            pool.start(job)
        for job, outcome in pool.wait(TICK):
            if outcome.error is None:
                progress.done(job, seconds=outcome.seconds)
                continue
            again = outcome.again and tries[job.run] <= retries
            ledger.update(job.run, prompt=job.config.prompt, state=WAITING if again else FAILED, error=outcome.error)
            progress.failed(job, error=outcome.error, again=again)
            if again:
                waiting.append(job)
            else:
                failed[job.run] = outcome.error
        progress.draw()
    return failed
