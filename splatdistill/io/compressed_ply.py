"""PlayCanvas's .compressed.ply: positions and log scales in 10 or 11 bits within chunks of 256 splats, quaternions in
10, colours and harmonics in 8. Files of before 2024 have no bounds of colours: these lie in 0..1.
"""

from __future__ import annotations

import numpy as np

from splatdistill.io.bits import (
    as_one,
    blocks,
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
_SPLAT = np.dtype([("means", "V12"), ("scales", "V12"), ("sh0", "V12"), ("opacities", "<f4"), ("rotation", "<u4")])
_BOUNDS = [
    f"{m}_{of}{x}" for of, xs in (("", "xyz"), ("scale_", "xyz"), ("", "rgb")) for m in ("min", "max") for x in xs
]
_NO_COLOURS = 12  # bounds in an old file
_BLOCK = 64 * CHUNK  # splats whose numbers stay in the cache of a core


def encode(a: Arrays, up: str = "-y") -> bytes:
    n, rest = len(a["means"]), a["shN"][0].size
    order = morton_order(a["means"])
    table = _table_of(a)
    rows: np.ndarray = np.empty(n, _ROW)
    bounds: np.ndarray = np.empty((-(-n // CHUNK), len(_BOUNDS)), "<f4")
    for at in range(0, n, _BLOCK):
        end = at + _BLOCK
        bounds[at // CHUNK : end // CHUNK] = _pack(columns(np.take(table, order[at:end], axis=0)), rows[at:end])
    tables = [("chunk", bounds, [("float", name) for name in _BOUNDS])]
    tables.append(("vertex", rows, [("uint", f"packed_{name}") for name in rows.dtype.names or ()]))
    if rest:
        sh = np.take(_harmonic_bytes(a["shN"]), order, axis=0)
        tables.append(("sh", sh, [("uchar", f"f_rest_{i}") for i in range(rest)]))
    lines = ["ply", "format binary_little_endian 1.0", f"comment {stamp(up)}"]
    for name, table, properties in tables:
        lines += [f"element {name} {len(table)}", *(f"property {kind} {field}" for kind, field in properties)]
    return b"".join(["\n".join([*lines, "end_header\n"]).encode(), *(table.data for _, table, _ in tables)])


def _table_of(a: Arrays) -> np.ndarray:
    """[N,11] float32: all of a splat but its harmonics side by side, so that to sort them is one read for each. The
    last column is the bits of the packed quaternion.
    """
    table = np.empty(len(a["means"]), _SPLAT)
    for name in ("means", "scales", "sh0"):
        table[name] = as_one(a[name].reshape(-1, 3), "<f4")
    table["opacities"] = a["opacities"]
    half = np.float32(0.5**0.5)
    for rows in blocks(a["quats"]):
        largest, others = largest_and_others(a["quats"][rows])
        packed = pack(others * half + np.float32(0.5), (10, 10, 10))
        table["rotation"][rows] = largest.astype(np.uint32) << np.uint32(30) | packed
    return table.view(np.float32).reshape(len(table), -1)


def _pack(table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Fills rows [N] from the columns [11,N] of `_table_of`, which are overwritten; the bounds [M,18] of its chunks."""
    np.clip(table[3:6], -20, 20, out=table[3:6])
    table[6:9] *= np.float32(SH_C0)
    table[6:9] += np.float32(0.5)
    bounds = _to_units(table[:9])
    rows["position"], rows["scale"] = pack(table[:3], (11, 10, 11)), pack(table[3:6], (11, 10, 11))
    rows["color"], rows["rotation"] = pack(table[6:10], (8, 8, 8, 8)), table[10].view(np.uint32)
    return bounds


def _to_units(values: np.ndarray) -> np.ndarray:
    """The least and largest of each chunk [M,6K] of columns [3K,N], by threes. The values become where in 0..1 between
    them they lie.
    """
    k, n = values.shape
    whole = np.pad(values, ((0, 0), (0, -n % CHUNK)), mode="edge") if n % CHUNK else values
    whole = whole.reshape(k, -1, CHUNK)
    low, high = whole.min(2), whole.max(2)
    whole -= low[..., None]
    whole /= np.maximum(high - low, np.float32(1e-12))[..., None]
    if n % CHUNK:
        values[:] = whole.reshape(k, -1)[:, :n]
    bounds = np.concatenate([low.reshape(-1, 3, low.shape[1]), high.reshape(-1, 3, low.shape[1])], 1)
    return bounds.reshape(2 * k, -1).T


def decode(data: bytes) -> Arrays:
    header = _header(data)
    chunk, vertex, sh = (header.element(name) for name in ("chunk", "vertex", "sh"))
    assert chunk is not None and vertex is not None
    bounds = _table(header, chunk, data).view("<f4").reshape(chunk.count, -1, 2, 3)
    rows = _table(header, vertex, data)
    sizes = {"means": 3, "scales": 3, "quats": 4, "alpha": 1, "rgb": 3}
    out = {name: np.empty((len(rows), size), np.float32) for name, size in sizes.items()}
    for at in range(0, len(rows), _BLOCK):
        end = at + _BLOCK
        parts = {name: values[at:end] for name, values in out.items()}
        _unpack(rows[at:end], bounds[at // CHUNK : end // CHUNK], parts)
    shN = None if sh is None else _harmonics(_table(header, sh, data))
    return from_colours(out["means"], out["scales"], out["quats"], out["alpha"][:, 0], out["rgb"], shN)


def _unpack(rows: np.ndarray, bounds: np.ndarray, out: Arrays) -> None:
    """The inverse of `_packed`, of bytes [N,16] and the bounds [M,2 or 3,2,3], into the arrays of N splats."""
    position, rotation, scale, color = np.ascontiguousarray(rows.view("<u4").T, np.uint32)
    others = unpack(rotation, (2, 10, 10, 10))[1:]
    others -= np.float32(0.5)
    others *= np.float32(2**0.5)
    out["quats"][:] = from_largest_and_others(rotation >> np.uint32(30), others)
    _from_units(unpack(position, (11, 10, 11)), bounds[:, 0], out["means"])
    _from_units(unpack(scale, (11, 10, 11)), bounds[:, 1], out["scales"])
    colours = unpack(color, (8, 8, 8, 8))
    out["alpha"][:, 0] = colours[3]
    if bounds.shape[1] == 3:
        _from_units(colours[:3], bounds[:, 2], out["rgb"])
    else:
        out["rgb"][:] = colours[:3].T


def _from_units(units: np.ndarray, bounds: np.ndarray, out: np.ndarray) -> None:
    """Into out [N,3]: the inverse of `_to_units`, of columns [3,N], which may be overwritten, and bounds [M,2,3]."""
    n, (low, high) = len(out), bounds.transpose(1, 2, 0)[..., None]
    whole = units if n == CHUNK * len(bounds) else np.pad(units, ((0, 0), (0, CHUNK * len(bounds) - n)))
    whole = whole.reshape(3, -1, CHUNK)
    with np.errstate(invalid="ignore", over="ignore"):  # bounds that are not finite: such splats are dropped
        whole *= high - low
        whole += low
    for axis in range(3):
        out[:, axis] = whole[axis].ravel()[:n]


def _harmonic_bytes(shN: np.ndarray) -> np.ndarray:
    """[N,3(S-1)] bytes of harmonics [N,S-1,3]: steps of 1/32, all of one channel together."""
    by_channel = np.arange(shN[0].size, dtype=np.intp).reshape(-1, 3).T.ravel()

    def packed(rows: np.ndarray) -> np.ndarray:
        steps = rows * np.float32(32) + np.float32(128)
        return np.take(np.clip(steps, 0, 255, out=steps).astype(np.uint8), by_channel, axis=1)

    rows = shN.reshape(len(shN), -1)
    return in_blocks(packed, rows, np.empty(rows.shape, np.uint8))


def _harmonics(packed: np.ndarray) -> np.ndarray:
    """[N,S-1,3] float32 of [N,3(S-1)] bytes, of which all of one channel come together."""
    by_splat = np.arange(packed.shape[1], dtype=np.intp).reshape(3, -1).T.ravel()

    def unpacked(rows: np.ndarray) -> np.ndarray:
        return (np.take(rows, by_splat, axis=1).astype(np.float32) + np.float32(0.5 - 128)) * np.float32(1 / 32)

    return in_blocks(unpacked, packed, np.empty(packed.shape, np.float32)).reshape(len(packed), -1, 3)


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
