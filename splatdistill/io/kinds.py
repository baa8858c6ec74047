"""The kinds of files that hold splats, and what their codecs exchange. Without torch, for who only looks at names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np

Up = Literal["+y", "-y"]
Arrays = dict[str, np.ndarray]
"""The fields of Splats, but quaternions have length 1 and opacities [N] are in 0..1 instead of logits."""

FRAMES: dict[str, Up] = {"ply": "+y", "compressed.ply": "-y", "splat": "-y", "spz": "+y", "glb": "+y"}
"""Which axis points up in a file of this kind. A .ply without our comment is taken for -y, as most are."""
MAX_HEADER = 64 * 1024  # bytes of a .ply


class FormatError(ValueError):
    """The bytes are no splats of that format, or the splats cannot be written in it; says why in one sentence."""


def kind_of(path: Path) -> str:
    """The key of FRAMES that the name of a file ends with."""
    name = path.name.lower()
    for kind in sorted(FRAMES, key=len, reverse=True):
        if name.endswith(f".{kind}"):
            return kind
    raise FormatError(f"{path}: the name must end with one of {', '.join(f'.{kind}' for kind in FRAMES)}.")


def ply_up(path: Path) -> Up:
    """What a .ply says about itself in our comment; -y when it says nothing."""
    with path.open("rb") as file:
        header = file.read(MAX_HEADER).partition(b"end_header")[0]
    return "+y" if re.search(rb"^comment splatdistill .*\bup=\+y\b", header, flags=re.M) else "-y"


def normalized(quats: np.ndarray) -> np.ndarray:
    """[N,4] of length 1; a quaternion of zeros becomes no turn."""
    length = np.linalg.norm(quats, axis=-1, keepdims=True)
    return np.where(length > 0, quats / np.maximum(length, 1e-30), np.array([1.0, 0, 0, 0]))
