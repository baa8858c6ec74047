"""What became of each prompt: a small JSON file for each run in OUT/ledger, whole or absent.

No two writers share a file. Whoever works on a run holds its lock, which the system drops with the process.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from splatdistill.io.files import write_text
from splatdistill.io.inside import may_change, open_inside, subfolder
from splatdistill.io.records import NUMBER, Kinds, json_object, of_kinds
from splatdistill.utils.system import lock_file

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
MAX_RECORD = 1 << 20  # bytes
_KINDS: Kinds = {
    "prompt": str, "state": str, "tries": int, "error": str, "traceback": list, "seconds": NUMBER, "sha256": str,
}  # fmt: skip


class Ledger:
    """The records of the runs in the folder `out`, by the names of their folders.

    Fields: prompt, state (waiting, running, done or failed), tries, error, traceback, seconds and sha256 of splats.ply
    for what is done, host and pid of who works on it, updated (seconds since 1970).
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / "ledger"

    def make(self) -> None:
        """Makes its folder. ValueError where something else has the name, or nobody may write there."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
        if subfolder(self.folder.parent, self.folder.name) is None or not may_change(self.folder):
            raise ValueError(f"{self.folder} is a link, no folder, or may not be written to; take it away.")

    def read(self, run: str) -> dict[str, Any]:
        """The record of a run; empty where there is none, or it is damaged: then the run itself is looked at again.
        Fields of another kind than they should be are left out.
        """
        return of_kinds(self._json(f"{run}.json"), _KINDS)

    def _json(self, name: str) -> dict[str, Any]:
        try:
            with open_inside(self.folder, name) as file:
                return json_object(file.read(MAX_RECORD))
        except OSError:
            return {}

    def update(self, run: str, **fields: Any) -> dict[str, Any]:
        """Sets fields of a record, drops those that are None, and returns it."""
        record = {**self.read(run), **fields, "updated": round(time.time(), 3)}
        record = {name: value for name, value in record.items() if value is not None}
        write_text(self.folder / f"{run}.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        return record

    def settle(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What the first command or rank to ask has made: the same for all runs in the folder. name: of no run."""
        path = self.folder / f".{name}.json"  # no run's name begins with a dot
        with self.claim(f".{name}"):
            found = self._json(path.name)
            if not found:
                found = make()
                write_text(path, json.dumps(found, indent=1) + "\n")
            return found

    @contextmanager
    def claim(self, run: str) -> Iterator[None]:
        """Waits until nobody else works on the run, and keeps others from it: a worker that outlived its command, a
        second command on the same folder. Where a network disk knows no locks, it goes on without. ValueError where
        something strange has the lock's name.
        """
        name = f".{run}.lock"
        try:
            file = open_inside(self.folder, name, flags=os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise ValueError(f"{self.folder / name} cannot be written to: {error.strerror}.") from error
        with file:
            with suppress(OSError):
                lock_file(file, wait=True)
            yield
