"""What a run says about itself: the files of its folder, and progress for the person who waits."""

from __future__ import annotations

import glob
import json
import math
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, TypeVar

from splatdistill import __version__, presets
from splatdistill.config import TrainConfig
from splatdistill.io.files import sweep, write_text
from splatdistill.runs import COMMAND, CONFIG, EVENTS, METRICS, SUMMARY, Run, record_of

T = TypeVar("T")
SUBFOLDERS = ("checkpoints", "control", "preview", "snapshots")
REQUESTS = ("pause", "stop", "save")  # what the files in control/ ask of the training


class RunLog:
    """Writes the record of a run into its folder: config.yaml, command.txt, summary.json and both logs.

    The folder appears whole. In one that is there already the run goes on from `start_step`: lines of later steps are
    dropped from the logs, the command is added to command.txt, and config.yaml and summary.json follow `config`.
    """

    def __init__(self, folder: Path, config: TrainConfig, *, command: str, start_step: int = 0) -> None:
        self.folder = folder
        self._start = time.time()
        if not folder.exists():
            _create(folder, config)
            self._summary: dict[str, Any] = {}
        else:
            sweep(folder)
            self._summary = Run(folder).summary()  # for readers: the run does not depend on it
            for name in (METRICS, EVENTS):
                _truncate(folder / name, step=start_step)
        write_text(folder / CONFIG, presets.to_yaml(config))
        with (folder / COMMAND).open("a", encoding="utf-8") as file:
            file.write(f"{command}\n")
        self.summary(**_first_summary(config), **({} if self._summary else _NOTHING_YET), step=start_step)
        if start_step:
            self.event("resume", step=start_step)

    def metrics(self, step: int, **values: float) -> None:
        """Appends a line of numbers to metrics.jsonl; `seconds` since this process took up the run is added."""
        self._append(METRICS, {"step": step, "seconds": round(time.time() - self._start, 3), **values})

    def event(self, kind: str, *, step: int, **values: Any) -> None:
        """Appends a line to events.jsonl: densify, resume, warning, done; `time` is in seconds since 1970."""
        self._append(EVENTS, {"kind": kind, "step": step, "time": round(time.time(), 3), **values})

    def summary(self, **fields: Any) -> None:
        """Sets fields of summary.json and writes it anew, whole; the peak of memory in MB is added."""
        self._summary |= {**fields, "peak_memory_mb": round(peak_memory_mb(), 1)}
        write_text(self.folder / SUMMARY, json.dumps(_plain(self._summary), indent=1) + "\n")

    def _append(self, name: str, record: dict[str, Any]) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(_plain(record)) + "\n")


class NoLog:
    """That of a process which does not write: another one writes the same."""

    def metrics(self, step: int, **values: float) -> None: ...

    def event(self, kind: str, *, step: int, **values: Any) -> None: ...

    def summary(self, **fields: Any) -> None: ...


Log = RunLog | NoLog

_NOTHING_YET = {
    "num_splats": None, "seconds_total": 0.0, "seconds_network": 0.0, "network_share": None, "seconds_cpu": 0.0,
    "seconds_waiting": None,
}  # fmt: skip


def _create(folder: Path, config: TrainConfig) -> None:
    """Makes the run folder under another name first, so that it is never seen half made: a run whose settings are
    missing could not be gone on with.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.[0-9]*.tmp"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        for name in SUBFOLDERS:
            (temporary / name).mkdir(parents=True)
        for name in (METRICS, EVENTS):
            (temporary / name).touch()
        write_text(temporary / CONFIG, presets.to_yaml(config))
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _first_summary(config: TrainConfig) -> dict[str, Any]:
    keep = ("prompt", "method", "seed", "steps", "dtype", "network_engine", "threads")
    return {name: getattr(config, name) for name in keep} | {"versions": versions(), "commit": commit()}


def _truncate(path: Path, *, step: int) -> None:
    """Drops the lines of steps after `step`, and a last line that was cut short."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [line for line in lines if (record := record_of(line)) and record["step"] <= step]
    write_text(path, "".join(f"{line}\n" for line in kept))


def _plain(value: Any) -> Any:
    """JSON has no word for numbers that are not finite; they become null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str]:
    """Versions of what decides a result's bits."""
    found = {"splatdistill": __version__, "python": platform.python_version()}
    for name in ("torch", "diffusers", "gsplat", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of the source tree this package runs from, None outside one."""
    root = Path(__file__).resolve().parent.parent
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():  # an installed package may lie in somebody else's tree
        return None
    done = subprocess.run([git, "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True)  # noqa: S603
    return done.stdout.strip() or None


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, MB of 10^6 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


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
