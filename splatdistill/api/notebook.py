"""Where a notebook shows things."""

from __future__ import annotations

import base64
import html
import importlib
import io
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def is_here() -> bool:
    """Whether this process is the kernel of a notebook. Nothing is imported to find out."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")


def show_frames(frames: NDArray[np.uint8], *, fps: int = 12) -> None:
    """Shows frames [F,H,W,3] as a picture that moves for ever."""
    first, *rest = (Image.fromarray(frame) for frame in frames)
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=rest, duration=1000 // fps, loop=0)
    _display(f'<img alt="turntable" src="data:image/gif;base64,{base64.b64encode(file.getvalue()).decode()}">')


def show_page(page: bytes, *, height: int) -> None:
    """Shows a whole page in a frame of that height, pixels."""
    _display(_whole(page, height=height))


@contextmanager
def live_page(run: Path, *, height: int = 600) -> Generator[None, None, None]:
    """Shows the page of a run while it trains, in a frame of that height, pixels. The frame then holds the page as one
    file, which needs no server, or one sentence where there are no splats.
    """
    viewer: Any = importlib.import_module("splatdistill.viewer.framed")
    with viewer.framed(run) as address:
        shown = _display(_frame(f'src="{address}"', height=height))
        try:
            yield
        finally:
            ended = page_of(run)
            shown.update(_html(_whole(ended, height=height) if ended else "The training ended before it had splats."))


def page_of(item: Path) -> bytes | None:
    """The page of a run folder or of a file of splats as one file; None for a run without splats."""
    export: Any = importlib.import_module("splatdistill.viewer.export_html")
    runs: Any = importlib.import_module("splatdistill.viewer.rundir")
    found = runs.Item(item)
    return cast(bytes, export.page_of(found)) if found.splats() else None


def _whole(page: bytes, *, height: int) -> str:
    inner = html.escape(page.decode(), quote=True).encode("ascii", "xmlcharrefreplace").decode()
    return _frame(f'srcdoc="{inner}"', height=height)


def _frame(source: str, *, height: int) -> str:
    """Inside a div: IPython warns of code that is nothing but an iframe."""
    return f'<div><iframe {source} style="width:100%;height:{max(height, 300)}px;border:0"></iframe></div>'


def _display(code: str) -> Any:
    """Shows code; returns the handle that can replace it."""
    screen: Any = importlib.import_module("IPython.display")  # it is there: this is a notebook
    return screen.display(_html(code), display_id=True)


def _html(code: str) -> Any:
    return cast(Any, importlib.import_module("IPython.display")).HTML(code)
