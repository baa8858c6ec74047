"""File signatures: by its first bytes the format of a file of splats, or what else it is, in one sentence.

Without torch, for who only lists files.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np

from splatdistill.io import ksplat
from splatdistill.io.kinds import MAX_HEADER, READ, FormatError, offered, readable, suffix_of

_OTHERS = {
    rb"#usda |PXR-USDC": "is USD, which is written but not read",
    rb"version https://git-lfs": "is a pointer of Git LFS, not the file itself: fetch it with git lfs pull",
    rb"\s*<(!DOCTYPE|html|\?xml)": "is a web page or XML, not the file that was to be downloaded",
    rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP|....ftyp": "is a picture or a film",
    rb"\x89HDF": "is HDF5, not a file of splats",
    rb"\x80[\x02-\x05]": "is a pickle of Python, which nothing here opens: it could run code",
    rb"solid |Kaydara FBX|OFF\s|(#[^\n]*\n|\s)*(mtllib|v|o|g) ": (
        "is a mesh, not splats; train --init points:FILE starts from one"
    ),
    rb"7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd|\xfd7zXZ|BZh": "is an archive: unpack it first",
    rb"LASF": "is a laser scan (.las), not splats",
}


def kind_of_file(path: Path) -> str:
    """The format of a file of splats; FormatError, one sentence, for anything else."""
    if not path.is_file():
        raise FormatError(f"{path} is not a file.")
    if suffix := suffix_of(path, tuple(offered())):  # of another package: only its reader knows how it begins
        return suffix
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(MAX_HEADER)
    if not start:
        raise FormatError(f"{path} is empty.")
    kind = _by_magic(path, start) or _without_magic(path, start, size)
    if kind:
        return kind
    for pattern, said in _OTHERS.items():
        if re.match(pattern, start, flags=re.S):
            raise FormatError(f"{path} {said}.".replace("FILE", str(path)))
    if start.lstrip()[:1] == b"{":
        raise FormatError(f"{path} {_json(start)}")
    kinds = ", ".join(f".{kind}" for kind in readable())
    raise FormatError(f"{path} is no file of splats that is known here; {kinds} are read.")


def _by_magic(path: Path, start: bytes) -> str:
    if start[:3] == b"ply":
        packed = re.search(
            rb"^property\s+uint(32)?\s+packed_position\s*$", start.partition(b"end_header")[0], flags=re.M
        )
        return "compressed.ply" if packed else "ply"
    if start[:4] == b"glTF":
        return "glb"
    if start[:4] == b"NGSP" or start[:2] == b"\x1f\x8b":
        return "spz"
    if start[:4] == b"PK\3\4":
        return _in_zip(path)
    return ""


def _without_magic(path: Path, start: bytes, size: int) -> str:
    """.splat and .ksplat have no mark of their own: the name decides, where the bytes allow both."""
    suffix = suffix_of(path, tuple(READ))
    if suffix in ("splat", "ksplat"):
        return "ksplat" if ksplat.looks_like(start) and (suffix == "ksplat" or size % 32) else suffix
    if ksplat.looks_like(start):
        return "ksplat"
    return "splat" if size % 32 == 0 and _like_splats(start[:2048]) else ""


def _like_splats(start: bytes) -> bool:
    """Whether bytes may begin a .splat: more than half of the first 64 have scales and turns that a splat has."""
    whole = start[: len(start) // 32 * 32]
    rows = np.frombuffer(whole, [("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])
    with np.errstate(invalid="ignore", over="ignore"):
        length = np.linalg.norm((rows["quat"].astype(np.float32) - 128) / 128, axis=-1)
        sane = np.isfinite(rows["mean"]).all(-1) & (rows["scale"] > 0).all(-1) & (rows["scale"] < 1e6).all(-1)
    return bool(len(rows) and (sane & (np.abs(length - 1) < 0.1)).mean() > 0.5)


def _in_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise FormatError(f"{path} is a zip that is cut or damaged.") from None
    if "meta.json" in names or suffix_of(path, tuple(READ)) == "sog":
        return "sog"
    if any(name.endswith((".usda", ".usdc", ".usd")) for name in names):
        raise FormatError(f"{path} is USD, which is written but not read.")
    if any(name.endswith("data.pkl") for name in names):
        raise FormatError(f"{path} is a checkpoint of PyTorch, which nothing here opens: export its splats as .ply.")
    raise FormatError(f"{path} is a zip without meta.json, so no .sog: unpack it first.")


def _json(start: bytes) -> str:
    if b'"means"' in start:
        return "describes a .sog that is not packed: put it and its pictures into one zip, without folders."
    if b'"asset"' in start:
        return "is glTF with its numbers in other files; .glb, with all in one, is read."
    return "is JSON, not a file of splats."
