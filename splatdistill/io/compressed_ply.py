"""PlayCanvas's .compressed.ply: positions and log scales in 10 or 11 bits within chunks of 256 splats, quaternions in
10, colours and harmonics in 8. Files of before 2024 have no bounds of colours: these lie in 0..1.
"""

from __future__ import annotations

import numpy as np

from splatdistill.io.bits import (
    columns,
    from_largest_and_others,
    in_blocks,
    largest_and_others,
    morton_order,
    pack,
    unpack,
)
from splatdistill.io.kinds import MAX_HEADER, MAX_SPLATS, Arrays, FormatError, Hint, from_colours, stamp, stamped
from splatdistill.io.ply_header import Element, Header, parse
from splatdistill.ops.geometry import SH_C0

CHUNK = 256  # splats that share bounds

_ROW = np.dtype([(name, "<u4") for name in ("position", "rotation", "scale", "color")])
_BOUNDS = [
    f"{m}_{of}{x}" for of, xs in (("", "xyz"), ("scale_", "xyz"), ("", "rgb")) for m in ("min", "max") for x in xs
]
_NO_COLOURS = 12  # bounds in an old file
_FIELDS = ("means", "scales", "sh0", "opacities", "quats")
_BLOCK = 32 * CHUNK  # splats whose numbers stay in the cache of a core


