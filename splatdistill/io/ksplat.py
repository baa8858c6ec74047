"""mkkellogg's .ksplat, read: sections of splats in buckets, at three levels of compression.

Level 0 is float32; 1 and 2 have positions in 16 bits about the middle of their bucket and half floats; 2 has harmonics
in 8 bits. Colours and opacities are bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from splatdistill.io.kinds import MAX_SPLATS, Arrays, FormatError, from_colours

_HEADER, _SECTION = 4096, 1024  # bytes
_HARMONICS = {0: 0, 1: 3, 2: 8, 3: 15}  # by degree


@dataclass(frozen=True)
class _Layout:
    row: np.dtype
    level: int
    harmonics: int
    least: float
    most: float


def looks_like(data: bytes) -> bool:
    """Whether bytes without a magic number may be such a file."""
    if len(data) < _HEADER + _SECTION or data[0] != 0 or not 1 <= data[1] < 16:
        return False
    sections, _, _, splats = struct.unpack_from("<IIII", data, 4)
    level = struct.unpack_from("<H", data, 20)[0]
    count, room = struct.unpack_from("<II", data, _HEADER)
    return 0 < sections < 1 << 16 and 0 < splats <= MAX_SPLATS and level < 3 and count <= room


def decode(data: bytes) -> Arrays:
    if not looks_like(data):
        raise FormatError("has no header of .ksplat of version 0.1 or later.")
    (sections,), (level,) = struct.unpack_from("<I", data, 4), struct.unpack_from("<H", data, 20)
    least, most = struct.unpack_from("<ff", data, 36)
    if not least < most:  # files without harmonics leave them 0
        least, most = -1.5, 1.5
    at, parts = _HEADER + sections * _SECTION, list[Arrays]()
    if at > len(data):
        raise FormatError(f"claims {sections} sections in {len(data)} bytes.")
    for i in range(sections):
        head = _HEADER + i * _SECTION
        count, room, _, buckets = struct.unpack_from("<IIII", data, head)
        degree = struct.unpack_from("<H", data, head + 40)[0]
        if degree not in _HARMONICS:
            raise FormatError(f"has harmonics of degree {degree}; degree 0 to 3 are read.")
        layout = _Layout(_row(level, 3 * _HARMONICS[degree]), level, _HARMONICS[degree], least, most)
        meta, size = _bucket_bytes(data, head, buckets), room * layout.row.itemsize
        if count > room or at + meta + size > len(data):
            raise FormatError(f"has a section of {room} splats that does not lie inside the file.")
        if count:
            rows = np.frombuffer(data, layout.row, count, at + meta)
            parts.append(_splats(rows, _middles(data, head, at, count), layout))
        at += meta + size
    if sum(len(part["means"]) for part in parts) == 0:
        raise FormatError("holds no splats.")
    widest = max(part["shN"].shape[1] for part in parts)
    for part in parts:
        part["shN"] = np.pad(part["shN"], [(0, 0), (0, widest - part["shN"].shape[1]), (0, 0)])
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _row(level: int, harmonics: int) -> np.dtype:
    place, half = ("<f4", "<f4") if level == 0 else ("<u2", "<f2")
    fields = [("mean", place, 3), ("scale", half, 3), ("quat", half, 4), ("rgba", "u1", 4)]
    return np.dtype([*fields, ("sh", ("<f4", "<f2", "u1")[level], harmonics)])


def _bucket_bytes(data: bytes, head: int, buckets: int) -> int:
    """Bytes in front of the splats of a section: how full the last buckets are, and the middles of all."""
    storage = struct.unpack_from("<H", data, head + 20)[0]
    partial = struct.unpack_from("<I", data, head + 36)[0]
    return storage * buckets + 4 * partial


def _middles(data: bytes, head: int, at: int, count: int) -> tuple[np.ndarray, float, int]:
    """[count,3] middle of each splat's bucket, the size of a step, and the step in the middle."""
    _, _, capacity, buckets = struct.unpack_from("<IIII", data, head)
    block = struct.unpack_from("<f", data, head + 16)[0]
    storage = struct.unpack_from("<H", data, head + 20)[0]
    steps = struct.unpack_from("<I", data, head + 24)[0] or 32767
    full, partial = struct.unpack_from("<II", data, head + 32)
    if not buckets:
        return np.zeros((count, 3)), 0.0, steps
    if storage != 12 or full + partial > buckets or capacity > MAX_SPLATS:
        raise FormatError("has buckets that do not fit its sections.")
    sizes = np.concatenate([np.full(full, capacity), np.frombuffer(data, "<u4", partial, at)]).astype(np.int64)
    middles = np.frombuffer(data, "<f4", 3 * buckets, at + 4 * partial).reshape(buckets, 3)
    bucket = np.searchsorted(np.cumsum(sizes), np.arange(count), side="right")
    if len(bucket) and bucket[-1] >= buckets:
        raise FormatError("has more splats than its buckets hold.")
    return middles[bucket], block / 2 / steps, steps


def _splats(rows: np.ndarray, middles: tuple[np.ndarray, float, int], layout: _Layout) -> Arrays:
    means = rows["mean"].astype(np.float64)
    if layout.level:
        middle, step, zero = middles
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is dropped
            means = (means - zero) * step + middle
    with np.errstate(divide="ignore", invalid="ignore"):
        scales = np.log(rows["scale"].astype(np.float32))
    sh = rows["sh"].astype(np.float32)
    if layout.level == 2:
        sh = layout.least + sh / 255 * (layout.most - layout.least)
    bands, at = list[np.ndarray](), 0
    for width in (3, 5, 7)[: {0: 0, 3: 1, 8: 2, 15: 3}[layout.harmonics]]:  # each band channel by channel
        bands.append(sh[:, at : at + 3 * width].reshape(len(rows), 3, width).transpose(0, 2, 1))
        at += 3 * width
    shN = np.concatenate(bands, 1) if bands else None
    colour = rows["rgba"].astype(np.float32) / 255
    return from_colours(means, scales, rows["quat"].astype(np.float32), colour[:, 3], colour[:, :3], shN)
