"""Splats as binary glTF 2.0 with KHR_gaussian_splatting; programs without the extension see coloured points.

Written attributes are float32: ROTATION as xyzw, SCALE linear, OPACITY in 0..1, harmonics as in .ply. COLOR_0 is
linear, as everywhere in glTF. All that the extension allows is read, or refused by name. N splats.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch

from splatdistill.io.frames import transform
from splatdistill.io.kinds import MAX_SPLATS, Arrays, FormatError
from splatdistill.ops.geometry import SH_C0
from splatdistill.scene.gaussians import Splats
from splatdistill.utils.srgb import linear

EXTENSION = "KHR_gaussian_splatting"
MAX_JSON = 1 << 17  # bytes; that of one object has some 3000
MAX_NODES = 1 << 12
MAX_RATIO = 16  # of the splats' bytes to those of the file: nodes may show a mesh several times

_POINTS, _ARRAY_BUFFER = 0, 34962
_JSON, _BIN = 0x4E4F534A, 0x004E4942
_WIDTH = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
_TYPE = {width: name for name, width in _WIDTH.items()}
_KINDS = {
    5120: np.dtype("i1"), 5121: np.dtype("u1"), 5122: np.dtype("<i2"), 5123: np.dtype("<u2"), 5125: np.dtype("<u4"),
    5126: np.dtype("<f4"), 5131: np.dtype("<f2"),
}  # fmt: skip
_CODES = {kind: code for code, kind in _KINDS.items()}
_KNOWN = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display", "projection": "perspective"}


def encode(a: Arrays) -> bytes:
    """The file; +y is up, as glTF has it."""
    rgba = np.concatenate([linear(0.5 + SH_C0 * a["sh0"][:, 0]), a["opacities"][:, None]], 1)
    columns = {
        "POSITION": a["means"],
        "COLOR_0": rgba,
        f"{EXTENSION}:ROTATION": a["quats"][:, [1, 2, 3, 0]],
        f"{EXTENSION}:SCALE": np.exp(a["scales"]),
        f"{EXTENSION}:OPACITY": a["opacities"][:, None],
    }
    harmonics = np.concatenate([a["sh0"], a["shN"]], 1)
    columns |= {f"{EXTENSION}:{name}": harmonics[:, i] for i, name in enumerate(_coefficients(harmonics.shape[1]))}
    parts: list[bytes] = []
    accessors: list[dict[str, Any]] = []
    views: list[dict[str, Any]] = []
    for name, column in columns.items():
        column = column.astype("<f4")
        accessor: dict[str, Any] = {
            "bufferView": len(views),
            "componentType": _CODES[column.dtype],
            "count": len(column),
            "type": _TYPE[column.shape[1]],
        }
        if name == "POSITION":
            accessor |= {"min": column.min(0).tolist(), "max": column.max(0).tolist()}
        accessors.append(accessor)
        start = sum(map(len, parts))
        parts.append(column.tobytes())
        views.append({"buffer": 0, "byteOffset": start, "byteLength": len(parts[-1]), "target": _ARRAY_BUFFER})
    primitive = {
        "mode": _POINTS,
        "attributes": {name: i for i, name in enumerate(columns)},
        "extensions": {EXTENSION: {**_KNOWN, "sortingMethod": "cameraDistance"}},
    }
    blob = b"".join(parts)
    document = {
        "asset": {"version": "2.0", "generator": "splatdistill"},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(blob)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    header = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + len(blob), len(text), _JSON)
    return header + text + struct.pack("<II", len(blob), _BIN) + blob


def decode(data: bytes) -> Arrays:
    """The splats of all primitives that have the extension, where the nodes of the scene put them."""
    document, blob = _chunks(data)
    try:
        if needed := set(document.get("extensionsRequired", [])) - {EXTENSION, "KHR_mesh_quantization"}:
            raise FormatError(f"needs the extensions {', '.join(sorted(map(str, needed)))[:200]}, which are not read.")
        parts, total = list[Arrays](), 0
        for mesh, place in _placed(document):
            for primitive in document["meshes"][mesh]["primitives"]:
                if EXTENSION not in primitive.get("extensions", {}):
                    continue
                part = _splats(document, blob, primitive)
                total += sum(value.size for value in part.values())
                if 4 * total > max(MAX_RATIO * len(data), 1 << 20):
                    raise FormatError("shows its splats so often that they would not fit into memory.")
                parts.append(_moved(part, place))
        if not parts:
            raise FormatError("holds no Gaussian splats; train --init points:FILE starts from a mesh.")
    except FormatError:
        raise
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise FormatError(f"has a description that is not whole: {type(error).__name__} {str(error)[:80]}.") from None
    if len({part["shN"].shape[1] for part in parts}) != 1:
        most = max(part["shN"].shape[1] for part in parts)
        for part in parts:
            part["shN"] = np.pad(part["shN"], [(0, 0), (0, most - part["shN"].shape[1]), (0, 0)])
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _placed(document: dict[str, Any]) -> Iterator[tuple[int, np.ndarray]]:
    """Each mesh of the scene and its place [4,4]; without nodes, every mesh where it lies."""
    nodes = document.get("nodes", [])
    if not nodes:
        yield from ((i, np.eye(4)) for i in range(len(document["meshes"])))
        return
    scenes = document.get("scenes", [])
    children = {child for node in nodes for child in node.get("children", [])}
    roots = scenes[document.get("scene", 0)].get("nodes", []) if scenes else [
        i for i in range(len(nodes)) if i not in children
    ]  # fmt: skip
    waiting, seen = [(root, np.eye(4)) for root in roots], 0
    while waiting:
        index, above = waiting.pop()
        node, seen = nodes[index], seen + 1
        if seen > MAX_NODES:
            raise FormatError(f"has more than {MAX_NODES} nodes, or nodes in a circle.")
        place = above @ _matrix(node)
        if "mesh" in node:
            yield node["mesh"], place
        waiting += [(child, place) for child in node.get("children", [])]


def _matrix(node: dict[str, Any]) -> np.ndarray:
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = np.array(node.get("rotation", [0, 0, 0, 1]), np.float64)
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    place = np.eye(4)
    place[:3, :3] = turn * np.array(node.get("scale", [1, 1, 1]), np.float64)
    place[:3, 3] = np.array(node.get("translation", [0, 0, 0]), np.float64)
    return place


def _moved(a: Arrays, place: np.ndarray) -> Arrays:
    """The splats at a place [4,4], which may turn, move and scale evenly."""
    if np.array_equal(place, np.eye(4)):
        return a
    linear = place[:3, :3]
    size = float(np.abs(np.linalg.det(linear)) ** (1 / 3)) if np.isfinite(place).all() else 0.0
    even = size > 0 and np.allclose(linear.T @ linear, size**2 * np.eye(3), rtol=0, atol=1e-4 * size**2)
    if not even or np.linalg.det(linear) < 0:
        raise FormatError("has a node that mirrors its splats, or scales them unevenly, which is not read.")
    x, y, z = place[:3, 3].tolist()
    splats = Splats(**{name: torch.from_numpy(value.astype(np.float32)) for name, value in a.items()})  # pyright: ignore[reportUnknownMemberType]
    moved = transform(splats, rotation=_quaternion(linear / size), scale=size, translation=(x, y, z))
    return {name: value.numpy() for name, value in moved.tensors.items()}


def _quaternion(turn: np.ndarray) -> tuple[float, float, float, float]:
    """wxyz of a rotation matrix [3,3]: the eigenvector of Bar-Itzhack's symmetric matrix, stable for every turn."""
    m = turn
    k = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], 0, 0, 0],
            [m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], 0, 0],
            [m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1], 0],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
        ]
    )
    x, y, z, w = np.linalg.eigh(k / 3)[1][:, -1].tolist()  # reads the lower triangle
    return w, x, y, z


