"""The formats that splats are read and written in, ours and those of other packages, and what their codecs exchange.

Without torch, for who only looks at names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from splatdistill.config import plugins

if TYPE_CHECKING:  # it takes as long to load as all the rest of a command that only asks for names
    import numpy as np

Up = Literal["+y", "-y"]
Arrays: TypeAlias = "dict[str, np.ndarray]"
"""The fields of Splats, but quaternions have length 1 and opacities [N] are in 0..1 instead of logits."""

FRAMES: dict[str, Up] = {"ply": "+y", "compressed.ply": "-y", "splat": "-y", "spz": "+y", "glb": "+y"}
"""Which axis points up in a file of this kind. A .ply without our comment is taken for -y, as most are."""
MEDIA = ("html", "mp4", "gif", "png")
"""What finished objects become for people: a page, videos, a picture."""
MESH = "mesh"
GROUP = "splatdistill.formats"
MAX_HEADER = 64 * 1024  # bytes of a .ply


@dataclass(frozen=True)
class Format:
    """A format of splats. Another package offers one as an entry point of `GROUP`, named as its files end.

    up: which axis points up in its files. encode: the bytes of N splats; FormatError for those it cannot hold. decode:
    the splats of some bytes, `shN` [N,0,3] where it has no harmonics; FormatError for bytes that are no such file.
    """

    up: Up
    encode: Callable[[Arrays], bytes]
    decode: Callable[[bytes], Arrays]


class FormatError(ValueError):
    """The bytes are no splats of that format, or the splats cannot be written in it; says why in one sentence."""


@cache
def offered() -> dict[str, EntryPoint]:
    """The formats of other packages, by how their files end; none of them is imported."""
    return plugins.offered(GROUP, taken={*FRAMES, *MEDIA, MESH})


def kinds() -> tuple[str, ...]:
    """How the files of every format end, ours first."""
    return (*FRAMES, *offered())


def of_another_package(kind: str) -> Format:
    """One of `offered`, loaded. ValueError, one sentence, where it is none."""
    point = offered()[kind]

    def fault(_: str, made: Any) -> str:
        return "" if isinstance(made, Format) else "it is not a splatdistill.io.kinds.Format"

    made = plugins.load(point, fault=fault)
    if made is None:
        raise ValueError(f"format: .{kind} of the package {plugins.package_of(point)!r} cannot be loaded.")
    return made


def kind_of(path: Path) -> str:
    """The one of `kinds` that the name of a file ends with."""
    name = path.name.lower()
    for kind in sorted(kinds(), key=len, reverse=True):
        if name.endswith(f".{kind}"):
            return kind
    raise FormatError(f"{path}: the name must end with one of {', '.join(f'.{kind}' for kind in kinds())}.")


def ply_up(path: Path) -> Up:
    """What a .ply says about itself in our comment; -y when it says nothing."""
    with path.open("rb") as file:
        header = file.read(MAX_HEADER).partition(b"end_header")[0]
    return "+y" if re.search(rb"^comment splatdistill .*\bup=\+y\b", header, flags=re.M) else "-y"


def normalized(quats: np.ndarray) -> np.ndarray:
    """Quaternions quats [N,4] wxyz made of length 1; one of zeros becomes no turn."""
    import numpy as np

    length = np.linalg.norm(quats, axis=-1, keepdims=True)
    return np.where(length > 0, quats / np.maximum(length, 1e-30), np.array([1.0, 0, 0, 0]))
