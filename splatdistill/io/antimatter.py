"""antimatter15's .splat: 32 bytes a splat, positions and scales in float32, the rest in 8 bits, nothing else."""

from __future__ import annotations

import numpy as np

from splatdistill.io.bits import as_numbers, as_one, blocks, in_blocks, rounded, sorted_order, to_bytes
from splatdistill.io.kinds import Arrays, FormatError, from_colours, normalized
from splatdistill.ops.geometry import SH_C0

_ROW = np.dtype([("mean", "V12"), ("scale", "V12"), ("rgb", "V3"), ("alpha", "u1"), ("quat", "V4")])


def encode(a: Arrays) -> bytes:
    """The most visible first, for viewers that draw what has arrived."""
    rows = np.empty(len(a["means"]), _ROW)
    seen = np.empty(len(rows), np.float32)
    for part in blocks(a["quats"]):
        seen[part] = _pack({name: value[part] for name, value in a.items()}, rows[part])
    return np.take(rows, sorted_order(~seen.view(np.uint32))).tobytes()  # bits of floats above 0 grow as they do


def _pack(a: Arrays, rows: np.ndarray) -> np.ndarray:
    """Fills rows [N]; how much there is to be seen of each splat [N]."""
    scales = np.exp(a["scales"])
    rows["mean"], rows["scale"] = as_one(a["means"], "<f4"), as_one(scales, "<f4")
    rows["rgb"] = as_one(to_bytes(np.float32(0.5) + np.float32(SH_C0) * a["sh0"][:, 0]), "u1")
    rows["alpha"] = to_bytes(a["opacities"])
    rows["quat"] = as_one(rounded(a["quats"] * np.float32(128) + np.float32(128), 255, np.uint8), "u1")
    return a["opacities"] * scales[:, 0] * scales[:, 1] * scales[:, 2]


def decode(data: bytes) -> Arrays:
    if not data or len(data) % _ROW.itemsize:
        raise FormatError(f"{len(data)} bytes are no whole number of splats of {_ROW.itemsize}.")
    rows = np.frombuffer(data, _ROW)
    rgb = as_numbers(rows["rgb"], "u1") * np.float32(1 / 255)
    quats = in_blocks(_unit, as_numbers(rows["quat"], "u1"), np.empty((len(rows), 4), np.float32))
    with np.errstate(divide="ignore", invalid="ignore"):  # a scale of 0 or less cannot be drawn, and is dropped
        scales = np.log(as_numbers(rows["scale"], "<f4"))
    alpha = rows["alpha"] * np.float32(1 / 255)
    return from_colours(as_numbers(rows["mean"], "<f4"), scales, quats, alpha, rgb)


def _unit(quats: np.ndarray) -> np.ndarray:
    """[N,4] float32 of length 1, of bytes."""
    return normalized(quats - np.float32(128))
