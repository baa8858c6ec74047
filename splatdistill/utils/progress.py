"""Progress of a run for the person who waits."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from splatdistill.utils import terminal

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")
BAR_WIDTH = 24  # columns; less in a narrow terminal


class Progress:
    """How far the run is: a live bar on a terminal that can move its cursor, else a plain line every `log_every` steps.

    Use it as a context manager. total: steps of the run. clock: seconds, from which the time left is estimated. The
    time left stands before the numbers, of which a narrow terminal shows as many as fit.
    """

    def __init__(
        self,
        *,
        total: int,
        log_every: int = 10,
        label: str = "train",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._total, self._log_every, self._label = total, log_every, label
        self._first: tuple[int, float] | None = None  # step and time of the first update, for the plain estimate
        self._bar: Any = None
        self._task: Any = None  # the line of the steps, from the first update on

    def __enter__(self) -> Progress:
        if terminal.moves_cursor(self._stream):
            self._bar = _make_bar(self._stream, self._clock)
            self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, **numbers: float) -> None:
        """`step` steps are done; `numbers` are shown beside them (grad_norm=0.2 as 'grad norm 0.2')."""
        shown = {name: value for name, value in numbers.items() if value or isinstance(value, float)}  # no counts of 0
        parts = [f"{name.replace('_', ' ')} {_short(value)}" for name, value in shown.items()]
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task(self._label, total=self._total, numbers=[])
            self._bar.update(self._task, completed=step, **({"numbers": parts} if parts else {}))
            return
        first_step, first_time = self._first = self._first or (step, self._clock())
        if step > first_step and (step % self._log_every == 0 or step == self._total):
            left = (self._clock() - first_time) / (step - first_step) * (self._total - step)
            self._print(", ".join([f"{self._label} {step}/{self._total}", f"{left:.0f} s left", *parts]))

    def track(self, items: Iterable[T], *, total: int, label: str) -> Iterator[T]:
        """Yields `items` and shows how many of `total` are done: for long work beside the steps."""
        if self._bar is None:
            self._print(f"{label} ...")
            yield from items
        else:
            task = self._bar.add_task(label, total=total, numbers=[])
            for item in items:
                yield item
                self._bar.advance(task)

    def note(self, text: str) -> None:
        """Prints a sentence without tearing the bar, broken between words."""
        if self._bar is None:
            self._print(terminal.wrapped(text, self._stream))
        else:
            self._bar.console.print(text, markup=False, highlight=False)

    def show(self, images: Sequence[Image]) -> None:
        """Draws pictures of one size side by side, in half-blocks, where the terminal has colours."""
        if self._bar is not None and terminal.shows_pictures(self._stream):
            self._bar.console.print(terminal.half_blocks(images, width=self._bar.console.width))

    def _print(self, text: str) -> None:
        with suppress(BrokenPipeError):  # a training is worth more than who reads of it
            print(text, file=self._stream, flush=True)


def _make_bar(stream: TextIO, clock: Callable[[], float]) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    class Numbers(ProgressColumn):
        """In what is left of the line: rich narrows this column alone, because the others do not wrap."""

        def __init__(self) -> None:
            super().__init__(Column(no_wrap=False))

        def render(self, task: Any) -> Any:
            return terminal.AsManyAsFit(task.fields["numbers"])

    console, whole = Console(file=stream), Column(no_wrap=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=max(1, min(BAR_WIDTH, console.width - 30)), table_column=whole.copy()),
        MofNCompleteColumn(table_column=whole.copy()),
        TimeRemainingColumn(table_column=whole.copy()),
        Numbers(),
    )
    # The processor is for the training: four frames a second are enough.
    return Bar(*columns, console=console, refresh_per_second=4, get_time=clock)


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"
