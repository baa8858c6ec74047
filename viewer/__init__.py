"""The page that shows runs and files of splats: a server for this machine, and the page as one file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def beside(run: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Serves a run from a process of its own, which waits for the folder: nothing that happens there stops training."""
    child = subprocess.Popen([sys.executable, "-m", "splatdistill.viewer", str(run)])  # noqa: S603
    try:
        yield child
    finally:
        child.terminate()
        child.wait()