def encode(a: Arrays, up: str = "-y") -> bytes:
    n, rest = len(a["means"]), a["shN"][0].size
    order = morton_order(a["means"])
    table = np.concatenate([a[name].reshape(n, -1) for name in _FIELDS], 1, dtype=np.float32)  # one read for each splat
    rows: np.ndarray = np.empty(n, _ROW)
    bounds: np.ndarray = np.empty((-(-n // CHUNK), len(_BOUNDS)), "<f4")
    for at in range(0, n, _BLOCK):
        end = at + _BLOCK
        found = _packed(columns(np.take(table, order[at:end], axis=0)))
        rows[at:end], bounds[at // CHUNK : end // CHUNK] = found
    tables = [("chunk", bounds, [("float", name) for name in _BOUNDS])]
    tables.append(("vertex", rows, [("uint", f"packed_{name}") for name in rows.dtype.names or ()]))
    if rest:
        sh = np.take(_harmonic_bytes(a["shN"]), order, axis=0)
        tables.append(("sh", sh, [("uchar", f"f_rest_{i}") for i in range(rest)]))
    lines = ["ply", "format binary_little_endian 1.0", f"comment {stamp(up)}"]
    for name, table, properties in tables:
        lines += [f"element {name} {len(table)}", *(f"property {kind} {field}" for kind, field in properties)]
    return "\n".join([*lines, "end_header\n"]).encode() + b"".join(table.tobytes() for _, table, _ in tables)


def _packed(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows [N] and bounds [M,18] of the columns [14,N] of `_FIELDS`."""
    rows = np.empty(table.shape[1], _ROW)
    rgb = np.float32(0.5) + np.float32(SH_C0) * table[6:9]
    bounds, units = zip(*map(_within_chunks, (table[:3], table[3:6].clip(-20, 20), rgb)), strict=True)
    rows["position"], rows["scale"] = pack(units[0], (11, 10, 11)), pack(units[1], (11, 10, 11))
    largest, others = largest_and_others(table[10:].T)
    half = np.float32(0.5**0.5)
    rows["rotation"] = largest.astype(np.uint32) << np.uint32(30) | pack(others * half + np.float32(0.5), (10, 10, 10))
    rows["color"] = pack([*units[2], table[9]], (8, 8, 8, 8))
    return rows, np.concatenate(bounds, 1)


def _within_chunks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and largest of each chunk [M,6] of columns [3,N], and where in 0..1 between them each value lies."""
    n = values.shape[1]
    whole = np.pad(values, ((0, 0), (0, -n % CHUNK)), mode="edge") if n % CHUNK else values
    whole = whole.reshape(3, -1, CHUNK)
    low, high = whole.min(2), whole.max(2)
    units = (whole - low[..., None]) / np.maximum(high - low, np.float32(1e-12))[..., None]
    return np.concatenate([low, high]).T, units.reshape(3, -1)[:, :n]


def decode(data: bytes) -> Arrays:
    header = _header(data)
    chunk, vertex, sh = (header.element(name) for name in ("chunk", "vertex", "sh"))
    assert chunk is not None and vertex is not None
    bounds = _table(header, chunk, data).view("<f4").reshape(chunk.count, -1, 2, 3)
    rows = np.ascontiguousarray(_table(header, vertex, data)).view(_ROW)[:, 0]
    sizes = {"means": 3, "scales": 3, "quats": 4, "alpha": 1, "rgb": 3}
    out = {name: np.empty((len(rows), size), np.float32) for name, size in sizes.items()}
    for at in range(0, len(rows), _BLOCK):
        end = at + _BLOCK
        for name, found in _unpacked(rows[at:end], bounds[at // CHUNK : end // CHUNK]).items():
            out[name][at:end] = found
    shN = None if sh is None else _harmonics(_table(header, sh, data))
    return from_colours(out["means"], out["scales"], out["quats"], out["alpha"][:, 0], out["rgb"], shN)


def _unpacked(rows: np.ndarray, bounds: np.ndarray) -> dict[str, np.ndarray]:
    """The inverse of `_packed`, of the bounds [M,2 or 3,2,3]: numbers of N splats each."""
    *rgb, alpha = unpack(rows["color"], (8, 8, 8, 8))
    others = [(part - np.float32(0.5)) * np.float32(2**0.5) for part in unpack(rows["rotation"], (2, 10, 10, 10))[1:]]
    return {
        "means": _from_chunks(bounds[:, 0], unpack(rows["position"], (11, 10, 11))),
        "scales": _from_chunks(bounds[:, 1], unpack(rows["scale"], (11, 10, 11))),
        "quats": from_largest_and_others(rows["rotation"] >> np.uint32(30), others),
        "alpha": alpha[:, None],
        "rgb": _from_chunks(bounds[:, 2], rgb) if bounds.shape[1] == 3 else np.stack(rgb, 1),
    }


def _from_chunks(bounds: np.ndarray, units: list[np.ndarray]) -> np.ndarray:
    """[N,3] float32: the inverse of `_within_chunks`, of the bounds [M,2,3]."""
    n = len(units[0])
    values = np.empty((n, 3), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # bounds that are not finite: such splats are dropped
        for axis, unit in enumerate(units):
            low, high = bounds[:, 0, axis, None], bounds[:, 1, axis, None]
            whole = unit if len(unit) == CHUNK * len(bounds) else np.resize(unit, CHUNK * len(bounds))
            values[:, axis] = (low + whole.reshape(-1, CHUNK) * (high - low)).ravel()[:n]
    return values


def _harmonic_bytes(shN: np.ndarray) -> np.ndarray:
    """[N,3(S-1)] bytes of harmonics [N,S-1,3]: steps of 1/32, all of one channel together."""

    def packed(rows: np.ndarray) -> np.ndarray:
        steps = rows.transpose(0, 2, 1) * np.float32(32) + np.float32(128)
        return np.clip(steps, 0, 255, out=steps).astype(np.uint8)

    out = np.empty((len(shN), 3, shN.shape[1]), np.uint8)
    return in_blocks(packed, shN, out).reshape(len(shN), shN[0].size)


def _harmonics(packed: np.ndarray) -> np.ndarray:
    """[N,S-1,3] float32 of [N,3(S-1)] bytes, of which all of one channel come together."""

    def unpacked(rows: np.ndarray) -> np.ndarray:
        return (rows.astype(np.float32) + np.float32(0.5 - 128)) * np.float32(1 / 32)

    by_channel = packed.reshape(len(packed), 3, -1)
    out = np.empty((len(packed), by_channel.shape[2], 3), np.float32)
    in_blocks(unpacked, by_channel, out.transpose(0, 2, 1))
    return out


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
