"""Who hears of a run: its folder, memory, nobody, or several at once."""

from __future__ import annotations

import errno
import glob
import json
import math
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from splatdistill.config import settings
from splatdistill.config.schema import TrainConfig
from splatdistill.io.files import remove_folder, sweep, write_text
from splatdistill.io.lock import Claim, refuse_held
from splatdistill.io.runs import COMMAND, CONFIG, EVENTS, METRICS, SUBFOLDERS, SUMMARY, Run, record_of
from splatdistill.utils.provenance import commit, peak_memory_mb, versions
from splatdistill.utils.system import is_running

if TYPE_CHECKING:  # the page reads this module, and starts without torch
    from splatdistill.io.video import Picture

REQUESTS = ("pause", "stop", "save")  # what the files in control/ ask of the training


def check_writable(out: Path) -> None:
    """ValueError when no folder can be made in `out`, which may not be there yet."""
    parent = out
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    try:  # asking the system is the only sure way: permissions, read-only disks, a file in place of a folder
        tempfile.TemporaryDirectory(dir=parent, prefix=".splatdistill").cleanup()
    except OSError as error:
        raise ValueError(f"out: nothing can be written to {out}: {error.strerror}.") from error


class Log(Protocol):
    """What a training tells. shows: whether images are wanted, which must be rendered for it."""

    @property
    def shows(self) -> bool: ...

    def metrics(self, step: int, **values: float) -> None:
        """The numbers that a step was measured to have."""
        ...

    def event(self, kind: str, *, step: int, **values: Any) -> None:
        """Something that happened: densify, resume, warning, done."""
        ...

    def summary(self, **fields: Any) -> None:
        """What is known of the run so far; later values replace earlier ones."""
        ...

    def images(self, step: int, **images: Picture) -> None:
        """Renders [H,W,3] of the moment by the side that they show."""
        ...

    def close(self) -> None:
        """The run has ended, as it should or not."""
        ...


class RunLog:
    """Writes the record of a run into its folder: config.yaml, command.txt, summary.json and both logs.

    The folder appears whole. In one that is there already the run goes on from `start_step`: lines of later steps are
    dropped from the logs, the command is added to command.txt, and config.yaml and summary.json follow `config`. new:
    whether it must not be there yet; None looks. ValueError where it is: another process may have made it just now.
    """

    def __init__(
        self, folder: Path, config: TrainConfig, *, command: str, start_step: int = 0, new: bool | None = None
    ) -> None:
        self.folder = folder
        self._start = time.monotonic()  # whatever is done to the clock meanwhile
        self._claim: Claim | None = None  # of a folder that is there already, the caller has one
        if new if new is not None else not folder.exists():
            self._claim = _create(folder, settings.to_yaml(config))
            self._summary: dict[str, Any] = {}
        else:
            sweep(folder)
            for name in SUBFOLDERS:
                (folder / name).mkdir(exist_ok=True)
            self._summary = Run(folder).summary()  # for readers: the run does not depend on it
            for name in (METRICS, EVENTS):
                _truncate(folder / name, step=start_step)
        write_text(folder / CONFIG, settings.to_yaml(config))
        with (folder / COMMAND).open("a", encoding="utf-8") as file:
            file.write(f"{command}\n")
        about = {name: getattr(config, name) for name in _OF_THE_RUN} | {"versions": versions(), "commit": commit()}
        self.summary(**about, **({} if self._summary else _NOTHING_YET), step=start_step)
        if start_step:
            self.event("resume", step=start_step)

    def metrics(self, step: int, **values: float) -> None:
        """Appends a line of numbers to metrics.jsonl; `seconds` since this process took up the run is added."""
        self._append(METRICS, {"step": step, "seconds": round(time.monotonic() - self._start, 3), **values})

    def event(self, kind: str, *, step: int, **values: Any) -> None:
        """Appends a line to events.jsonl: densify, resume, warning, done; `time` is in seconds since 1970."""
        self._append(EVENTS, {"kind": kind, "step": step, "time": round(time.time(), 3), **values})

    def summary(self, **fields: Any) -> None:
        """Sets fields of summary.json and writes it anew, whole; the peak of memory in MB is added."""
        self._summary |= {**fields, "peak_memory_mb": round(peak_memory_mb(), 1)}
        write_text(self.folder / SUMMARY, json.dumps(_plain(self._summary), indent=1) + "\n")

    @property
    def shows(self) -> bool:
        return True

    def images(self, step: int, **images: Picture) -> None:
        """Writes each [H,W,3] to preview/<step>-<side>.jpg."""
        from splatdistill.io import video  # loads torch

        for side, image in images.items():
            video.write_image(self.folder / "preview" / f"{step:06d}-{side}.jpg", image)

    def close(self) -> None:
        """Lets another process write into a folder that this one made."""
        if self._claim:
            self._claim.release()

    def _append(self, name: str, record: dict[str, Any]) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(_plain(record)) + "\n")


