"""Splats in the formats that other programs read; `kinds.FRAMES` says which way is up in each.

.ply keeps everything, and so does .glb, as KHR_gaussian_splatting. .compressed.ply has positions and log scales in 10
or 11 bits within chunks of 256 splats, quaternions in 10, colours in 8. .splat has float32 positions and scales, the
rest in 8 bits and no harmonics. .spz, version 3, has positions in 24 bits, quaternions in 10, and the rest in 8.
Layouts follow INRIA, PlayCanvas, antimatter15, Niantic and Khronos. Readers are total: splats, or a FormatError.
"""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from splatdistill.io import glb, ply
from splatdistill.io.files import replacing
from splatdistill.io.frames import convert_frame
from splatdistill.io.kinds import (
    FRAMES,
    MAX_HEADER,
    Arrays,
    Format,
    FormatError,
    kind_of,
    normalized,
    of_another_package,
    ply_up,
)
from splatdistill.ops.geometry import SH_C0
from splatdistill.scene.gaussians import FIELDS, Splats

MAX_SPLATS = 20_000_000
MAX_RATIO = 32  # of unpacked to packed bytes of a .spz; positions alone keep it below 8
CHUNK = 256  # splats that share the bounds of a .compressed.ply

_LEAST = 1e-6  # opacities 0 and 1 have no logit


def write(path: Path | str, splats: Splats, *, kind: str | None = None) -> None:
    """Writes `splats`, of our own world, whole or not at all. kind: one of `kinds`; None goes by the suffix."""
    path = Path(path)
    kind = kind or kind_of(path)
    if kind == "ply":
        ply.write(path, splats)
        return
    data = encode(splats, kind)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def encode(splats: Splats, kind: str) -> bytes:
    """The bytes of a file of any kind but ply; ValueError if a value is not finite."""
    made = _FORMATS.get(kind) or of_another_package(kind)
    splats = convert_frame(splats.detach().to("cpu"), source="+y", target=made.up)
    arrays = {name: splats.tensors[name].float().numpy() for name in FIELDS}
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise FormatError(f"the splats have {name} that are not finite; no program could show them.")
    arrays["opacities"] = 1 / (1 + np.exp(-arrays["opacities"].astype(np.float64)))
    arrays["quats"] = normalized(arrays["quats"])
    return made.encode(arrays)


def read(path: Path | str) -> Splats:
    """Reads splats of any kind, told by its suffix, as float32 in our own world."""
    path = Path(path)
    kind = kind_of(path)
    if not path.is_file():
        raise FormatError(f"{path} is not a file.")
    if kind == "ply":
        return convert_frame(ply.read(path), source=ply_up(path), target="+y")
    made = _FORMATS.get(kind) or of_another_package(kind)
    try:
        arrays = made.decode(path.read_bytes())
    except FormatError as error:
        raise FormatError(f"{path} cannot be read as .{kind}: {error}") from None
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise FormatError(f"{path} has {name} that are not finite.")
    alpha = arrays["opacities"].astype(np.float64).clip(_LEAST, 1 - _LEAST)
    arrays["opacities"] = np.log(alpha / (1 - alpha))
    tensors = {
        name: torch.from_numpy(np.array(arrays[name], np.float32))  # pyright: ignore[reportUnknownMemberType]
        for name in FIELDS
    }
    return convert_frame(Splats(**tensors), source=made.up, target="+y")


def _encode_splat(a: Arrays) -> bytes:
    """32 bytes a splat, the most visible first, for viewers that draw what has arrived."""
    rows = np.empty(len(a["means"]), _SPLAT)
    rows["mean"], rows["scale"] = a["means"], np.exp(a["scales"])
    rows["rgba"] = np.concatenate([_bytes(0.5 + SH_C0 * a["sh0"][:, 0]), _bytes(a["opacities"][:, None])], 1)
    rows["quat"] = np.rint(a["quats"] * 128 + 128).clip(0, 255)
    seen = a["opacities"] * np.exp(a["scales"].sum(-1))
    return rows[np.argsort(-seen, kind="stable")].tobytes()


def _decode_splat(data: bytes) -> Arrays:
    if not data or len(data) % _SPLAT.itemsize:
        raise FormatError(f"{len(data)} bytes are no whole number of splats of {_SPLAT.itemsize}.")
    rows = np.frombuffer(data, _SPLAT)
    if not (np.isfinite(rows["scale"]).all() and (rows["scale"] > 0).all()):
        raise FormatError("a scale is not above 0.")
    colour = rows["rgba"].astype(np.float32) / 255
    quats = normalized((rows["quat"].astype(np.float32) - 128) / 128)
    return _arrays(rows["mean"], np.log(rows["scale"]), quats, colour[:, 3], colour[:, :3])


