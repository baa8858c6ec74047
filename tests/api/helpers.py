"""A small run with the analytic prior, from Python and from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from splatdistill import cli

QUICK: dict[str, Any] = {
    "prior": "analytic", "steps": 6, "size": 16, "threads": 1,
    "splats": {"num_init": 150}, "densify": {"start": 0.2, "interval": 2},
    "output": {"log_every": 2, "frames": 2, "size": 32},
}  # fmt: skip
FLAGS = (
    "--prior", "analytic", "--steps", "6", "--size", "16", "--threads", "1", "--splats.num-init", "150",
    "--densify.start", "0.2", "--densify.interval", "2", "--output.log-every", "2", "--output.frames", "2",
    "--output.size", "32",
)  # fmt: skip
"""The same as flags."""


def by_command(out: Path, *more: str, prompt: str = "a red ball", flags: tuple[str, ...] = FLAGS) -> Path:
    """The folder of a run that the command line made."""
    command = ["train", "--prompt", prompt, "--out", str(out), "--name", "run", *flags, *more]
    assert cli.main(command) == cli.DONE
    return out / "run"
