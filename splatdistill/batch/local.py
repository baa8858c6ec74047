"""Workers on this machine: a process each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from splatdistill.batch.dispatch import SHUTDOWN_TIMEOUT_S, Outcome
from splatdistill.batch.plan import Job
from splatdistill.batch.rank import alone
from splatdistill.io.inside import open_inside
from splatdistill.priors.precision import Precision
from splatdistill.utils.system import leave_session

if TYPE_CHECKING:
    from types import TracebackType


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    job: Job | None = None


# Not concurrent.futures nor loky: there one worker that dies breaks the pool for all, and none has a GPU of its own.
class LocalPool:
    """`count` processes, which start when there is a job for them and end with this one, whatever ends it.

    gpus: entries of CUDA_VISIBLE_DEVICES that they take in turn, empty to leave it alone. What they print goes to
    OUT/ledger/worker-LABEL-N.log. precision: as for `Worker`.
    """

    def __init__(
        self,
        count: int,
        *,
        out: Path,
        command: str,
        gpus: Sequence[str] = (),
        label: str = "0",
        precision: Precision | None = None,
    ) -> None:
        self._workers: list[_Worker | None] = [None] * count
        self._out, self._command, self._gpus, self._label = out, command, gpus, label
        self._precision = precision

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for worker in filter(None, self._workers):
            worker.pipe.close()
            worker.process.terminate()  # one that trains saves its step first, and one that still starts just ends
        until = time.monotonic() + SHUTDOWN_TIMEOUT_S
        for worker in filter(None, self._workers):
            worker.process.join(max(0.0, until - time.monotonic()))
            worker.process.kill()
            worker.process.join()

    @property
    def idle(self) -> int:
        return len(self._workers) - self.busy

    @property
    def busy(self) -> int:
        return sum(worker is not None and worker.job is not None for worker in self._workers)

    def start(self, job: Job) -> None:
        """Gives a job to a worker that has none, the ones that are running already first."""
        free = [i for i, worker in enumerate(self._workers) if worker is None or worker.job is None]
        index = min(free, key=lambda i: self._workers[i] is None)
        worker = self._workers[index]
        if worker is not None and not worker.process.is_alive():
            worker = self._retire(index)
        if worker is None:
            worker = self._workers[index] = self._spawn(index)
        worker.job = job
        with suppress(OSError):  # one that dies right now is found out by `wait`
            worker.pipe.send(job)

    def wait(self, seconds: float) -> list[tuple[Job, Outcome]]:
        ended = []
        ready = wait([worker.pipe for worker in self._workers if worker is not None and worker.job], seconds)
        for index, worker in enumerate(self._workers):
            if worker is None or worker.job is None or worker.pipe not in ready:
                continue
            job, worker.job = worker.job, None
            try:
                outcome = worker.pipe.recv()
            except (EOFError, OSError):
                worker.process.join()
                log = self._log(index)
                outcome = Outcome(error=f"Its worker {_cause(worker.process.exitcode)}; see {log}.", again=True)
            if outcome.again:
                self._retire(index)
            ended.append((job, outcome))
        return ended

    def _retire(self, index: int) -> None:
        worker, self._workers[index] = self._workers[index], None
        if worker is not None:
            worker.pipe.close()  # it ends by itself then, or with this process

    def _spawn(self, index: int) -> _Worker:
        context = multiprocessing.get_context("spawn")  # a fork would share the state of OpenMP and CUDA
        ours, theirs = context.Pipe()
        gpu = self._gpus[index % len(self._gpus)] if self._gpus else None
        args = (theirs, self._out, self._command, self._precision, self._log(index), gpu)
        process = context.Process(target=_serve, args=args, daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _log(self, index: int) -> Path:
        return self._out / "ledger" / f"worker-{self._label}-{index}.log"


def _serve(pipe: Connection, out: Path, command: str, precision: Precision | None, log: Path, gpu: str | None) -> None:
    """A worker: makes the runs that come through the pipe until it is closed."""
    leave_session()  # Ctrl-C is for the command, which passes it on
    threading.Thread(target=_end_with_parent, daemon=True).start()
    handle = _opened(log)
    for stream in (1, 2):
        os.dup2(handle, stream)
    alone(os.environ)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    from splatdistill.batch.worker import Worker  # torch loads here, and finds the GPU that it was given

    worker = Worker(out, command=command, precision=precision)
    with suppress(EOFError, OSError):
        while True:
            pipe.send(worker.run(pipe.recv()))


def _opened(log: Path) -> int:
    """A log to add to; where something strange has its name, what would stand there is lost."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        return os.dup(open_inside(log.parent, log.name, flags=flags).fileno())
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
