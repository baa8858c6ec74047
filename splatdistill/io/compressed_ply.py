"""PlayCanvas's .compressed.ply: positions and log scales in 10 or 11 bits within chunks of 256 splats, quaternions in
10, colours and harmonics in 8. Files of before 2024 have no bounds of colours: these lie in 0..1.
"""

from __future__ import annotations

import numpy as np

from splatdistill.io.bits import from_largest_and_others, largest_and_others, morton_order, pack, unpack
from splatdistill.io.kinds import MAX_HEADER, MAX_SPLATS, Arrays, FormatError, Hint, from_colours, stamp, stamped
from splatdistill.io.ply_header import Element, Header, parse
from splatdistill.ops.geometry import SH_C0

CHUNK = 256  # splats that share bounds

_ROW = np.dtype([(name, "<u4") for name in ("position", "rotation", "scale", "color")])
_BOUNDS = [
    f"{m}_{of}{x}" for of, xs in (("", "xyz"), ("scale_", "xyz"), ("", "rgb")) for m in ("min", "max") for x in xs
]
_NO_COLOURS = 12  # bounds in an old file


def encode(a: Arrays, up: str = "-y") -> bytes:
    n = len(a["means"])
    rest = a["shN"][0].size
    sh = (a["shN"].transpose(0, 2, 1).reshape(n, rest) * 32 + 128).clip(0, 255).astype("u1")
    order = morton_order(a["means"])
    a, sh = {name: value[order] for name, value in a.items() if name != "shN"}, sh[order]
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
    rows = np.empty(n, _ROW)
    rows["position"], rows["scale"] = pack(means, (11, 10, 11)), pack(scales, (11, 10, 11))
    largest, others = largest_and_others(a["quats"])
    rows["rotation"] = largest.astype(np.uint32) << 30 | pack(others * 0.5**0.5 + 0.5, (10, 10, 10))
    rows["color"] = pack(np.concatenate([colours, a["opacities"][:, None]], 1), (8, 8, 8, 8))
    tables = [("chunk", np.concatenate(bounds, 1).astype("<f4"), [("float", name) for name in _BOUNDS])]
    tables.append(("vertex", rows, [("uint", f"packed_{name}") for name in rows.dtype.names or ()]))
    if rest:
        tables.append(("sh", sh, [("uchar", f"f_rest_{i}") for i in range(rest)]))
    lines = ["ply", "format binary_little_endian 1.0", f"comment {stamp(up)}"]
    for name, table, properties in tables:
        lines += [f"element {name} {len(table)}", *(f"property {kind} {field}" for kind, field in properties)]
    return "\n".join([*lines, "end_header\n"]).encode() + b"".join(table.tobytes() for _, table, _ in tables)


def decode(data: bytes) -> Arrays:
    header = _header(data)
    chunk, vertex, sh = (header.element(name) for name in ("chunk", "vertex", "sh"))
    assert chunk is not None and vertex is not None
    n = vertex.count
    bounds = _table(header, chunk, data).view("<f4").reshape(chunk.count, -1)
    bounds = bounds.reshape(chunk.count, -1, 2, 3)[np.arange(n) // CHUNK]
    rows = np.ascontiguousarray(_table(header, vertex, data)).view(_ROW)[:, 0]
    rest = 0 if sh is None else len(sh.properties)
    packed = np.zeros((n, 0), "u1") if sh is None else _table(header, sh, data)
    colour = unpack(rows["color"], (8, 8, 8, 8))
    with np.errstate(invalid="ignore", over="ignore"):  # bounds that are not finite: such splats are dropped
        units = [unpack(rows["position"], (11, 10, 11)), unpack(rows["scale"], (11, 10, 11)), colour[:, :3]]
        parts = [
            low + unit * (high - low)
            for unit, (low, high) in zip(units, bounds.transpose(1, 2, 0, 3), strict=False)  # colours without bounds
        ]
    others = (unpack(rows["rotation"] & 0x3FFFFFFF, (10, 10, 10)) - 0.5) * 2**0.5
    quats = from_largest_and_others(rows["rotation"] >> 30, others)
    shN = ((packed.reshape(n, 3, rest // 3).transpose(0, 2, 1) + 0.5) / 256 - 0.5) * 8
    return from_colours(parts[0], parts[1], quats, colour[:, 3], parts[2] if len(parts) == 3 else units[2], shN)


def hint(data: bytes) -> Hint:
    """What our comment says of the up axis."""
    return Hint(stamped("\n".join(parse(data[:MAX_HEADER]).comments)))


def _header(data: bytes) -> Header:
    """Held to the layout and to the length of the file."""
    header = parse(data[:MAX_HEADER])
    chunk, vertex, sh = (header.element(name) for name in ("chunk", "vertex", "sh"))
    fields = {f"packed_{name}": "uint" for name in _ROW.names or ()}
    if chunk is None or vertex is None or header.format != "binary_little_endian":
        raise FormatError("has a header that is not that of a .compressed.ply.")
    bounded = {name: "float" for name in _BOUNDS}
    if chunk.properties not in (bounded, dict(list(bounded.items())[:_NO_COLOURS])) or vertex.properties != fields:
        raise FormatError("has a header that is not that of a .compressed.ply.")
    rest = 0 if sh is None else len(sh.properties)
    if sh is not None and sh.properties != {f"f_rest_{i}": "uchar" for i in range(rest)}:
        raise FormatError("has harmonics that are not those of a .compressed.ply.")
    n, rows = vertex.count, 0 if sh is None else sh.count
    chunks = -(-n // CHUNK)
    if not 0 < n <= MAX_SPLATS or chunk.count != chunks or rest not in (0, 9, 24, 45) or rows != n * bool(rest):
        raise FormatError(f"claims {n} splats, {chunk.count} chunks and {rows} rows of {rest} harmonics.")
    return header


def _table(header: Header, element: Element, data: bytes) -> np.ndarray:
    """[count,stride] bytes of an element."""
    before, stride = header.before(element.name), element.stride
    assert stride is not None
    start = header.num_bytes + (before or 0)
    if before is None or start + element.count * stride > len(data):
        raise FormatError(
            f"has {len(data)} bytes, but its {element.count} rows of {element.name} need more: it is cut or damaged."
        )
    return np.frombuffer(data, "u1", element.count * stride, start).reshape(element.count, stride)
