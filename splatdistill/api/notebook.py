"""Where a notebook shows things."""

from __future__ import annotations

import base64
import html
import importlib
import io
import sys
from typing import Any

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
    inner = html.escape(page.decode(), quote=True)
    _display(f'<iframe srcdoc="{inner}" style="width:100%;height:{max(height, 300)}px;border:0"></iframe>')


def _display(code: str) -> None:
    screen: Any = importlib.import_module("IPython.display")  # it is there: this is a notebook
    screen.display(screen.HTML(code))
