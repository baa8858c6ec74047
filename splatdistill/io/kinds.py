"""The formats that splats are read and written in, ours and those of other packages, and what their codecs exchange.

Without torch, for who only reads names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from splatdistill.config import plugins
from splatdistill.config.base import Degree, UpAxis

if TYPE_CHECKING:  # it takes as long to load as all the rest of a command that only asks for names
    import numpy as np

Up = Literal["+y", "-y", "-y-z", "+z", "-z"]
"""The axis of a file that points up. -y is our world turned about z, so that +z stays the front: so do PlayCanvas's
programs, which alone convert between both. -y-z is turned about x, so that -z is the front, as version 0.1 had it; +z
and -z are turned about x too, as Blender does.
"""
Arrays: TypeAlias = "dict[str, np.ndarray]"
"""The fields of Splats, but quaternions have length 1 and opacities [N] are in 0..1 instead of logits."""

FRAMES: dict[str, Up] = {
    "ply": "-y", "compressed.ply": "-y", "splat": "-y", "spz": "+y", "sog": "-y", "glb": "+y", "usda": "+y",
    "usdz": "+y",
}  # fmt: skip
"""The formats that are written, and which axis points up in our files of them."""
READ: dict[str, Up] = {
    "ply": "-y", "compressed.ply": "-y", "splat": "-y", "spz": "-y", "sog": "-y", "ksplat": "-y", "glb": "+y",
}  # fmt: skip
"""The formats that are read, and which axis is taken to point up where a file does not say."""
STANDARD = ("glb",)
"""Formats of which the standard says which axis points up, and writers keep to it."""
FILMED = ("mp4", "gif", "png")
MEDIA = ("html", *FILMED)
"""What finished objects become for people: a page, videos, a picture."""
MESH = "mesh"
GROUP = "splatdistill.formats"
SPZ_VERSION: Literal[2, 3, 4] = 3
"""The version of a .spz where none is asked for: Spark 2.2 reads 2 and 3 alone."""
MAX_HEADER = 64 * 1024  # bytes of a .ply
MAX_SPLATS = 20_000_000


@dataclass(frozen=True)
class Assumptions:
    """How a file of splats is taken."""

    up: UpAxis = "auto"
    """The axis of the file that points up. auto: what the file says; without that +y for .glb and -y for others."""
    fit: bool = False
    """Move and scale the splats of the file so that they fill the ball that the cameras look at."""
    sh_degree: Degree = "auto"
    """Degree of the harmonics of colour; auto keeps the file's."""


@dataclass(frozen=True)
class Hint:
    """What the bytes of a file say apart from the splats. up: None where they do not say. note: what is not read."""

    up: Up | None = None
    note: str = ""


@dataclass(frozen=True)
class Format:
    """A format of splats. Another package offers one as an entry point of `GROUP`, named as its files end.

    up: which axis points up in its files. encode: the bytes of N splats; FormatError for those it cannot hold. decode:
    the splats of some bytes, `shN` [N,0,3] where it has no harmonics; FormatError for bytes that are no such file.
    hint: what else the bytes say.
    """

    up: Up
    encode: Callable[[Arrays], bytes]
    decode: Callable[[bytes], Arrays]
    hint: Callable[[bytes], Hint] = lambda _: Hint()


class FormatError(ValueError):
    """The bytes are no splats of that format, or the splats cannot be written in it; says why in one sentence."""


@cache
def offered() -> dict[str, EntryPoint]:
    """The formats of other packages, by how their files end; none of them is imported."""
    return plugins.offered(GROUP, taken={*FRAMES, *READ, *MEDIA, MESH})


def kinds() -> tuple[str, ...]:
    """How the files of every format that is written end, ours first."""
    return (*FRAMES, *offered())


def readable() -> tuple[str, ...]:
    """How the files of every format that is read end, ours first."""
    return (*READ, *offered())


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
    """The one of `kinds` that the name of a file to be written ends with."""
    kind = suffix_of(path, kinds())
    if not kind:
        raise FormatError(f"{path}: the name must end with one of {', '.join(f'.{kind}' for kind in kinds())}.")
    return kind


def suffix_of(path: Path, of: tuple[str, ...]) -> str:
    """The longest of some kinds that the name of a file ends with, or nothing."""
    name = path.name.lower()
    return next((kind for kind in sorted(of, key=len, reverse=True) if name.endswith(f".{kind}")), "")


def stamp(up: str, more: str = "") -> str:
    """The comment by which a .ply of ours says which way is up. more: what else it says."""
    return f"splatdistill {more}up={up} front=+z" if up == "-y" else f"splatdistill {more}up={up}"


def stamped(text: str) -> Up | None:
    """What a comment of `stamp` among the comments of a .ply says; None where there is none."""
    found = re.search(r"^splatdistill .*\bup=([+-][yz])( front=\+z)?", text, flags=re.M)
    if found is None:
        return None
    return "-y-z" if found[1] == "-y" and not found[2] else cast(Up, found[1])  # version 0.1 turned about x


def filled_from(text: str) -> int:
    """The degree beyond which a .ply of ours says that its harmonics are only filled up, from its comments."""
    found = re.search(r"^splatdistill .*\bsh=([0-3])\b", text, flags=re.M)
    return int(found[1]) if found else 3


def ply_up(path: Path) -> Up:
    """What a .ply says about itself in our comment; -y when it says nothing."""
    with path.open("rb") as file:
        header = file.read(MAX_HEADER).partition(b"end_header")[0].decode("latin-1")
    return stamped(re.sub(r"^comment ", "", header, flags=re.M)) or READ["ply"]


def from_colours(
    means: np.ndarray,
    scales: np.ndarray,
    quats: np.ndarray,
    opacities: np.ndarray,
    rgb: np.ndarray,
    shN: np.ndarray | None = None,
) -> Arrays:
    """Arrays of a format that keeps rgb [N,3] in 0..1, and of shN [N,S-1,3] or none."""
    import numpy as np

    from splatdistill.ops.geometry import SH_C0

    sh0 = ((rgb - np.float32(0.5)) * np.float32(1 / SH_C0))[:, None]
    shN = np.zeros((len(means), 0, 3), np.float32) if shN is None else shN
    return {"means": means, "scales": scales, "quats": quats, "opacities": opacities, "sh0": sh0, "shN": shN}


def normalized(quats: np.ndarray) -> np.ndarray:
    """Quaternions quats [N,4] wxyz, float, made of length 1; one of zeros becomes no turn."""
    import numpy as np

    w, x, y, z = (quats * quats).T
    length = np.sqrt(w + x + y + z)
    if not length.all():
        quats = np.where(length[:, None] > 0, quats, np.array([1, 0, 0, 0], quats.dtype))
        length = np.where(length > 0, length, np.ones(1, quats.dtype))
    return quats / np.repeat(length, 4).reshape(quats.shape)  # one division after the other, several times as fast
