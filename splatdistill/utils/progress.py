"""Progress of a run for the person who waits."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, TextIO, TypeVar

T = TypeVar("T")


class Progress:
    """How far the run is: a live bar where stderr is a terminal, else a plain line every `log_every` steps.

    Use it as a context manager. total: steps of the run.
    """

    def __init__(self, *, total: int, log_every: int = 10, label: str = "train", stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._total, self._log_every, self._label = total, log_every, label
        self._first: tuple[int, float] | None = None  # step and time of the first update, for the plain estimate
        self._bar: Any = None
        self._task: Any = None  # the line of the steps, from the first update on

    def __enter__(self) -> Progress:
        if self._stream.isatty():
            self._bar = _make_bar(self._stream)
            self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, **numbers: float) -> None:
        """`step` steps are done; `numbers` are shown beside them (grad_norm=0.2 as 'grad norm 0.2')."""
        shown = {name: value for name, value in numbers.items() if value or isinstance(value, float)}  # no counts of 0
        text = ", ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in shown.items())
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task(self._label, total=self._total, numbers="")
            self._bar.update(self._task, completed=step, **({"numbers": text} if text else {}))
            return
        first_step, first_time = self._first = self._first or (step, time.perf_counter())
        if step > first_step and (step % self._log_every == 0 or step == self._total):
            left = (time.perf_counter() - first_time) / (step - first_step) * (self._total - step)
            self.note(f"{self._label} {step}/{self._total}, {left:.0f} s left" + (f", {text}" if text else ""))

    def track(self, items: Iterable[T], *, total: int, label: str) -> Iterator[T]:
        """Yields `items` and shows how many of `total` are done: for long work beside the steps."""
        if self._bar is None:
            self.note(f"{label} ...")
            yield from items
        else:
            task = self._bar.add_task(label, total=total, numbers="")
            for item in items:
                yield item
                self._bar.advance(task)

    def note(self, text: str) -> None:
        """Prints a line without tearing the bar."""
        if self._bar is None:
            print(text, file=self._stream, flush=True)
        else:
            self._bar.console.print(text, markup=False, highlight=False)


def _make_bar(stream: TextIO) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
    # The processor is for the training: four frames a second are enough.
    return Bar(*columns, TextColumn("{task.fields[numbers]}"), console=Console(file=stream), refresh_per_second=4)


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"
