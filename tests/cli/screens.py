"""What terminals of several kinds show of a training, on a clock that is set by hand."""

from __future__ import annotations

import io
import os
import re
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass

from PIL import Image

from splatdistill import cli
from splatdistill.commands.common import note
from splatdistill.utils.progress import Progress

NUMBERS = {"grad_norm": 15.7123, "num_splats": 5710, "network_share": 0.943}
SENTENCE = (
    "prompt: This prior does not know 'sparkling' and leaves it out; `splatdistill vocab` lists what it does know."
)
BLOCKS = r"(\x1b\[[\d;]*m▀\x1b\[0m)\1*"
MOVES = r"\x1b\[[0-9;?]*[A-Zlhu]"
"""Codes that move the cursor or clear; colours end in m."""


@dataclass(frozen=True)
class Screen:
    columns: int
    term: str = "xterm-256color"
    no_color: bool = False
    terminal: bool = True


SCREENS = (
    Screen(60),
    Screen(80),
    Screen(120),
    Screen(80, no_color=True),
    Screen(80, term="dumb"),
    Screen(80, terminal=False),
)


class Stream(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@contextmanager
def set_to(screen: Screen):
    """What a shell says of its terminal."""
    before = dict(os.environ)
    os.environ |= {"COLUMNS": str(screen.columns), "TERM": screen.term}
    os.environ |= {"NO_COLOR": "1"} if screen.no_color else {}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


def training(screen: Screen) -> str:
    """The lines of a training at step 120 of 5000, ten steps in ten seconds, with a note and a preview before that."""
    stream, now = Stream(terminal=screen.terminal), [0.0]
    with set_to(screen), redirect_stderr(stream):
        note(SENTENCE)
        with Progress(total=5000, log_every=60, stream=stream, clock=lambda: now[0]) as progress:
            progress.update(0)
            for step in range(10, 130, 10):
                now[0] = float(step)
                progress.update(step, **NUMBERS)
            progress.show([Image.new("RGB", (4, 4), colour) for colour in ("red", "green", "blue", "white")])
    shown = re.sub(MOVES, "", stream.getvalue()).replace("\r", "\n")
    lines = [line.rstrip() for line in shown.splitlines()]
    return "\n".join(line for n, line in enumerate(lines) if line and not _drawn_over(lines[n:])) + "\n"


def _drawn_over(lines: list[str]) -> bool:
    """Whether a line is one of the bar, and not its last."""
    bar = [("/5000" in line and "left" not in line) for line in lines]
    return bar[0] and any(bar[1:])


def short_help(screen: Screen) -> str:
    stream = Stream(terminal=screen.terminal)
    with set_to(screen), redirect_stdout(stream):
        assert cli.main(["train", "--help"]) == cli.DONE
    return stream.getvalue()


def transcript() -> str:
    """Every screen, with escape codes made visible, and equal half-blocks as one with their number."""
    parts = []
    for screen in SCREENS:
        shown = training(screen) + (short_help(screen) if screen in SCREENS[:3] else "")
        counted = re.sub(BLOCKS, lambda found: f"{found[1]}x{len(found[0]) // len(found[1])}", shown)
        parts.append(f"== {screen}\n{counted}".replace("\x1b", "\\e"))
    return "\n".join(parts)
