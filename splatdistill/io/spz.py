"""Niantic's .spz: positions in 24 bits, the rest in 8, quaternions in 8 (version 2) or 10 (3 and 4). Versions 2 and 3
are one stream of gzip; version 4 is a plain header, a table of contents and a stream of Zstandard for each attribute.

Which way is up: Niantic's text says +y (RUB). But of 13 writers looked at in November 2026, 10 copy the numbers of a
.ply, which are -y: splat-transform 3.7, gaussforge, Niantic's own ply_to_spz, and 7 of 10 programs that call its
library (public source, found by that call). So a file that does not say is taken for -y. Ours say +y: version 4 in the
extension SPZ_ADOBE_coordinate_system; versions 2 and 3, where not all readers skip extensions, by the mark of gzip for
the highest effort (byte 8 is 2). Version 0.1 of this program set that mark too; the three tools above do not.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from itertools import pairwise

import numpy as np
import zstandard

from splatdistill.io.bits import from_largest_and_others, in_blocks, largest_and_others, rounded, to_bytes
from splatdistill.io.kinds import MAX_SPLATS, SPZ_VERSION, Arrays, FormatError, Hint, Up

MAGIC = b"NGSP"
MAX_RATIO = 32  # of unpacked to packed bytes; positions alone keep it below 8

_HARMONICS = {0: 0, 1: 3, 2: 8, 3: 15, 4: 24}  # by degree
_EFFORT = 8  # where gzip says how hard it tried
_EXTENSIONS = 2  # flag
_COORDINATES = 0xADBE0003  # the extension that says which way is up
_NAMES = "- LDB RDB LUB RUB LDF RDF LUF RUF LBD RBD LBU RBU LFD RFD LFU RFU".split()
_SYSTEMS: dict[str, Up] = {"RUB": "+y", "LDB": "-y", "RDF": "-y-z", "RFU": "+z", "RBD": "-z"}


def encode(a: Arrays, version: int = SPZ_VERSION) -> bytes:
    """A file of +y up, of version 2, 3 or 4."""
    n, harmonics = len(a["means"]), a["shN"].shape[1]
    fraction = 12
    while np.abs(a["means"]).max() * 2**fraction >= 2**23:
        fraction -= 1
        if fraction < 0:
            raise FormatError("a position lies too far out for .spz.")
    fixed = np.rint(a["means"] * np.float32(2**fraction)).astype("<i4")  # exact: a float32 has as many bits
    xyzw = a["quats"][:, [1, 2, 3, 0]]
    blocks = [
        fixed[..., None].view("u1")[..., :3].tobytes(),
        to_bytes(a["opacities"]).tobytes(),
        to_bytes(np.float32(0.15) * a["sh0"][:, 0] + np.float32(0.5)).tobytes(),
        rounded((a["scales"] + np.float32(10)) * np.float32(16), 255, np.uint8).tobytes(),
        (_first_three(xyzw) if version == 2 else _smallest_three(xyzw).astype("<u4")).tobytes(),
        in_blocks(_harmonic_bytes, a["shN"], np.empty(a["shN"].shape, np.uint8)).tobytes(),
    ]
    degree = {count: degree for degree, count in _HARMONICS.items()}[harmonics]
    head = struct.pack("<4sIIBB", MAGIC, version, n, degree, fraction)
    if version < 4:
        return gzip.compress(head + b"\0\0" + b"".join(blocks), mtime=0)
    blocks = [block for block in blocks if block]
    packed = [zstandard.compress(block, 9) for block in blocks]
    extension = struct.pack("<III", _COORDINATES, 4, _NAMES.index("RUB"))
    contents = b"".join(struct.pack("<QQ", len(p), len(b)) for p, b in zip(packed, blocks, strict=True))
    head += struct.pack("<BBI12x", _EXTENSIONS, len(blocks), 32 + len(extension))
    return b"".join([head, extension, contents, *packed])


def decode(data: bytes) -> Arrays:
    version, n, degree, fraction, streams = _unzip(data) if data[:4] != MAGIC else _unpack(data)
    place, alpha, colour, scale, quat, sh = (np.frombuffer(stream, "u1") for stream in streams)
    fixed = np.zeros((n, 3, 4), "u1")
    fixed[..., 1:] = place.reshape(n, 3, 3)  # the upper three bytes of an int32 keep the sign
    means = (fixed.view("<i4")[..., 0] >> 8).astype(np.float32) * np.float32(2.0**-fraction)
    if version == 2:
        xyz = quat.reshape(n, 3) / 127.5 - 1
        quats = np.concatenate([xyz, np.sqrt((1 - (xyz**2).sum(-1, keepdims=True)).clip(0))], 1)
    else:
        quats = _from_smallest_three(quat.view("<u4"))
    packed = sh.reshape(n, _HARMONICS[degree], 3)[:, :15]
    shN = in_blocks(lambda rows: rows * np.float32(1 / 128) - 1, packed, np.empty(packed.shape, np.float32))
    return {
        "means": means,
        "scales": scale.reshape(n, 3).astype(np.float32) * np.float32(1 / 16) - np.float32(10),
        "quats": quats[:, [3, 0, 1, 2]],
        "opacities": alpha.astype(np.float32) * np.float32(1 / 255),
        "sh0": ((colour.astype(np.float32) * np.float32(1 / 255) - np.float32(0.5)) * np.float32(1 / 0.15)).reshape(
            n, 1, 3
        ),
        "shN": shN,
    }


def hint(data: bytes) -> Hint:
    """What the file says of its up axis, and what of it is not read."""
    if data[:2] == b"\x1f\x8b":
        return Hint("+y" if data[_EFFORT : _EFFORT + 1] == b"\x02" else None)
    cut = "its harmonics of degree 4 are left out" if len(data) >= 32 and data[12] == 4 else ""
    at, end = 32, min(struct.unpack_from("<I", data, 16)[0], len(data), 1 << 16) if len(data) >= 32 else 0
    while at + 12 <= end and data[14] & _EXTENSIONS:
        kind, length, value = struct.unpack_from("<III", data, at)
        if kind == _COORDINATES and value:
            name = _NAMES[value] if value < len(_NAMES) else str(value)
            if name not in _SYSTEMS:
                raise FormatError(f"lies in the coordinate system {name}; {', '.join(_SYSTEMS)} are read.")
            return Hint(_SYSTEMS[name], cut)
        at += 8 + length
    return Hint(None, cut)


_Parts = tuple[int, int, int, int, "list[bytes]"]
"""Version, number of splats, degree, bits of fraction, and the streams, one for each attribute."""


def _unzip(data: bytes) -> _Parts:
    unzip = zlib.decompressobj(wbits=31)
    try:
        head = unzip.decompress(data, 16)
        if len(head) < 16 or head[:4] != MAGIC:
            raise FormatError("has no header of .spz.")
        version, n, degree, fraction = struct.unpack_from("<IIBB", head, 4)
        if version not in (2, 3):
            raise FormatError(f"is of version {version}; versions 2, 3 and 4 are read.")
        sizes = _sizes(version, n, degree, fraction, packed=len(data))
        body = unzip.decompress(unzip.unconsumed_tail, sum(sizes) + 1)
        extended = head[14] & _EXTENSIONS  # records behind the splats, which nothing here needs
    except zlib.error as error:
        raise FormatError(f"is damaged: {error}.") from None
    if len(body) < sum(sizes) or not (unzip.eof or extended) or (len(body) > sum(sizes) and not extended):
        raise FormatError(f"claims {n} splats of {sum(sizes)} bytes, but it unpacks to fewer or more.")
    cuts = np.cumsum([0, *sizes]).tolist()
    return version, n, degree, fraction, [body[a:b] for a, b in pairwise(cuts)]


def _unpack(data: bytes) -> _Parts:
    if len(data) < 32:
        raise FormatError("has no header of .spz.")
    version, n, degree, fraction, _, num_streams, start = struct.unpack_from("<IIBBBBI", data, 4)
    if version != 4:
        raise FormatError(f"is of version {version}; versions 2, 3 and 4 are read.")
    sizes = _sizes(version, n, degree, fraction, packed=len(data))
    wanted = [size for size in sizes if size]
    at = start + 16 * num_streams
    if start < 32 or at > len(data) or num_streams not in (len(wanted), len(sizes)):
        raise FormatError(f"claims {num_streams} streams from byte {start} on: it is cut or damaged.")
    wanted = wanted if num_streams == len(wanted) else sizes
    streams = list[bytes]()
    for i, size in enumerate(wanted):
        packed, unpacked = struct.unpack_from("<QQ", data, start + 16 * i)
        if unpacked != size or at + packed > len(data):
            raise FormatError(f"claims {n} splats, but stream {i + 1} is too short or too long: it is cut or damaged.")
        streams.append(_decompress(data[at : at + packed], size))
        at += packed
    return version, n, degree, fraction, [*streams, *([b""] * (len(sizes) - len(streams)))]


def _decompress(data: bytes, size: int) -> bytes:
    if not size:
        return b""
    try:
        # What the frame itself says of its size is not believed: memory is taken as bytes come.
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as reader:
            body = reader.read(size + 1)
    except zstandard.ZstdError as error:
        raise FormatError(f"is damaged: {str(error)[:80]}.") from None
    if len(body) != size:
        raise FormatError("has a stream that unpacks to fewer or more bytes than it claims.")
    return body


def _sizes(version: int, n: int, degree: int, fraction: int, *, packed: int) -> list[int]:
    """Bytes of each attribute; FormatError for claims that no file of `packed` bytes can keep."""
    if not 0 < n <= MAX_SPLATS or degree > 4 or fraction > 23:
        raise FormatError(f"claims {n} splats of degree {degree} with {fraction} bits of fraction.")
    sizes = [9 * n, n, 3 * n, 3 * n, (3 if version == 2 else 4) * n, 3 * _HARMONICS[degree] * n]
    if sum(sizes) > max(MAX_RATIO * packed, 1 << 20):
        raise FormatError(f"claims {sum(sizes)} bytes in {packed}: no scene packs as small as that.")
    return sizes


def _harmonic_bytes(shN: np.ndarray) -> np.ndarray:
    return rounded(shN * np.float32(128) + np.float32(128), 255, np.uint8)


def _first_three(xyzw: np.ndarray) -> np.ndarray:
    """[N,3] uint8: x, y and z of [N,4] unit with w made positive."""
    xyz = xyzw[:, :3] * np.where(xyzw[:, 3:] < 0, -1.0, 1.0)
    return np.rint((xyz + 1) * 127.5).clip(0, 255).astype("u1")


def _smallest_three(quats: np.ndarray) -> np.ndarray:
    """[N] uint32 of [N,4] unit: index of the largest, then of each other a sign and 9 bits of magnitude."""
    largest, others = largest_and_others(quats)
    packed: np.ndarray = largest.astype(np.uint32)
    for part in others:
        magnitude = rounded(np.abs(part) * np.float32(2**0.5 * 511), 511, np.uint32)
        packed = packed << np.uint32(10) | (part < 0).astype(np.uint32) << np.uint32(9) | magnitude
    return packed


def _from_smallest_three(packed: np.ndarray) -> np.ndarray:
    parts = [packed >> np.uint32(shift) & np.uint32(1023) for shift in (20, 10, 0)]
    step = np.float32(0.5**0.5 / 511)
    others = [np.where(part >> 9, -step, step) * (part & np.uint32(511)).astype(np.float32) for part in parts]
    return from_largest_and_others(packed >> np.uint32(30), others)
