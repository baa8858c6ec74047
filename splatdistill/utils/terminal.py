"""What a terminal can show: sentences broken between words, as much of a line as fits, and pictures in half-blocks."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from PIL.Image import Image

GAP = ", "
LARGEST = 32  # columns of one picture
USUAL = 80  # columns of a terminal that does not say


def moves_cursor(stream: TextIO) -> bool:
    """Whether lines can be drawn over: not in a file, a pipe or a dumb terminal."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def may_colour() -> bool:
    """Whether the user leaves colours to us: https://no-color.org."""
    return not os.environ.get("NO_COLOR")


def shows_pictures(stream: TextIO) -> bool:
    """Whether half-blocks can be seen on it."""
    return moves_cursor(stream) and may_colour()


def wrapped(text: str, stream: TextIO) -> str:
    """A sentence with line breaks between words where `stream` is a terminal; files and pipes get one line."""
    if not stream.isatty():
        return text
    return textwrap.fill(text, columns(stream), break_long_words=False, break_on_hyphens=False)


def columns(stream: TextIO) -> int:
    """The width of a terminal: what COLUMNS says, or the terminal itself, or 80."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    try:
        return os.get_terminal_size(stream.fileno()).columns or USUAL
    except (OSError, ValueError):  # no terminal, or no file at all
        return USUAL


class AsManyAsFit:
    """A cell of rich with the first of several texts, as many as fit without a cut one."""

    def __init__(self, parts: Sequence[str]) -> None:
        self.parts = parts

    def __rich_measure__(self, console: Any, options: Any) -> Any:
        from rich.measure import Measurement

        return Measurement(0, min(len(GAP.join(self.parts)), options.max_width))

    def __rich_console__(self, console: Any, options: Any) -> Iterator[str]:
        kept = [part for n, part in enumerate(self.parts, 1) if len(GAP.join(self.parts[:n])) <= options.max_width]
        yield GAP.join(kept)


def half_blocks(images: Sequence[Image], *, width: int) -> Any:
    """Pictures of one size [H,W,3] side by side in at most `width` columns, as text of rich: the upper half of each
    character is one pixel, its background the one below.
    """
    from rich.style import Style
    from rich.text import Text

    columns = min(LARGEST, (width + 1) // len(images) - 1)
    if columns < 1:
        return Text("")
    rows = max(1, round(columns * images[0].height / images[0].width / 2))
    small = [image.convert("RGB").resize((columns, 2 * rows)) for image in images]
    text = Text(no_wrap=True, overflow="crop")
    for row in range(rows):
        for index, image in enumerate(small):
            text.append(" " if index else "")
            for column in range(columns):
                upper, lower = (image.getpixel((column, 2 * row + half)) for half in (0, 1))
                text.append("▀", Style(color=_hex(upper), bgcolor=_hex(lower)))
        text.append("\n" if row < rows - 1 else "")
    return text


def _hex(pixel: Any) -> str:
    return "#{:02x}{:02x}{:02x}".format(*pixel)
