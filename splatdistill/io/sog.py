"""PlayCanvas's .sog, version 2: a zip of meta.json and lossless WebP pictures, a pixel for each splat.

Positions have 16 bits, quaternions 8 for each of the smallest three, opacities 8. Scales, colours and harmonics are
indices into tables of 256 numbers; harmonics also share a palette of up to 65536 entries.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from PIL import Image

from splatdistill.io.bits import columns, from_largest_and_others, largest_and_others, morton_order, to_bytes
from splatdistill.io.kinds import MAX_SPLATS, Arrays, FormatError, Hint, Up, from_colours
from splatdistill.ops.geometry import SH_C0

META = "meta.json"
MAX_META = 1 << 17  # bytes; a description has some 10,000
MAX_RATIO = 64  # of pixels' bytes to those of the file
PALETTE = 65536
_ROW = 64  # entries of the palette in a row of its picture
_OURS = "splatdistill"
_BROKEN = (KeyError, IndexError, TypeError, AttributeError, ValueError)


def encode(a: Arrays, up: Up = "-y") -> bytes:
    order = morton_order(a["means"])
    a = {name: value[order] for name, value in a.items()}
    n = len(a["means"])
    logs = np.sign(a["means"]) * np.log1p(np.abs(a["means"].astype(np.float64)))
    low, high = logs.min(0), logs.max(0)
    fixed = np.rint((logs - low) / np.maximum(high - low, 1e-12) * 65535).astype(np.uint16)
    largest, others = largest_and_others(a["quats"])
    quats = np.stack([*to_bytes(others * np.float32(0.5**0.5) + np.float32(0.5)), 252 + largest], 1)
    scales, scale_table = _indexed(a["scales"].clip(-20, 20))
    colours, colour_table = _indexed(a["sh0"][:, 0])
    pictures = {
        "means_l.webp": _opaque((fixed & 255).astype("u1")),
        "means_u.webp": _opaque((fixed >> 8).astype("u1")),
        "scales.webp": _opaque(scales),
        "quats.webp": quats,
        "sh0.webp": np.concatenate([colours, to_bytes(a["opacities"])[:, None]], 1),
    }
    meta: dict[str, Any] = {
        "version": 2,
        "asset": {"generator": _OURS},
        _OURS: {"up": up},
        "count": n,
        "means": {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": scale_table, "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": colour_table, "files": ["sh0.webp"]},
    }
    width = -(-int(np.ceil(n**0.5)) // 4) * 4
    files = {name: _picture(pixels, width) for name, pixels in pictures.items()}
    if a["shN"].shape[1]:
        meta["shN"], more = _encode_harmonics(a["shN"], width)
        files |= more
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:  # pictures do not get smaller
        for name, data in {META: json.dumps(meta).encode(), **files}.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # without the time, so that equal splats are equal files
    return out.getvalue()


def decode(data: bytes) -> Arrays:
    meta, read = _open(data)
    try:
        n = meta["count"]
        if not isinstance(n, int) or not 0 < n <= MAX_SPLATS:
            raise FormatError(f"claims {str(n)[:20]} splats.")
        if 24 * n > max(MAX_RATIO * len(data), 1 << 22):
            raise FormatError(f"claims {n} splats in {len(data)} bytes: no scene packs as small as that.")

        def pixels(part: str, number: int = 0) -> np.ndarray:
            return _pixels(read(meta[part]["files"][number]), n)

        fixed = pixels("means")[:, :3].astype(np.uint32) | pixels("means", 1)[:, :3].astype(np.uint32) << 8
        low, high = (np.array(meta["means"][name], np.float64).reshape(3) for name in ("mins", "maxs"))
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is dropped
            logs = low + fixed / 65535 * (high - low)
            means = np.sign(logs) * np.expm1(np.abs(logs))
        quats = pixels("quats")
        turned = quats[:, 3] >= 252  # PlayCanvas takes others for no turn
        others = (columns(quats[:, :3]) * np.float32(2 / 255) - np.float32(1)) * np.float32(0.5**0.5)
        found = from_largest_and_others(quats[:, 3].clip(252) - 252, others)
        found[~turned] = [1, 0, 0, 0]
        scales = _looked_up(meta["scales"]["codebook"], pixels("scales")[:, :3])
        colours = pixels("sh0")
        rgb = 0.5 + SH_C0 * _looked_up(meta["sh0"]["codebook"], colours[:, :3])
        shN = _decode_harmonics(meta["shN"], read, n) if "shN" in meta else None
    except _BROKEN as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"has a description that is not whole: {type(error).__name__} {str(error)[:60]}.") from None
    return from_colours(means, scales, found, colours[:, 3] / 255, rgb, shN)


def hint(data: bytes) -> Hint:
    """What a file of ours says; PlayCanvas's own say nothing."""
    own = _open(data)[0].get(_OURS)
    said = cast("dict[str, Any]", own).get("up") if isinstance(own, dict) else None
    return Hint(cast(Up, said) if said in ("+y", "-y") else None)


