"""Runs that the page starts: one after the other, each in a separate process."""

from __future__ import annotations

import shlex
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from splatdistill.utils.system import NEW_SESSION, ask_to_end

from . import form

MAX_WAITING = 50
ENDS = {0: "done", 130: "stopped"}  # by exit code; 143 and others are failures


@dataclass
class Start:
    """One training. status: waiting, running, done, stopped, failed or cancelled. message: its last error."""

    folder: Path
    words: list[str]
    prompt: str
    status: str = "waiting"
    message: str = ""
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        command = shlex.join(["splatdistill", *self.words])
        return {
            "name": self.folder.name,
            "prompt": self.prompt,
            "status": self.status,
            "message": self.message,
            "notes": self.notes,
            "command": command,
        }


class Starts:
    """The queue. home: the folder that runs are made in."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()
        self.all: list[Start] = []
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._closed = False
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._worker.start()

    def add(self, values: Mapping[str, Any]) -> Start:
        """Puts a training at the end of the queue. form.Refused where it would not begin."""
        folder, words = form.command_of(values, self.home)
        with self._changed:
            waiting = [start for start in self.all if start.status in ("waiting", "running")]
            if folder in [start.folder for start in waiting]:
                raise form.Refused({"seed": "seed: this run is in the queue already; choose another seed."})
            if len(waiting) >= MAX_WAITING:
                raise form.Refused(
                    {"prompt": f"prompt: the queue holds {MAX_WAITING} runs already; wait until one is done."}
                )
            start = Start(folder, words, str(values.get("prompt", "")))
            self.all.append(start)
            self._changed.notify_all()
        return start

    def cancel(self, name: str) -> None:
        """Drops one that has not started. ValueError where there is none of that name."""
        with self._changed:
            for start in self.all:
                if start.folder.name == name and start.status == "waiting":
                    start.status = "cancelled"
                    return
        raise ValueError(f"{name[:80]} is not waiting in the queue.")

    def failure(self, folder: Path) -> str:
        """Why the training in a folder failed, if it was started here and did."""
        last = [start for start in self.all if start.folder == folder.absolute()][-1:]
        return last[0].message if last and last[0].status == "failed" else ""

    def close(self) -> None:
        """Stops the training that runs, which saves its last step first, and starts no other."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            process = self._process
        if process is not None and process.poll() is None:
            ask_to_end(process)
        self._worker.join()

    def _next(self) -> Start | None:
        with self._changed:
            while not self._closed:
                if start := next((start for start in self.all if start.status == "waiting"), None):
                    start.status = "running"
                    return start
                self._changed.wait()
        return None

    def _work(self) -> None:
        while start := self._next():
            # A session of its own: Ctrl-C of the terminal reaches the server alone, which passes it on once.
            command = [sys.executable, "-m", "splatdistill", *start.words]
            with subprocess.Popen(  # noqa: S603  (words, no shell)
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                **NEW_SESSION,
            ) as process:
                with self._changed:
                    self._process = process
                    if self._closed:
                        ask_to_end(process)
                assert process.stderr is not None
                for line in process.stderr:
                    self._read(start, line.strip())
            start.status = ENDS.get(process.returncode, "failed")
            if start.status == "failed" and not start.message:
                start.message = f"The training ended with exit code {process.returncode}."

    def _read(self, start: Start, line: str) -> None:
        if line.startswith("splatdistill: "):
            start.message = line.removeprefix("splatdistill: ")
        elif line.startswith("Note: ") and len(start.notes) < 20:
            start.notes.append(line.removeprefix("Note: "))
