"""Waiting in tests. The limit is there to end a hang, and must not decide a test: a busy machine may be slow."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 600.0  # s


def wait_for(true: Callable[[], object], *, what: str) -> None:
    """Returns when `true()` holds."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)
