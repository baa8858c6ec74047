"""antimatter15's .splat: 32 bytes a splat, positions and scales in float32, the rest in 8 bits, nothing else."""

from __future__ import annotations

import numpy as np

from splatdistill.io.bits import rounded, sorted_order, to_bytes
from splatdistill.io.kinds import Arrays, FormatError, from_colours, normalized
from splatdistill.ops.geometry import SH_C0

_ROW = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])


def encode(a: Arrays) -> bytes:
    """The most visible first, for viewers that draw what has arrived."""
    rows = np.empty(len(a["means"]), _ROW)
    scales = np.exp(a["scales"])
    rows["mean"], rows["scale"] = a["means"], scales
    rows["rgba"][:, :3] = to_bytes(np.float32(0.5) + np.float32(SH_C0) * a["sh0"][:, 0])
    rows["rgba"][:, 3] = to_bytes(a["opacities"])
    rows["quat"] = rounded(a["quats"] * np.float32(128) + np.float32(128), 255, np.uint8)
    seen = (a["opacities"] * scales[:, 0] * scales[:, 1] * scales[:, 2]).astype(np.float32)
    return np.take(rows, sorted_order(~seen.view(np.uint32))).tobytes()  # bits of floats above 0 grow as they do


def decode(data: bytes) -> Arrays:
    if not data or len(data) % _ROW.itemsize:
        raise FormatError(f"{len(data)} bytes are no whole number of splats of {_ROW.itemsize}.")
    rows = np.frombuffer(data, _ROW)
    colour = rows["rgba"].astype(np.float32)
    colour *= np.float32(1 / 255)
    quats = rows["quat"].astype(np.float32)
    quats -= np.float32(128)
    quats = normalized(quats)
    with np.errstate(divide="ignore", invalid="ignore"):  # a scale of 0 or less cannot be drawn, and is dropped
        scales = np.log(np.ascontiguousarray(rows["scale"]))
    return from_colours(rows["mean"], scales, quats, colour[:, 3], colour[:, :3])
