"""Plain readers of the formats that we write, each from the format's description, a number at a time."""

from __future__ import annotations

import gzip
import io
import json
import math
import struct
import zipfile
from typing import Any

import numpy as np
import zstandard
from PIL import Image

from splatdistill.ops.geometry import SH_C0
from tests.rounding import UNIT

FLOAT = 16 * UNIT  # a handful of operations in float32 on numbers up to 5, here and there
HALF = 0.51  # a step, with a fiftieth of that for what follows in float32
Record = dict[str, Any]
SIZES = {0: 0, 1: 3, 2: 8, 3: 15}


def plain_splat(data: bytes) -> list[Record]:
    out = []
    for at in range(0, len(data), 32):
        x, y, z, sx, sy, sz, r, g, b, a, *turn = struct.unpack_from("<6f4B4B", data, at)
        out.append(
            record((x, y, z), (sx, sy, sz), [(v - 128) / 128 for v in turn], a / 255, [r / 255, g / 255, b / 255])
        )
    return out


def plain_spz4(data: bytes) -> list[Record]:
    """Version 4 as the body of version 3: a plain header, extensions, a table of contents, and streams of Zstandard."""
    magic, version, count, degree, fraction, flags, streams, start, *reserved = struct.unpack_from("<4sIIBBBBI3I", data)
    assert (magic, version, flags, reserved) == (b"NGSP", 4, 2, [0, 0, 0]) and streams == (6 if degree else 5)
    assert struct.unpack_from("<III", data, 32) == (0xADBE0003, 4, 4) and start == 44  # Adobe's extension: RUB
    body, at = struct.pack("<4sIIBBBB", b"NGSP", 3, count, degree, fraction, 0, 0), start + 16 * streams
    for i in range(streams):
        packed, unpacked = struct.unpack_from("<QQ", data, start + 16 * i)
        part = zstandard.ZstdDecompressor().decompress(data[at : at + packed])
        assert len(part) == unpacked
        body, at = body + part, at + packed
    assert at == len(data)
    return plain_spz(gzip.compress(body))


def plain_spz(data: bytes) -> list[Record]:
    body = gzip.decompress(data)
    magic, version, count, degree, fraction, flags, _ = struct.unpack_from("<4sIIBBBB", body)
    assert (magic, version, flags) == (b"NGSP", 3, 0)
    place = 16
    starts = []
    for width in (9, 1, 3, 3, 4, 3 * SIZES[degree]):
        starts.append(place)
        place += width * count
    assert place == len(body)
    out = []
    for i in range(count):
        at = [start + width * i for start, width in zip(starts, (9, 1, 3, 3, 4, 3 * SIZES[degree]), strict=True)]
        mean = [
            int.from_bytes(body[at[0] + 3 * k : at[0] + 3 * k + 3], "little", signed=True) / 2**fraction
            for k in range(3)
        ]
        rgb = [(body[at[2] + k] / 255 - 0.5) / 0.15 * SH_C0 + 0.5 for k in range(3)]
        scale = [math.exp(body[at[3] + k] / 16 - 10) for k in range(3)]
        (word,) = struct.unpack_from("<I", body, at[4])
        largest, turn = word >> 30, [0.0] * 4  # xyzw
        for k in (3, 2, 1, 0):
            if k != largest:
                turn[k] = (word & 511) / 511 / math.sqrt(2) * (-1 if word >> 9 & 1 else 1)
                word >>= 10
        turn[largest] = math.sqrt(max(0.0, 1 - sum(v * v for v in turn)))
        sh = [[(body[at[5] + 3 * k + c] - 128) / 128 for c in range(3)] for k in range(SIZES[degree])]
        out.append(record(mean, scale, [turn[3], *turn[:3]], body[at[1]] / 255, rgb, sh))
    return out


