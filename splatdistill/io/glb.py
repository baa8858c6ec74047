"""Splats as binary glTF 2.0 with KHR_gaussian_splatting; programs without the extension see coloured points.

Attributes are float32: COLOR_0, which those see, linear as glTF has it, ROTATION as xyzw, SCALE linear, OPACITY in
0..1, harmonics as in .ply. N splats.
"""

from __future__ import annotations

import json
import struct
from typing import Any, cast

import numpy as np

from splatdistill.io.kinds import Arrays, FormatError
from splatdistill.ops.geometry import SH_C0
from splatdistill.utils.srgb import linear

EXTENSION = "KHR_gaussian_splatting"
MAX_JSON = 1 << 17  # bytes; that of one object has some 3000

_FLOAT, _POINTS, _ARRAY_BUFFER = 5126, 0, 34962
_JSON, _BIN = 0x4E4F534A, 0x004E4942
_WIDTH = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
_TYPE = {width: name for name, width in _WIDTH.items()}


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
    blob = b""
    accessors: list[dict[str, Any]] = []
    views: list[dict[str, Any]] = []
    for name, column in columns.items():
        column = column.astype("<f4")
        accessor: dict[str, Any] = {
            "bufferView": len(views),
            "componentType": _FLOAT,
            "count": len(column),
            "type": _TYPE[column.shape[1]],
        }
        if name == "POSITION":
            accessor |= {"min": column.min(0).tolist(), "max": column.max(0).tolist()}
        accessors.append(accessor)
        data = column.tobytes()
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": len(data), "target": _ARRAY_BUFFER})
        blob += data
    look = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display", "projection": "perspective"}
    primitive = {
        "mode": _POINTS,
        "attributes": {name: i for i, name in enumerate(columns)},
        "extensions": {EXTENSION: look | {"sortingMethod": "cameraDistance"}},
    }
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
    """The splats of the first primitive that has the extension, uncompressed and not moved by its node."""
    document, blob = _chunks(data)
    try:
        if set(document.get("extensionsRequired", [])) - {EXTENSION}:
            raise FormatError(f"it needs the extensions {', '.join(document['extensionsRequired'])[:200]}.")
        primitives = [
            p for mesh in document["meshes"] for p in mesh["primitives"] if EXTENSION in p.get("extensions", {})
        ]
        if not primitives:
            raise FormatError("it holds no Gaussian splats.")
        if any(set(node) & {"matrix", "rotation", "scale", "translation"} for node in document.get("nodes", [])):
            raise FormatError("its nodes are moved; only splats in place are read.")
        return _splats(document, blob, primitives[0]["attributes"])
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise FormatError(f"its description is not whole: {type(error).__name__} {error}.") from None


def _splats(document: dict[str, Any], blob: bytes, attributes: dict[str, int]) -> Arrays:
    def column(name: str, width: int) -> np.ndarray:
        accessor = document["accessors"][attributes[name]]
        view = document["bufferViews"][accessor["bufferView"]]
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        count, stride = accessor["count"], view.get("byteStride", 4 * width)
        if accessor["componentType"] != _FLOAT or accessor["type"] != _TYPE[width] or stride != 4 * width:
            raise FormatError(f"{name} is not packed float32.")
        if not isinstance(count, int) or count < 1 or start < 0 or start + count * stride > len(blob):
            raise FormatError(f"{name} does not lie inside the file.")
        return np.frombuffer(blob, "<f4", count * width, start).reshape(count, width)

    names = [name.removeprefix(f"{EXTENSION}:") for name in attributes]
    total = sum(name.startswith("SH_DEGREE_") for name in names)
    if total not in (1, 4, 9, 16):
        raise FormatError(f"it has {total} coefficients of harmonics; degree 0 to 3 have 1, 4, 9 or 16.")
    harmonics = [column(f"{EXTENSION}:{name}", 3) for name in _coefficients(total)]
    means, scales = column("POSITION", 3), column(f"{EXTENSION}:SCALE", 3)
    quats, opacities = column(f"{EXTENSION}:ROTATION", 4), column(f"{EXTENSION}:OPACITY", 1)
    if len({len(x) for x in (means, scales, quats, opacities, *harmonics)}) != 1:
        raise FormatError("its attributes differ in length.")
    if not (scales > 0).all():
        raise FormatError("a scale is not above 0.")
    sh = np.stack(harmonics, 1)
    shape = {"means": means, "scales": np.log(scales), "quats": quats[:, [3, 0, 1, 2]]}
    return {**shape, "opacities": opacities[:, 0], "sh0": sh[:, :1], "shN": sh[:, 1:]}


def _chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    if len(data) < 20 or data[:4] != b"glTF" or struct.unpack_from("<I", data, 4)[0] != 2:
        raise FormatError("it is not binary glTF 2.0.")
    total, size, kind = struct.unpack_from("<III", data, 8)
    if total != len(data) or kind != _JSON or size > MAX_JSON or 28 + size > len(data):
        raise FormatError("it is cut or damaged.")
    length, second = struct.unpack_from("<II", data, 20 + size)
    if second != _BIN or 28 + size + length > len(data):
        raise FormatError("it is cut or damaged.")
    try:
        document = json.loads(data[20 : 20 + size])
    except (ValueError, RecursionError):
        raise FormatError("its description is not JSON.") from None
    if not isinstance(document, dict):
        raise FormatError("its description is not an object.")
    return cast("dict[str, Any]", document), data[28 + size : 28 + size + length]


def _coefficients(count: int) -> list[str]:
    return [f"SH_DEGREE_{degree}_COEF_{i}" for degree in range(4) for i in range(2 * degree + 1)][:count]
