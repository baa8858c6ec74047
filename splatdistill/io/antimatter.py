"""antimatter15's .splat: 32 bytes a splat, positions and scales in float32, the rest in 8 bits, nothing else."""

from __future__ import annotations

import numpy as np

from splatdistill.io.bits import to_bytes
from splatdistill.io.kinds import Arrays, FormatError, from_colours, normalized
from splatdistill.ops.geometry import SH_C0

_ROW = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])


def encode(a: Arrays) -> bytes:
    """The most visible first, for viewers that draw what has arrived."""
    rows = np.empty(len(a["means"]), _ROW)
    rows["mean"], rows["scale"] = a["means"], np.exp(a["scales"])
    rows["rgba"] = np.concatenate([to_bytes(0.5 + SH_C0 * a["sh0"][:, 0]), to_bytes(a["opacities"][:, None])], 1)
    rows["quat"] = np.rint(a["quats"] * 128 + 128).clip(0, 255)
    seen = a["opacities"] * np.exp(a["scales"].sum(-1))
    return rows[np.argsort(-seen, kind="stable")].tobytes()


def decode(data: bytes) -> Arrays:
    if not data or len(data) % _ROW.itemsize:
        raise FormatError(f"{len(data)} bytes are no whole number of splats of {_ROW.itemsize}.")
    rows = np.frombuffer(data, _ROW)
    colour = rows["rgba"].astype(np.float32) / 255
    quats = normalized((rows["quat"].astype(np.float32) - 128) / 128)
    with np.errstate(divide="ignore", invalid="ignore"):  # a scale of 0 or less cannot be drawn, and is dropped
        scales = np.log(rows["scale"])
    return from_colours(rows["mean"], scales, quats, colour[:, 3], colour[:, :3])