def plain_compressed(data: bytes) -> list[Record]:
    head, _, body = data.partition(b"end_header\n")
    counts, rest, names = {}, 0, []
    for line in head.decode().splitlines():
        words = line.split()
        if words[0] == "element":
            counts[words[1]] = int(words[2])
        elif words[0] == "property" and words[1] == "float":
            names.append(words[2])
        elif words[0] == "property" and words[2].startswith("f_rest_"):
            rest += 1
    chunks, count = counts["chunk"], counts["vertex"]
    assert counts.get("sh", count) == count
    out = []
    for i in range(count):
        low = dict(zip(names, struct.unpack_from("<18f", body, 72 * (i // 256)), strict=True))
        place, turn, size, colour = struct.unpack_from("<4I", body, 72 * chunks + 16 * i)

        def three(word: int, of: str, low: dict[str, float] = low) -> list[float]:
            units = (word >> 21) / 2047, (word >> 11 & 1023) / 1023, (word & 2047) / 2047
            return [
                low[f"min_{of}{x}"] + u * (low[f"max_{of}{x}"] - low[f"min_{of}{x}"])
                for x, u in zip("xyz", units, strict=True)
            ]

        others = [((turn >> shift & 1023) / 1023 - 0.5) * math.sqrt(2) for shift in (20, 10, 0)]
        others.insert(turn >> 30, math.sqrt(max(0.0, 1 - sum(v * v for v in others))))
        rgb = [
            low[f"min_{c}"] + (colour >> s & 255) / 255 * (low[f"max_{c}"] - low[f"min_{c}"])
            for c, s in zip("rgb", (24, 16, 8), strict=True)
        ]
        raw = body[72 * chunks + 16 * count + rest * i :][:rest]
        sh = [[((raw[c * rest // 3 + k] + 0.5) / 256 - 0.5) * 8 for c in range(3)] for k in range(rest // 3)]
        out.append(
            record(
                three(place, ""), [math.exp(v) for v in three(size, "scale_")], others, (colour & 255) / 255, rgb, sh
            )
        )
    return out


def plain_sog(data: bytes) -> list[Record]:
    """As PlayCanvas describes version 2."""
    archive = zipfile.ZipFile(io.BytesIO(data))
    meta = json.loads(archive.read("meta.json"))
    assert meta["version"] == 2 and all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())

    def pixels(part: str, number: int = 0) -> list[tuple[int, ...]]:
        picture = Image.open(archive.open(meta[part]["files"][number]))
        assert picture.format == "WEBP"
        return list(picture.convert("RGBA").get_flattened_data())

    def place(value: int, axis: int) -> float:
        low, high = meta["means"]["mins"][axis], meta["means"]["maxs"][axis]
        log = low + (high - low) * value / 65535
        return math.copysign(math.exp(abs(log)) - 1, log)

    lower, upper, scales, quats, colours = (
        pixels("means"), pixels("means", 1), pixels("scales"), pixels("quats"), pixels("sh0"),
    )  # fmt: skip
    out = []
    for i in range(meta["count"]):
        turn = [(v / 255 * 2 - 1) / math.sqrt(2) for v in quats[i][:3]]
        turn.insert(quats[i][3] - 252, math.sqrt(max(0.0, 1 - sum(v * v for v in turn))))
        rgb = [0.5 + SH_C0 * meta["sh0"]["codebook"][v] for v in colours[i][:3]]
        sh: list[list[float]] = []
        if "shN" in meta:
            count = SIZES[meta["shN"]["bands"]]
            centroids, labels = pixels("shN"), pixels("shN", 1)
            label = labels[i][0] | labels[i][1] << 8
            first = label // 64 * 64 * count + label % 64 * count
            sh = [[meta["shN"]["codebook"][v] for v in centroids[first + k][:3]] for k in range(count)]
        mean = [place(lower[i][k] | upper[i][k] << 8, k) for k in range(3)]
        scale = [math.exp(meta["scales"]["codebook"][v]) for v in scales[i][:3]]
        out.append(record(mean, scale, turn, colours[i][3] / 255, rgb, sh))
    return out


def plain_glb(data: bytes) -> list[Record]:
    size = struct.unpack_from("<I", data, 12)[0]
    document, blob = json.loads(data[20 : 20 + size]), data[28 + size :]
    (mesh,) = document["meshes"]
    (primitive,) = mesh["primitives"]
    assert primitive["mode"] == 0
    assert {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}.items() <= primitive["extensions"][
        "KHR_gaussian_splatting"
    ].items()
    assert document["extensionsUsed"] == ["KHR_gaussian_splatting"]

    def column(name: str) -> list[tuple[float, ...]]:
        accessor = document["accessors"][primitive["attributes"][name]]
        view = document["bufferViews"][accessor["bufferView"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        assert accessor["componentType"] == 5126 and view["byteOffset"] % 4 == 0
        return list(
            struct.iter_unpack(f"<{width}f", blob[view["byteOffset"] : view["byteOffset"] + view["byteLength"]])
        )

    own = "KHR_gaussian_splatting:"
    total = sum(name.startswith(f"{own}SH_DEGREE_") for name in primitive["attributes"])
    names = [f"{own}SH_DEGREE_{d}_COEF_{k}" for d in range(4) for k in range(2 * d + 1)]
    sh = [column(name) for name in names[:total]]
    position = column("POSITION")
    bounds = document["accessors"][primitive["attributes"]["POSITION"]]
    assert bounds["min"] == [min(p[k] for p in position) for k in range(3)]
    assert bounds["max"] == [max(p[k] for p in position) for k in range(3)]
    rows = zip(
        position,
        column(f"{own}SCALE"),
        column(f"{own}ROTATION"),
        column(f"{own}OPACITY"),
        column("COLOR_0"),
        strict=True,
    )
    out = []
    for i, (mean, scale, (x, y, z, w), (alpha,), colour) in enumerate(rows):
        rgb = [0.5 + SH_C0 * v for v in sh[0][i]]
        light = [decoded(min(1, max(0, c))) for c in rgb]  # "COLOR_0 contains linear values"
        assert all(abs(c - value) <= FLOAT for c, value in zip([*light, alpha], colour, strict=True))
        out.append(record(mean, scale, (w, x, y, z), alpha, rgb, [list(part[i]) for part in sh[1:]]))
    return out


def decoded(c: float) -> float:
    """sRGB, 0..1, as linear light: IEC 61966-2-1."""
    return c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4


def record(mean, scale, turn, alpha, rgb, sh=()) -> Record:
    w, x, y, z = (np.array(turn) / np.linalg.norm(turn)).tolist()
    matrix = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return {"mean": mean, "scale": scale, "matrix": matrix, "alpha": alpha, "rgb": rgb, "sh": sh}