def _splats(document: dict[str, Any], blob: bytes, primitive: dict[str, Any]) -> Arrays:
    look = primitive["extensions"][EXTENSION]
    for name, known in _KNOWN.items():
        if look.get(name, known) != known:
            raise FormatError(f"has the {name} {str(look[name])[:40]!r}; {known!r} is read.")
    if further := [*look.get("extensions", {}), *(set(primitive["extensions"]) - {EXTENSION})]:
        raise FormatError(f"has its splats in the extension {str(further[0])[:60]!r}, which is not read.")
    attributes = primitive["attributes"]

    def column(name: str, width: int) -> np.ndarray:
        return _column(document, blob, document["accessors"][attributes[name]], name=name, width=width)

    total = sum(name.startswith(f"{EXTENSION}:SH_DEGREE_") for name in attributes)
    if total not in (1, 4, 9, 16):
        raise FormatError(f"has {total} coefficients of harmonics; degree 0 to 3 have 1, 4, 9 or 16.")
    harmonics = [column(f"{EXTENSION}:{name}", 3) for name in _coefficients(total)]
    means, scales = column("POSITION", 3), column(f"{EXTENSION}:SCALE", 3)
    quats, opacities = column(f"{EXTENSION}:ROTATION", 4), column(f"{EXTENSION}:OPACITY", 1)
    if len({len(x) for x in (means, scales, quats, opacities, *harmonics)}) != 1:
        raise FormatError("has attributes that differ in length.")
    sh = np.stack(harmonics, 1)
    with np.errstate(divide="ignore", invalid="ignore"):  # a scale of 0 or less cannot be drawn, and is dropped
        shape = {"means": means, "scales": np.log(scales), "quats": quats[:, [3, 0, 1, 2]]}
    return {**shape, "opacities": opacities[:, 0], "sh0": sh[:, :1], "shN": sh[:, 1:]}