_SPLAT = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])


def _encode_spz(a: Arrays) -> bytes:
    n, harmonics = len(a["means"]), a["shN"].shape[1]
    fraction = 12
    while np.abs(a["means"]).max() * 2**fraction >= 2**23:
        fraction -= 1
        if fraction < 0:
            raise FormatError("a position lies too far out for .spz.")
    fixed = np.rint(a["means"].astype(np.float64) * 2**fraction).astype("<i4")
    blocks = [
        struct.pack("<IIIBBBB", _SPZ_MAGIC, 3, n, {0: 0, 3: 1, 8: 2, 15: 3}[harmonics], fraction, 0, 0),
        fixed[..., None].view("u1")[..., :3].tobytes(),
        _bytes(a["opacities"]).tobytes(),
        _bytes(0.15 * a["sh0"][:, 0] + 0.5).tobytes(),
        np.rint((a["scales"] + 10) * 16).clip(0, 255).astype("u1").tobytes(),
        _smallest_three(a["quats"][:, [1, 2, 3, 0]]).astype("<u4").tobytes(),
        np.rint(a["shN"] * 128 + 128).clip(0, 255).astype("u1").tobytes(),
    ]
    return gzip.compress(b"".join(blocks), mtime=0)


def _decode_spz(data: bytes) -> Arrays:
    """Versions 2 and 3."""
    unzip = zlib.decompressobj(wbits=31)
    try:
        head = unzip.decompress(data, 16)
        if len(head) < 16 or head[:4] != struct.pack("<I", _SPZ_MAGIC):
            raise FormatError("it has no header of .spz.")
        _, version, n, degree, fraction, _, _ = struct.unpack("<IIIBBBB", head)
        if version not in (2, 3):
            raise FormatError(f"it is of version {version}; versions 2 and 3 are read.")
        if not 0 < n <= MAX_SPLATS or degree > 3 or fraction > 23:
            raise FormatError(f"it claims {n} splats of degree {degree} with {fraction} bits of fraction.")
        harmonics, turn = (degree + 1) ** 2 - 1, 4 if version == 3 else 3
        sizes = [9 * n, n, 3 * n, 3 * n, turn * n, 3 * harmonics * n]
        if sum(sizes) > max(MAX_RATIO * len(data), 1 << 20):
            raise FormatError(f"it claims {sum(sizes)} bytes in {len(data)}: no scene packs as small as that.")
        body = unzip.decompress(unzip.unconsumed_tail, sum(sizes) + 1)
    except zlib.error as error:
        raise FormatError(f"it is not gzip: {error}.") from None
    if len(body) != sum(sizes) or not unzip.eof:
        raise FormatError(f"{n} splats need {sum(sizes)} bytes, but it unpacks to fewer or more.")
    cuts = np.cumsum(sizes)[:-1]
    place, alpha, colour, scale, quat, sh = np.split(np.frombuffer(body, "u1"), cuts)
    fixed = np.zeros((n, 3, 4), "u1")
    fixed[..., 1:] = place.reshape(n, 3, 3)  # the upper three bytes of an int32 keep the sign
    means = (fixed.view("<i4")[..., 0] >> 8) / 2.0**fraction
    if version == 3:
        quats = _from_smallest_three(quat.view("<u4"))
    else:
        xyz = quat.reshape(n, 3) / 127.5 - 1
        quats = np.concatenate([xyz, np.sqrt((1 - (xyz**2).sum(-1, keepdims=True)).clip(0))], 1)
    rgb = (colour.reshape(n, 3) / 255 - 0.5) / 0.15 * SH_C0 + 0.5
    shN = (sh.reshape(n, harmonics, 3).astype(np.float32) - 128) / 128
    return _arrays(means, scale.reshape(n, 3) / 16.0 - 10, quats[:, [3, 0, 1, 2]], alpha / 255, rgb, shN)


_SPZ_MAGIC = 0x5053474E


def _smallest_three(quats: np.ndarray) -> np.ndarray:
    """[N] uint32 of [N,4] unit: index of the largest, then of each other a sign and 9 bits of magnitude."""
    largest = np.abs(quats).argmax(-1)
    quats = quats * np.where(np.take_along_axis(quats, largest[:, None], 1) < 0, -1.0, 1.0)
    packed: np.ndarray = largest.astype(np.uint32)
    for i in range(4):
        part = (quats[:, i] < 0).astype(np.uint32) << 9 | np.rint(np.abs(quats[:, i]) * 2**0.5 * 511).astype(np.uint32)
        packed = np.where(largest == i, packed, packed << 10 | part)
    return packed


