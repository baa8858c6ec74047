"""How far a batch is, for the person who waits: a table where stderr is a terminal, else a line when a run ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from splatdistill.batch.plan import Job
from splatdistill.io.runs import Run

NARROW = 48  # letters of a prompt in the table
FAILURES = 5  # rows


class ProgressBoard:
    """The state of each of the `jobs` that are left of `total`. Use it as a context manager.

    Steps are read from the run folders in `out`, whoever works on them.
    """

    def __init__(self, jobs: Sequence[Job], *, total: int, out: Path, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._out, self._total, self._finished = out, total, total - len(jobs)
        self._left = {job.run: job for job in jobs}
        self._running: dict[str, Job] = {}
        self._failed: dict[str, str] = {}  # prompt and error
        self._steps = {job.run: Run(out / job.run).last_step() for job in jobs}
        self._work = self._steps_left()  # of this command, done or not
        self._begun = time.monotonic()
        self._live: Any = None

    def __enter__(self) -> ProgressBoard:
        if self._stream.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=self._stream), auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self.draw()
            self._live.stop()

    def started(self, job: Job) -> None:
        self._running[job.run] = job

    def done(self, job: Job, *, seconds: float) -> None:
        del self._left[job.run], self._running[job.run]
        self._finished += 1
        self._note(job, f"done, {_time(seconds)}")

    def failed(self, job: Job, *, error: str, again: bool) -> None:
        del self._running[job.run]
        if not again:
            del self._left[job.run]
            self._work -= job.config.steps - self._steps[job.run]
            self._failed[job.config.prompt] = error
        self._note(job, f"{'to be tried again' if again else 'failed'}: {error}")

    def draw(self) -> None:
        """Looks at the steps, and draws the table anew."""
        for run in self._running:
            self._steps[run] = Run(self._out / run).last_step()
        if self._live is not None:
            self._live.update(self._table(), refresh=True)

    def summary(self) -> str:
        """All in one line."""
        parts = [f"{self._finished} of {self._total} done"]
        parts += [f"{len(self._failed)} failed"] if self._failed else []
        parts += [f"{waiting} waiting"] if (waiting := len(self._left) - len(self._running)) else []
        left = self._steps_left()
        if self._work > left > 0:
            rate = (self._work - left) / (time.monotonic() - self._begun)
            parts.append(f"{_time(left / rate)} left")
        return ", ".join(parts)

    def _steps_left(self) -> int:
        return sum(job.config.steps - self._steps[run] for run, job in self._left.items())

    def _note(self, job: Job, text: str) -> None:
        if self._live is None:
            line = f"{_short(job.config.prompt)} ({job.run}): {text}; {self.summary()}"
            print(line, file=self._stream, flush=True)

    def _table(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table("state", "prompt", "step", box=None, caption=self.summary(), caption_justify="left")
        for run, job in self._running.items():
            table.add_row("running", Text(_short(job.config.prompt)), f"{self._steps[run]}/{job.config.steps}")
        for prompt, error in list(self._failed.items())[-FAILURES:]:
            table.add_row("failed", Text(_short(prompt)), Text(error))
        return table


def _short(prompt: str) -> str:
    return prompt if len(prompt) <= NARROW else f"{prompt[: NARROW - 1]}…"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
