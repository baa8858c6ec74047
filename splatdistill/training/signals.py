"""Signals that end a run, which wait for the step at hand. Without torch."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from splatdistill.utils.system import STOP_SIGNALS


def not_ignored() -> list[signal.Signals]:
    """Those of STOP_SIGNALS that are ours to answer: who ignores one, as nohup does, means it."""
    not_ours = (signal.SIG_IGN, None)  # None: not of Python
    return [name for name in STOP_SIGNALS if signal.getsignal(name) not in not_ours]


class SignalHandler:
    """While entered, one of STOP_SIGNALS sets `number` and nothing else; a second one ends the process at once.

    Handlers of before come back at the end. Signals that were ignored stay so. Python tells its main thread alone of
    signals, so in any other thread nothing changes; nor does it where `enabled` is false.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.number = 0
        self._enabled = enabled
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> SignalHandler:
        if self._enabled and threading.current_thread() is threading.main_thread():
            self._before = {name: signal.signal(name, self._note) for name in not_ignored()}
        return self

    def __exit__(self, *error: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for name in self._before:  # the system's own answer comes at once, even inside a long kernel
            signal.signal(name, signal.SIG_DFL)