def _from_smallest_three(packed: np.ndarray) -> np.ndarray:
    largest = packed >> 30
    packed = packed.copy()
    quats = np.zeros((len(packed), 4))
    for i in reversed(range(4)):
        part = (packed & 511) / 511 * 0.5**0.5 * np.where(packed >> 9 & 1, -1.0, 1.0)
        quats[:, i] = np.where(largest == i, 0, part)
        packed = np.where(largest == i, packed, packed >> 10)
    rest = np.sqrt((1 - (quats**2).sum(-1)).clip(0))
    np.put_along_axis(quats, largest[:, None].astype(np.int64), rest[:, None], 1)
    return quats


def _encode_compressed(a: Arrays) -> bytes:
    n = len(a["means"])
    order = _morton(a["means"])
    a = {name: value[order] for name, value in a.items()}
    rgb = 0.5 + SH_C0 * a["sh0"][:, 0]
    starts = np.arange(0, n, CHUNK)
    bounds: list[np.ndarray] = []
    units: list[np.ndarray] = []
    for values in (a["means"], a["scales"].clip(-20, 20), rgb):
        low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
        bounds += [low, high]
        chunk = np.arange(n) // CHUNK
        units.append((values - low[chunk]) / np.maximum(high - low, 1e-12)[chunk])
    means, scales, colours = units
    rows = np.empty(n, _COMPRESSED)
    rows["position"], rows["scale"] = _bits(means, (11, 10, 11)), _bits(scales, (11, 10, 11))
    rows["rotation"] = _largest_and_rest(a["quats"])
    rows["color"] = _bits(np.concatenate([colours, a["opacities"][:, None]], 1), (8, 8, 8, 8))
    tables = [("chunk", np.concatenate(bounds, 1).astype("<f4"), [("float", f"{m}_{x}") for m, x in _BOUNDS])]
    tables.append(("vertex", rows, [("uint", f"packed_{name}") for name in rows.dtype.names or ()]))
    if rest := a["shN"][0].size:
        sh = (a["shN"].transpose(0, 2, 1).reshape(n, rest) / 8 + 0.5) * 256
        tables.append(("sh", sh.clip(0, 255).astype("u1"), [("uchar", f"f_rest_{i}") for i in range(rest)]))
    lines = ["ply", "format binary_little_endian 1.0", "comment splatdistill up=-y"]
    for name, table, properties in tables:
        lines += [f"element {name} {len(table)}", *(f"property {kind} {field}" for kind, field in properties)]
    return "\n".join([*lines, "end_header\n"]).encode() + b"".join(table.tobytes() for _, table, _ in tables)


_COMPRESSED = np.dtype([(name, "<u4") for name in ("position", "rotation", "scale", "color")])
_BOUNDS = [
    (m, f"{of}{x}") for of, xs in (("", "xyz"), ("scale_", "xyz"), ("", "rgb")) for m in ("min", "max") for x in xs
]


