"""What every benchmark records beside its figures."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import torch


def commit() -> str:
    """The commit of this working tree, with -dirty when it was changed since."""
    line = ["git", "describe", "--always", "--dirty"]
    shown = subprocess.run(line, capture_output=True, text=True, check=False)  # noqa: S603
    return shown.stdout.strip()


def machine() -> str:
    """Processor, cores and torch version."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{model}, {os.cpu_count()} cores, torch {torch.__version__}"
