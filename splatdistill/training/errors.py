"""Why a run ended before its last step. Without torch."""

from __future__ import annotations

from pathlib import Path
from signal import SIGINT


class RunFailure(RuntimeError):
    """The run cannot go on and its settings are not to blame; says in one sentence why, and what to do."""


class Stopped(KeyboardInterrupt):
    """Somebody asked the training to stop, through its folder or by a signal; its last step is in a checkpoint.
    asked: through its folder.
    """

    def __init__(self, folder: Path | None, *, step: int, signal: int) -> None:
        super().__init__(f"stopped after step {step}" + (f"; --resume {folder} goes on." if folder else "."))
        self.asked = not signal
        self.code = 128 + (signal or SIGINT)  # as shells have it
