"""The one door for splats: every command reads and writes them here, in our own world of +y up.

The first bytes of a file decide what it is, not its name; `kinds` lists the formats. Layouts follow INRIA, PlayCanvas,
antimatter15, mkkellogg, Niantic, Khronos and OpenUSD. Readers are total: splats, or a FormatError.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from splatdistill.io import antimatter, compressed_ply, glb, ksplat, ply, signatures, sog, spz, usd
from splatdistill.io.bits import blocks
from splatdistill.io.files import replacing
from splatdistill.io.frames import ball, convert_frame, fitted
from splatdistill.io.kinds import (
    FRAMES,
    READ,
    SPZ_VERSION,
    STANDARD,
    Arrays,
    Assumptions,
    Format,
    FormatError,
    Hint,
    Up,
    filled_from,
    kind_of,
    normalized,
    of_another_package,
    stamped,
)
from splatdistill.scene.gaussians import FIELDS, Splats, all_finite, with_sh_degree

MOST_LOGIT = 13.8  # opacities 0 and 1, of which the logit is infinite, become 1e-6 and 1 - 1e-6
WIDEST = 80.0  # log scale beyond which a splat cannot be drawn in float32
SAYS = "as it says"
PADDED = 3  # degree to which a .ply is filled up: importers ask for 45 columns of harmonics


@dataclass(frozen=True)
class Written:
    """How a file is written. up: which axis points up in it; None takes what the format has. sh_degree: to which the
    harmonics are cut or filled up; None keeps theirs. spz_version: 2, 3 or 4.
    """

    up: Up | None = None
    sh_degree: int | None = None
    spz_version: int = SPZ_VERSION


@dataclass(frozen=True)
class Opened:
    """Splats of a file in our own world, and what was assumed. said: who says which axis is up."""

    splats: Splats
    path: Path
    kind: str
    up: Up
    said: str
    notes: tuple[str, ...]

    @property
    def assumed(self) -> bool:
        """Whether the file left anything open, or not all of it was taken."""
        return self.said != SAYS or bool(self.notes)

    def sentence(self) -> str:
        """What the file was taken for."""
        middle, extent = ball(self.splats)
        where = ", ".join(f"{float(v):.2g}" for v in middle)
        count = f"{len(self.splats)} splats of degree {self.splats.sh_degree}"
        said = f"{self.path}: .{self.kind} with {count}, {self.up[:2]} up ({self.said}), radius {extent:.3g}"
        return "; ".join([f"{said} about ({where})", *self.notes]) + "."


def write(path: Path | str, splats: Splats, *, kind: str | None = None, how: Written | None = None) -> None:
    """Writes `splats`, of our own world, whole or not at all. kind: one of `kinds`; None goes by the suffix."""
    path = Path(path)
    kind, how = kind or kind_of(path), how or Written()
    if kind == "ply":
        up, degree = how.up or FRAMES["ply"], PADDED if how.sh_degree is None else how.sh_degree
        turned = partial(convert_frame, source="+y", target=up)
        ply.write(path, splats, up=up, sh_degree=degree, turned=turned)
        return
    data = encode(splats, kind, how=how)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def encode(splats: Splats, kind: str, *, how: Written | None = None) -> bytes:
    """The bytes of a file of any kind but ply; FormatError if a value is not finite."""
    how = how or Written()
    made = FORMATS.get(kind) or of_another_package(kind)
    up = how.up or made.up
    if up != made.up and kind not in _STAMPED:
        raise FormatError(f"which axis points up in .{kind} is fixed: {made.up}.")
    degree = splats.sh_degree if how.sh_degree is None else how.sh_degree
    arrays = _arrays(splats.detach().to("cpu"), up, degree)
    if kind == "spz":
        return spz.encode(arrays, how.spz_version)
    return _STAMPED[kind](arrays, up) if kind in _STAMPED else made.encode(arrays)


def _arrays(splats: Splats, up: Up, degree: int) -> Arrays:
    """What codecs are given: splats on the CPU, turned from our world and of some degree. Some at a time, which stay in
    the cache of a core.
    """
    shapes = {name: value.shape[1:] for name, value in splats.tensors.items()} | {"shN": ((degree + 1) ** 2 - 1, 3)}
    arrays = {name: np.empty((len(splats), *shapes[name]), np.float32) for name in FIELDS}
    for rows in blocks(arrays["quats"]):
        part = with_sh_degree(Splats(**{name: splats.tensors[name][rows] for name in FIELDS}), degree)
        for name, value in convert_frame(part, source="+y", target=up).tensors.items():
            if not all_finite(value.float()):
                raise FormatError(f"the splats have {name} that are not finite; no program could show them.")
            arrays[name][rows] = value.float().numpy()
        with np.errstate(over="ignore"):  # a logit of -100 is an opacity of 0
            arrays["opacities"][rows] = 1 / (1 + np.exp(-arrays["opacities"][rows]))
        arrays["quats"][rows] = normalized(arrays["quats"][rows])
    return arrays


def read(path: Path | str, assume: Assumptions | None = None) -> Splats:
    """The splats of a file, as `open_file` finds them."""
    return open_file(path, assume).splats


def open_file(path: Path | str, assume: Assumptions | None = None, *, radius: float = 1.0) -> Opened:
    """The splats of a file of any kind that is read, as float32 in our own world.

    Splats that cannot be drawn are left out and counted. radius: of the ball that `assume.fit` fills, world units.
    """
    path, assume = Path(path), assume or Assumptions()
    try:
        kind = signatures.kind_of_file(path)
        splats, hint = _as_they_stand(path, kind)
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror or error}.") from error
    splats, notes = _drawable(path, splats)
    up: Up = READ.get(kind, hint.up or "+y")
    said = "assumed, for it does not say; --up overrules"
    if kind in STANDARD or kind not in READ:
        said = "as its format has it"
    if hint.up is not None:
        up, said = hint.up, SAYS
    if assume.up != "auto":
        up, said = assume.up, "as asked"
    splats = convert_frame(splats, source=up, target="+y", reuse=True)
    if hint.note:
        notes.append(hint.note)
    if assume.sh_degree != "auto" and assume.sh_degree != splats.sh_degree:
        done = "cut" if assume.sh_degree < splats.sh_degree else "filled up"
        notes.append(f"its harmonics of degree {splats.sh_degree} were {done}")
        splats = with_sh_degree(splats, assume.sh_degree)
    if assume.fit:
        splats, moved = fitted(splats, radius=radius)
        notes.append(moved)
    return Opened(splats, path, kind, up, said, tuple(notes))


def _as_they_stand(path: Path, kind: str) -> tuple[Splats, Hint]:
    """The splats of a file in its own frame, with whatever numbers it has, and what it says beside them."""
    if kind == "ply":
        splats, said = ply.read(path), "\n".join(ply.comments_of(path))
        filled = filled_from(said)
        return with_sh_degree(splats, filled) if filled < splats.sh_degree else splats, Hint(stamped(said))
    made = FORMATS.get(kind) or of_another_package(kind)
    data = path.read_bytes()
    try:
        hint, arrays = made.hint(data), made.decode(data)
    except FormatError as error:
        raise FormatError(f"{path} cannot be read as .{kind}: {_of_file(str(error))}") from None
    if kind not in READ:
        hint = replace(hint, up=hint.up or made.up)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # what is not finite is left out
        alpha = arrays["opacities"].astype(np.float32).clip(1e-6, 1 - 1e-6)
        arrays["opacities"] = np.log(alpha / (1 - alpha))
        tensors = {
            name: torch.from_numpy(np.require(arrays[name], np.float32, ["C", "W"]))  # pyright: ignore[reportUnknownMemberType]
            for name in FIELDS
        }
    return Splats(**tensors), hint


def _of_file(sentence: str) -> str:
    """A codec's sentence with a subject: those of ours begin with the verb."""
    return (
        sentence
        if sentence.split(" ", 1)[0] not in ("is", "has", "claims", "holds", "lies", "needs")
        else f"it {sentence}"
    )