def _column(document: dict[str, Any], blob: bytes, accessor: dict[str, Any], *, name: str, width: int) -> np.ndarray:
    """[count,width] float32 of an accessor of any type of number, packed or interleaved."""
    kind, count = _KINDS.get(accessor["componentType"]), accessor["count"]
    if kind is None or accessor["type"] != _TYPE[width] or "sparse" in accessor:
        raise FormatError(f"has {name} of a type that is not read.")
    view = document["bufferViews"][accessor["bufferView"]]
    if view.get("buffer", 0) != 0 or "uri" in document["buffers"][0] or view.get("extensions"):
        raise FormatError(f"has {name} outside of the file, or compressed, which is not read.")
    start, stride = (
        view.get("byteOffset", 0) + accessor.get("byteOffset", 0),
        view.get("byteStride", kind.itemsize * width),
    )
    if not all(type(value) is int for value in (start, stride, count)) or not kind.itemsize * width <= stride <= 252:
        raise FormatError(f"has {name} with an odd stride.")
    if not 0 < count <= MAX_SPLATS or start < 0 or start + (count - 1) * stride + kind.itemsize * width > len(blob):
        raise FormatError(f"has {name} that does not lie inside the file.")
    rows = np.ndarray((count, width), kind, blob, start, (stride, kind.itemsize)).astype(np.float32)
    if accessor.get("normalized") and kind.kind in "iu":
        rows = (rows / (2 ** (8 * kind.itemsize - (kind.kind == "i")) - 1)).clip(-1)
    return rows


def _chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    if len(data) < 20 or data[:4] != b"glTF" or struct.unpack_from("<I", data, 4)[0] != 2:
        raise FormatError("is not binary glTF 2.0.")
    total, size, kind = struct.unpack_from("<III", data, 8)
    if total > len(data) or kind != _JSON or size > MAX_JSON or 20 + size > len(data):
        raise FormatError("is cut or damaged.")
    blob = b""
    if 28 + size <= total:
        length, second = struct.unpack_from("<II", data, 20 + size)
        if second != _BIN or 28 + size + length > len(data):
            raise FormatError("is cut or damaged.")
        blob = data[28 + size : 28 + size + length]
    try:
        document = json.loads(data[20 : 20 + size])
    except (ValueError, RecursionError):
        raise FormatError("has a description that is not JSON.") from None
    if not isinstance(document, dict):
        raise FormatError("has a description that is not an object.")
    return cast("dict[str, Any]", document), blob


def _coefficients(count: int) -> list[str]:
    return [f"SH_DEGREE_{degree}_COEF_{i}" for degree in range(4) for i in range(2 * degree + 1)][:count]