def _open(data: bytes) -> tuple[dict[str, Any], Callable[[str], bytes]]:
    """The description, and what reads a file of the zip by its name."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise FormatError(f"is no zip that can be read: {str(error)[:80]}.") from None

    def read(name: str, most: int = 2 * len(data)) -> bytes:
        try:
            with archive.open(name) as file:
                found = file.read(most + 1)
        except KeyError:
            raise FormatError(f"is a zip without {name[:80]!r}.") from None
        except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, OSError, ValueError) as error:
            raise FormatError(f"is a zip in which {name[:80]!r} is damaged: {str(error)[:80]}.") from None
        except Exception as error:  # zlib.error, lzma.LZMAError: of the packers that zip knows
            raise FormatError(f"is a zip in which {name[:80]!r} is damaged: {str(error)[:80]}.") from None
        if len(found) > most:
            raise FormatError(f"is a zip in which {name[:80]!r} is larger than {most} bytes.")
        return found

    try:
        meta = json.loads(read(META, MAX_META))
    except FormatError:
        raise
    except (ValueError, RecursionError):
        raise FormatError("has a meta.json that is not JSON.") from None
    if not isinstance(meta, dict):
        raise FormatError("has a meta.json that describes no splats.")
    meta = cast("dict[str, Any]", meta)
    if meta.get("version") != 2:
        raise FormatError(f"is of version {str(meta.get('version', 1))[:20]}; version 2 is read.")
    return meta, read


def _indexed(values: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Indices, uint8 in the shape of `values`, into 256 evenly spaced numbers from the least to the largest."""
    low, high = float(values.min()), float(values.max())
    table = np.linspace(low, high, 256)
    return np.rint((values - low) / max(high - low, 1e-12) * 255).astype("u1"), table.tolist()


def _looked_up(table: Any, indices: np.ndarray) -> np.ndarray:
    numbers = np.zeros(256)
    given = np.array(table, np.float64).ravel()[:256]
    numbers[: len(given)] = given
    return numbers[indices]


def _opaque(rgb: np.ndarray) -> np.ndarray:
    return np.concatenate([rgb, np.full((len(rgb), 1), 255, "u1")], 1)


def _picture(pixels: np.ndarray, width: int) -> bytes:
    """Lossless WebP of pixels [N,4], `width` in a row, four of them black where there is no splat."""
    rows = np.zeros((-(-len(pixels) // width) * width, 4), "u1")
    rows[: len(pixels)] = pixels
    out = io.BytesIO()
    Image.fromarray(rows.reshape(-1, width, 4)).save(out, "WEBP", lossless=True, exact=True, quality=50, method=0)
    return out.getvalue()


def _pixels(data: bytes, least: int, *, width: int | None = None, most: int | None = None) -> np.ndarray:
    """The first `least` pixels [least,4] of a picture; of this width and of at most so many pixels, if given."""
    try:
        picture = Image.open(io.BytesIO(data), formats=["WEBP", "PNG"])
        sides, most = picture.size, 2 * least + (1 << 16) if most is None else most
        if sides[0] * sides[1] < least or sides[0] * sides[1] > most or width not in (None, sides[0]):
            raise FormatError(f"has a picture of {sides[0]} x {sides[1]} pixels where it needs {least}.")
        return np.asarray(picture.convert("RGBA")).reshape(-1, 4)[:least]
    except FormatError:
        raise
    except Exception as error:  # of Pillow's readers
        raise FormatError(f"has a picture that cannot be read: {type(error).__name__}.") from None


def _encode_harmonics(shN: np.ndarray, width: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Description and pictures of harmonics [N,S-1,3]."""
    labels, palette = _palette(shN.reshape(len(shN), -1))
    count = shN.shape[1]
    indices, table = _indexed(palette)
    rows = np.zeros((-(-len(palette) // _ROW) * _ROW, count, 3), "u1")
    rows[: len(palette)] = indices.reshape(-1, count, 3)
    label = np.stack([labels & 255, labels >> 8, np.zeros_like(labels)], 1).astype("u1")
    names = ["shN_centroids.webp", "shN_labels.webp"]
    pictures = [_picture(_opaque(rows.reshape(-1, 3)), _ROW * count), _picture(_opaque(label), width)]
    bands = {3: 1, 8: 2, 15: 3}[count]
    meta = {"count": len(palette), "bands": bands, "codebook": table, "files": names}
    return meta, dict(zip(names, pictures, strict=True))


def _palette(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N] and a palette of at most PALETTE rows: each its own, or the means of boxes, halved where they are
    widest (median cut).
    """
    n = len(rows)
    if n <= PALETTE:
        return np.arange(n), rows
    box = np.zeros(n, np.int64)
    for _ in range(PALETTE.bit_length() - 1):
        counts = np.bincount(box)
        sums = [np.bincount(box, column) / counts for column in rows.T]
        spread = [
            np.bincount(box, column * column) / counts - mean**2 for column, mean in zip(rows.T, sums, strict=True)
        ]
        axis = np.argmax(spread, 0)
        order = np.lexsort((rows[np.arange(n), axis[box]], box))
        starts = np.cumsum(counts) - counts
        rank = np.empty(n, np.int64)
        rank[order] = np.arange(n)
        box = 2 * box + (rank - starts[box] >= (counts[box] + 1) // 2)
    counts = np.bincount(box)
    return box, np.stack([np.bincount(box, column) / counts for column in rows.T], 1).astype(np.float32)


def _decode_harmonics(meta: dict[str, Any], read: Callable[[str], bytes], n: int) -> np.ndarray:
    count = {0: 0, 1: 3, 2: 8, 3: 15}[meta["bands"]]
    size = meta["count"]
    if not isinstance(size, int) or not 0 < size <= PALETTE:
        raise FormatError(f"claims a palette of {str(size)[:20]} harmonics.")
    if not count:
        return np.zeros((n, 0, 3))
    rows = -(-size // _ROW)
    palette = _pixels(read(meta["files"][0]), rows * _ROW * count, width=_ROW * count)[:, :3]
    labels = _pixels(read(meta["files"][1]), n)
    entries = _looked_up(meta["codebook"], palette).reshape(-1, count, 3).astype(np.float32)
    return entries[(labels[:, 0].astype(np.int64) | labels[:, 1].astype(np.int64) << 8).clip(max=len(entries) - 1)]