def _drawable(path: Path, splats: Splats) -> tuple[Splats, list[str]]:
    """Those of the splats that a renderer can draw, and how many it cannot; FormatError if that is more than half."""
    tensors = dict(splats.tensors)
    if not all_finite(tensors["opacities"]):
        tensors["opacities"] = tensors["opacities"].clamp(-MOST_LOGIT, MOST_LOGIT)
    notes = list[str]()
    if not (all(map(all_finite, tensors.values())) and float(tensors["scales"].max()) < WIDEST):
        sound = tensors["scales"].amax(1) < WIDEST
        for value in tensors.values():
            sound &= torch.isfinite(value.reshape(len(value), -1)).all(1)
        dropped = len(sound) - int(sound.sum())
        if 2 * dropped > len(sound):
            found = f"{dropped} of {len(sound)} splats cannot be drawn"
            raise FormatError(f"{path} is damaged, or another kind of file: {found}.")
        tensors = {name: value[sound] for name, value in tensors.items()}
        notes.append(f"{dropped} splats that cannot be drawn were left out")
    quats = tensors["quats"]
    zero = (quats[:, 0] == 0).nonzero()[:, 0]  # of w, which is quick and finds few
    zero = zero[(quats[zero] == 0).all(1)]
    if len(zero):
        tensors["quats"] = quats.index_copy(0, zero, torch.tensor([1.0, 0, 0, 0]).expand(len(zero), 4))
    return Splats(**tensors), notes


def _write_only(_: bytes) -> Arrays:
    raise FormatError("it is written, but not read.")


def _read_only(_: Arrays) -> bytes:
    raise FormatError("it is read, but not written.")


FORMATS = {
    "compressed.ply": Format(
        FRAMES["compressed.ply"], compressed_ply.encode, compressed_ply.decode, compressed_ply.hint
    ),
    "splat": Format(FRAMES["splat"], antimatter.encode, antimatter.decode),
    "ksplat": Format(READ["ksplat"], _read_only, ksplat.decode),
    "spz": Format(FRAMES["spz"], spz.encode, spz.decode, spz.hint),
    "sog": Format(FRAMES["sog"], sog.encode, sog.decode, sog.hint),
    "glb": Format(FRAMES["glb"], glb.encode, glb.decode),
    "usda": Format(FRAMES["usda"], usd.encode, _write_only),
    "usdz": Format(FRAMES["usdz"], usd.encode_zip, _write_only),
}
"""Ours but ply."""

_STAMPED = {"compressed.ply": compressed_ply.encode, "sog": sog.encode}
"""Formats whose files can say which way is up, and so be turned either way."""