class NoLog:
    """Of a process which does not write, because another one writes the same."""

    shows = False

    def metrics(self, step: int, **values: float) -> None: ...

    def event(self, kind: str, *, step: int, **values: Any) -> None: ...

    def summary(self, **fields: Any) -> None: ...

    def images(self, step: int, **images: Picture) -> None: ...

    def close(self) -> None: ...


class MemoryLog(NoLog):
    """Keeps what the files of a run folder would hold. records: of metrics, each with its step; events; facts."""

    def __init__(self) -> None:
        self.records: list[dict[str, float]] = []
        self.events: list[dict[str, Any]] = []
        self.facts: dict[str, Any] = {}

    def metrics(self, step: int, **values: float) -> None:
        self.records.append({"step": step, **values})

    def event(self, kind: str, *, step: int, **values: Any) -> None:
        self.events.append({"kind": kind, "step": step, **values})

    def summary(self, **fields: Any) -> None:
        self.facts |= fields


class Logs:
    """Tells each of several logs."""

    def __init__(self, logs: Sequence[Log]) -> None:
        self._logs = tuple(logs)

    @property
    def shows(self) -> bool:
        return any(log.shows for log in self._logs)

    def metrics(self, step: int, **values: float) -> None:
        for log in self._logs:
            log.metrics(step, **values)

    def event(self, kind: str, *, step: int, **values: Any) -> None:
        for log in self._logs:
            log.event(kind, step=step, **values)

    def summary(self, **fields: Any) -> None:
        for log in self._logs:
            log.summary(**fields)

    def images(self, step: int, **images: Picture) -> None:
        """Hands each [H,W,3] on to the logs that show any."""
        for log in self._logs:
            if log.shows:
                log.images(step, **images)

    def close(self) -> None:
        for log in self._logs:
            log.close()


_OF_THE_RUN = ("prompt", "method", "seed", "steps", "dtype", "network_engine", "threads")
_NOTHING_YET = {
    "num_splats": None, "seconds_total": 0.0, "seconds_network": 0.0, "network_share": None, "seconds_cpu": 0.0,
    "seconds_waiting": None,
}  # fmt: skip


def _create(folder: Path, config: str) -> Claim:
    """Makes the run folder under another name first, so that it is never seen half made: a run whose settings are
    missing could not be gone on with. It appears with the claim on it; ValueError where another process was faster.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.[0-9]*.tmp"):
        _remove_abandoned(left)
    try:
        temporary.mkdir()
        claim = Claim(temporary)
        for name in SUBFOLDERS:
            (temporary / name).mkdir()
        for name in (METRICS, EVENTS):
            (temporary / name).touch()
        write_text(temporary / CONFIG, config)
        temporary.rename(folder)
        claim.folder = folder
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        refuse_held(folder)
        raise ValueError(f"{folder} is there already; go on with --resume {folder}, or choose another name.") from error
    finally:
        remove_folder(temporary)
    return claim


def _remove_abandoned(folder: Path) -> None:
    """Removes what a process that was killed had begun to make."""
    try:
        refuse_held(folder)
    except ValueError:
        return
    if not is_running(int(folder.name.split(".")[-2])):  # one that runs may be about to claim it
        remove_folder(folder)


def _truncate(path: Path, *, step: int) -> None:
    """Drops the lines of steps after `step`, and a last line that was cut short."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    kept = [line for line in lines if (record := record_of(line)) and record["step"] <= step]
    write_text(path, "".join(f"{line}\n" for line in kept))


def _plain(value: Any) -> Any:
    """JSON has no word for numbers that are not finite; they become null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in cast("dict[str, Any]", value).items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
