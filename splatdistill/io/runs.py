"""What the files of a run folder say: the one reader of them, for the commands, `batch`, the evaluation and the page.

A run folder may come from a stranger, a later version, or a process that was killed while it wrote. So every read is
bounded, follows no link out of the folder, and takes a damaged file for an empty one unless its docstring says
otherwise.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from splatdistill.config import settings, yaml_reader
from splatdistill.config.old_names import renamed
from splatdistill.config.schema import TrainConfig
from splatdistill.io.inside import file_inside, may_change, open_inside, subfolder
from splatdistill.io.records import NUMBER, Kinds, json_object, of_kinds

CONFIG, SUMMARY, COMMAND = "config.yaml", "summary.json", "command.txt"
METRICS, EVENTS = "metrics.jsonl", "events.jsonl"
SPLATS = "splats.ply"
MAX_TEXT = 1 << 20  # bytes of a summary or a settings file that are read
MAX_LOG = 1 << 26  # bytes of a log that are read at once
SUBFOLDERS = ("checkpoints", "control", "preview", "snapshots")
_STRANGE = "is a link out of the run, or no file; take it away."
_CLOSED = "may not be read and written by this user; change its permissions."
_FORBIDDEN = (errno.EACCES, errno.EROFS)
TAIL = 1 << 16  # bytes at the end of a log in which its last records are looked for
_FACTS: Kinds = {
    **dict.fromkeys(("prompt", "method", "dtype", "network_engine", "commit", "prior_model"), str),
    **dict.fromkeys(("step", "steps", "seed", "threads", "num_splats", "image_evaluations"), int),
    **dict.fromkeys(("seconds_total", "seconds_network", "seconds_cpu", "seconds_waiting", "network_share"), NUMBER),
    **dict.fromkeys(("versions", "priors", "precision"), dict), "peak_memory_mb": NUMBER,
}  # fmt: skip


class Run:
    """A run folder, whether it is complete, still growing, or not there at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exists(self) -> bool:
        """Whether the folder is one of a run: it has settings."""
        return self.file(CONFIG) is not None

    def settings(self) -> TrainConfig:
        """All settings. ValueError, one sentence, where one is unknown or the file is missing or not YAML."""
        if not self.exists():
            there = os.path.lexists(self.folder / CONFIG)
            raise ValueError(f"{self.folder} is not a run folder: it has no {CONFIG}{' that can be read' * there}.")
        path = self.folder / CONFIG
        return settings.merge(TrainConfig(), renamed(yaml_reader.read(path)), where=str(path))

    def known_settings(self) -> tuple[TrainConfig, list[str]]:
        """The settings that this version knows, to show the run by, and a sentence for what was left out.

        Where the file cannot be read at all, the defaults with the folder's name as prompt.
        """
        try:
            path = self.file(CONFIG)
            values = yaml_reader.read(path) if path else {}
        except ValueError as error:
            return TrainConfig(prompt=self.folder.resolve().name), [str(error)]
        return settings.merge_known(TrainConfig(), renamed(values), where=CONFIG)

    def summary(self) -> dict[str, Any]:
        """The contents of summary.json, without what is of another kind than a run writes."""
        return of_kinds(json_object(self.text(SUMMARY)), _FACTS)

    def is_done(self, *, steps: int) -> bool:
        """Whether the last thing that happened in the run was its end, after this many steps or more, and what it made
        is there.
        """
        lines = self._last_lines(EVENTS)
        last = record_of(lines[-1]) if lines else {}  # a line that was cut short is the beginning of something else
        return last.get("kind") == "done" and last["step"] >= steps and self.file(SPLATS) is not None

    def digest(self) -> str:
        """SHA-256 of its splats in hexadecimal; empty where there are none."""
        try:
            with open_inside(self.folder, SPLATS) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return ""

    def last_records(self, name: str) -> Iterator[dict[str, Any]]:
        """Records of a log, the last one first, as far as they stand in its last TAIL bytes."""
        yield from (record for line in reversed(self._last_lines(name)) if (record := record_of(line)))

    def last_step(self) -> int:
        """The last step in metrics.jsonl, 0 where there is none."""
        return next((record["step"] for record in self.last_records(METRICS)), 0)

    def file(self, name: str) -> Path | None:
        """The file of that name, unless it is a link that leads out of the run."""
        return file_inside(self.folder, name)

    def refuse_strange(self) -> None:
        """ValueError, one sentence, where something that a training writes to is no file or folder of the run: a link
        out of it, a pipe, a file in the place of a folder. A run that goes on deletes and appends.
        """
        for name in SUBFOLDERS:
            path = self.folder / name
            if os.path.lexists(path) and subfolder(self.folder, name) is None:
                raise ValueError(f"{path} is a link or no folder; put a folder of the run there.")
            if os.path.lexists(path) and not may_change(path):
                raise ValueError(f"{path} {_CLOSED}")
        for name in (CONFIG, SUMMARY, COMMAND, METRICS, EVENTS):
            path = self.folder / name
            try:
                open_inside(self.folder, name, flags=os.O_RDWR).close()
            except FileNotFoundError:
                if os.path.lexists(path):
                    raise ValueError(f"{path} {_STRANGE}") from None
            except OSError as error:
                raise ValueError(f"{path} {_CLOSED if error.errno in _FORBIDDEN else _STRANGE}") from error

    def text(self, name: str) -> str:
        """The beginning of a file, empty where there is none."""
        try:
            with open_inside(self.folder, name) as file:
                return file.read(MAX_TEXT).decode("utf-8", "replace")
        except OSError:
            return ""

    def _last_lines(self, name: str) -> list[bytes]:
        try:
            with open_inside(self.folder, name) as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
                return file.read().splitlines()
        except OSError:
            return []

    def names(self, folder: str) -> list[str]:
        """The names in one of its folders."""
        try:
            return os.listdir(self.folder / folder) if subfolder(self.folder, folder) else []
        except OSError:
            return []

    def touch(self, name: str) -> None:
        """Makes an empty file in one of its folders, or sets its time. Does nothing where the folder is not there, or
        something strange has the name.
        """
        folder, _, _ = name.rpartition("/")
        if subfolder(self.folder, folder) is None:
            return
        with suppress(OSError):
            open_inside(self.folder, name, flags=os.O_WRONLY | os.O_CREAT | os.O_APPEND).close()
            os.utime(self.folder / name)


class Tail:
    """Reads the records that a log gets, from the first one on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = (0, 0)  # inode and offset

    def read(self) -> tuple[bool, list[dict[str, Any]]]:
        """Whether the file began anew since the last call, and the records that came."""
        try:
            with open_inside(self._path.parent, self._path.name) as file:
                stat = os.fstat(file.fileno())
                inode, offset = self._place
                anew = offset > 0 and (stat.st_ino != inode or stat.st_size < offset)
                file.seek(0 if anew else offset)
                whole = file.read(MAX_LOG).rpartition(b"\n")[0]  # the last line may still be growing
                self._place = stat.st_ino, (0 if anew else offset) + len(whole) + bool(whole)
        except OSError:
            return False, []
        return anew, [record for line in whole.splitlines() if (record := record_of(line))]


def record_of(line: bytes | str) -> dict[str, Any]:
    """A record with a step, or nothing for a line that is something else or was cut short."""
    record = json_object(line)
    return record if type(record.get("step")) is int else {}