def _decode_compressed(data: bytes) -> Arrays:
    start, end, _ = data[:MAX_HEADER].partition(b"end_header\n")
    shape = re.fullmatch(_HEADER, re.sub(rb"(comment|obj_info)[^\n]*\n", b"", start))
    if not end or shape is None:
        raise FormatError("its header is not that of a .compressed.ply.")
    chunks, n, num_sh = (int(shape[i] or 0) for i in (1, 2, 3))
    rest = start.count(b"property uchar f_rest_") if shape[3] else 0
    if not 0 < n <= MAX_SPLATS or chunks != -(-n // CHUNK) or rest not in (0, 9, 24, 45) or num_sh != n * bool(rest):
        raise FormatError(f"it claims {n} splats, {chunks} chunks and {num_sh} rows of {rest} harmonics.")
    sizes = [chunks * len(_BOUNDS) * 4, n * _COMPRESSED.itemsize, n * rest]
    body = data[len(start) + len(end) :]
    if len(body) != sum(sizes):
        raise FormatError(f"{n} splats need {sum(sizes)} bytes after the header, but there are {len(body)}.")
    bounds = np.frombuffer(body, "<f4", sizes[0] // 4).reshape(chunks, 3, 2, 3)[np.arange(n) // CHUNK]
    rows = np.frombuffer(body, _COMPRESSED, n, offset=sizes[0])
    sh = np.frombuffer(body, "u1", n * rest, offset=sizes[0] + sizes[1]).reshape(n, 3, rest // 3)
    colour = _unbits(rows["color"], (8, 8, 8, 8))
    units = [_unbits(rows["position"], (11, 10, 11)), _unbits(rows["scale"], (11, 10, 11)), colour[:, :3]]
    means, scales, rgb = (
        low + unit * (high - low) for unit, (low, high) in zip(units, bounds.transpose(1, 2, 0, 3), strict=True)
    )
    shN = ((sh.transpose(0, 2, 1) + 0.5) / 256 - 0.5) * 8
    return _arrays(means, scales, _from_largest_and_rest(rows["rotation"]), colour[:, 3], rgb, shN)


_HEADER = (
    rb"ply\nformat binary_little_endian 1\.0\nelement chunk ([0-9]{1,9})\n"
    + "".join(f"property float {m}_{x}\n" for m, x in _BOUNDS).encode()
    + rb"element vertex ([0-9]{1,9})\n"
    + "".join(f"property uint packed_{name}\n" for name in _COMPRESSED.names or ()).encode()
    + rb"(?:element sh ([0-9]{1,9})\n(?:property uchar f_rest_[0-9]{1,2}\n)+)?"
)


def _largest_and_rest(quats: np.ndarray) -> np.ndarray:
    """[N] uint32 of [N,4] unit wxyz: index of the largest, then the others in -sqrt(1/2)..sqrt(1/2), 10 bits each."""
    largest = np.abs(quats).argmax(-1)
    quats = quats * np.where(np.take_along_axis(quats, largest[:, None], 1) < 0, -1.0, 1.0)
    others = quats[np.arange(4) != largest[:, None]].reshape(-1, 3)
    return largest.astype(np.uint32) << 30 | _bits(others * 0.5**0.5 + 0.5, (10, 10, 10))


def _from_largest_and_rest(packed: np.ndarray) -> np.ndarray:
    others = (_unbits(packed & 0x3FFFFFFF, (10, 10, 10)) - 0.5) * 2**0.5
    largest = (packed >> 30).astype(np.int64)[:, None]
    quats = np.empty((len(packed), 4))
    quats[np.arange(4) != largest] = others.ravel()
    np.put_along_axis(quats, largest, np.sqrt((1 - (others**2).sum(-1, keepdims=True)).clip(0)), 1)
    return quats


def _bits(units: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """[N] uint32: columns in 0..1, the first one in the highest bits."""
    packed = np.zeros(len(units), np.uint32)
    for column, width in zip(units.T, widths, strict=True):
        top = 2**width - 1
        packed = packed << width | np.rint(column.astype(np.float64) * top).clip(0, top).astype(np.uint32)
    return packed


def _unbits(packed: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    shifts = np.cumsum((0, *widths[:0:-1]))[::-1]
    columns = [
        (packed >> int(shift) & (2**width - 1)) / (2**width - 1) for shift, width in zip(shifts, widths, strict=True)
    ]
    return np.stack(columns, -1).astype(np.float32)


def _morton(means: np.ndarray) -> np.ndarray:
    """An order [N] in which neighbours in the file are neighbours in space, so that chunks are small."""
    low, high = means.min(0), means.max(0)
    cells = ((means - low) / np.maximum(high - low, 1e-12) * 1023).astype(np.uint32)
    key = np.zeros(len(means), np.uint32)
    for bit in range(10):
        for axis in range(3):
            key |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return np.argsort(key, kind="stable")


def _bytes(units: np.ndarray) -> np.ndarray:
    return np.rint(units * 255).clip(0, 255).astype("u1")


def _arrays(
    means: np.ndarray,
    scales: np.ndarray,
    quats: np.ndarray,
    opacities: np.ndarray,
    rgb: np.ndarray,
    shN: np.ndarray | None = None,
) -> Arrays:
    sh0 = ((rgb - 0.5) / SH_C0)[:, None]
    shN = np.zeros((len(means), 0, 3), np.float32) if shN is None else shN
    return {"means": means, "scales": scales, "quats": quats, "opacities": opacities, "sh0": sh0, "shN": shN}


_FORMATS = {
    "compressed.ply": Format(FRAMES["compressed.ply"], _encode_compressed, _decode_compressed),
    "splat": Format(FRAMES["splat"], _encode_splat, _decode_splat),
    "spz": Format(FRAMES["spz"], _encode_spz, _decode_spz),
    "glb": Format(FRAMES["glb"], glb.encode, glb.decode),
}
"""Ours but ply, whose files say themselves which way is up."""
