"""What people ask of a running training, through files in its run folder. The trainer knows nothing of who watches.

`control/watch` is touched by whoever wants to see the splats; while it is younger than WATCHED seconds the newest
splats lie in `snapshots/<step>.splat`. The files `pause`, `stop` and `save` in `control/` are requests: training waits
while `pause` is there, saves a checkpoint and ends for `stop`, and writes splats.ply for `save`.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from splatdistill.io import formats, ply
from splatdistill.io.runs import SPLATS
from splatdistill.scene.gaussians import FIELDS, Splats
from splatdistill.training.run_log import Log
from splatdistill.training.signals import SignalHandler

WATCHED = 10.0  # s
SNAPSHOT_EVERY = 2.0  # s


class RemoteControl:
    """The trainer's side. A new one drops requests and snapshots of earlier times. A signal is a request to stop."""

    def __init__(self, folder: Path, log: Log, *, signals: SignalHandler | None = None) -> None:
        self.folder = folder
        self._signals = signals or SignalHandler()
        self._log = log
        self._next = 0.0  # of time.monotonic(), for the snapshot
        self._shown = -1  # its step
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        for name in ("control", "snapshots"):
            (folder / name).mkdir(exist_ok=True)
        for path in [*(folder / "control").iterdir(), *(folder / "snapshots").glob("*.splat")]:
            with suppress(OSError):  # a folder of somebody else's making
                path.unlink(missing_ok=True)

    def obey(self, splats: Splats, *, step: int) -> bool:
        """Does what was asked for since the last step; returns whether to stop. Unasked, it looks into one folder."""
        asked = os.listdir(self.folder / "control")
        if not asked and not self._signals.number:
            return False
        self._serve(splats, step=step)
        if "pause" in asked:
            self._log.event("pause", step=step)
            while self._asked("pause") and not self._stopping():
                time.sleep(0.1)
                self._serve(splats, step=step)
            self._log.event("go on", step=step)
        stop = self._stopping()
        if stop:
            self._done("stop", step=step)
        return stop

    def _serve(self, splats: Splats, *, step: int) -> None:
        self._snapshot(splats, step=step)
        if self._asked("save"):
            ply.write(self.folder / SPLATS, splats.detach())
            self._done("save", step=step)

    def _stopping(self) -> bool:
        return self._signals.number > 0 or self._asked("stop")

    def _asked(self, request: str) -> bool:
        return (self.folder / "control" / request).is_file()

    def _done(self, request: str, *, step: int) -> None:
        (self.folder / "control" / request).unlink(missing_ok=True)
        self._log.event(request, step=step)

    def _snapshot(self, splats: Splats, *, step: int) -> None:
        """Only while watched, now and then, and once per step. Training waits for a copy of the splats alone."""
        if step == self._shown or time.monotonic() < self._next or (self._writing and not self._writing.done()):
            return
        try:
            age = time.time() - (self.folder / "control" / "watch").stat().st_mtime
        except OSError:
            return
        if abs(age) > WATCHED:  # in the future where the clock was set back
            return
        self._next, self._shown = time.monotonic() + SNAPSHOT_EVERY, step
        still = Splats(**{name: splats.tensors[name].detach().to("cpu", copy=True) for name in FIELDS})
        self._writing = self._writer.submit(self._write, still, step=step)

    def _write(self, splats: Splats, *, step: int) -> None:
        """Not synced to disk: it is for the moment. What goes wrong is no reason to end a training."""
        path = self.folder / "snapshots" / f"{step:06d}.splat"
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(formats.encode(splats, "splat"))
            temporary.replace(path)
        except (OSError, ValueError) as error:
            self._log.event("warning", step=step, message=f"no snapshot: {error}")
            return
        for older in (self.folder / "snapshots").glob("*.splat"):
            if older != path:
                older.unlink(missing_ok=True)

    def wait(self) -> None:
        """Until the snapshot that is being written lies there."""
        if self._writing:
            self._writing.result()
