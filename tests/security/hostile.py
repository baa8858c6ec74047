"""Bad files of a megabyte, each as costly to refuse as we could think of."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import time
import zipfile
from collections.abc import Iterator

import zstandard
from PIL import Image

from splatdistill.io import formats, glb
from tests.io.scenes import asymmetric
from tests.security.fuzz import TARGETS

MEGABYTE = 1_000_000


def ply_header(count: int, *, names: int = 0, comment: bytes = b"") -> bytes:
    required = [f"f_dc_{i}" for i in range(3)] + ["opacity"] + [f"scale_{i}" for i in range(3)]
    fields = ["x", "y", "z", *required, *(f"rot_{i}" for i in range(4)), *(f"more_{i}" for i in range(names))]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    lines += [f"property float {name}" for name in fields]
    return "\n".join(lines).encode() + b"\n" + comment + b"end_header\n"


def files() -> Iterator[tuple[str, str, bytes]]:
    """Target, what it is, and the bytes."""
    noise = random.Random(0).randbytes(MEGABYTE)
    stride = 4 * 14
    rows = MEGABYTE // stride
    yield "ply", "not finite", ply_header(rows) + (bytes(stride - 4) + b"\0\0\xc0\x7f") * rows
    yield "ply", "text of nothing", _text(ply_header(rows)) + b"x " * (MEGABYTE // 2)
    yield "ply", "text without line ends", _text(ply_header(20_000)) + b"0 " * (MEGABYTE // 2)
    yield "ply", "many rows in front", _text(_in_front(10**11) + ply_header(1)[4:]) + b"\n" * MEGABYTE
    yield "ply", "big endian, not finite", _big(ply_header(rows)) + b"\x7f\xc0\0\0" * (rows * stride // 4)
    yield "ply", "512 properties, not finite", ply_header(480, names=498) + b"\xff" * (480 * 4 * 512)
    yield "ply", "a header of comments", b"ply\n" + b"comment\n" * (MEGABYTE // 8)
    yield "ply", "a comment of a megabyte", ply_header(1, comment=b"comment " + b"x" * MEGABYTE + b"\n")
    yield "ply", "a header of nearly 64 KiB", ply_header(1, comment=b"comment\n" * 8000) + noise
    yield "ply", "a count without end", ply_header(10**12 - 1) + noise
    yield "points", "not finite", _points(MEGABYTE // 15) + b"\xff" * (MEGABYTE // 15 * 15)
    yield "compressed.ply", "claims without end", _compressed(999_999_999) + noise
    yield "compressed.ply", "a header of comments", b"ply\n" + b"comment\n" * (MEGABYTE // 8)
    yield "compressed.ply", "bounds that are not finite", _compressed(60_000) + b"\xff" * (235 * 72 + 60_000 * 16)
    yield "splat", "noise", noise[: MEGABYTE // 32 * 32]
    yield "splat", "not finite", b"\xff" * (MEGABYTE // 32 * 32)
    for claim in (20_000_000, 1_500_000, 400_000, 10_000):
        yield "spz", f"a bomb of {claim} splats", _spz(claim, bytes(64 * claim + 1))
    yield "spz", "noise", b"\x1f\x8b\x08\0" + noise
    yield "spz", "noise that unpacks", _spz(15_000, noise[:900_000])
    yield from _spz4(noise)
    yield from _zips(noise)
    yield "ksplat", "noise", b"\0\1" + noise
    yield "ksplat", "many sections", _ksplat(sections=900, count=1, buckets=0) + bytes(MEGABYTE - 900 * 1024)
    yield "ksplat", "claims without end", _ksplat(sections=1, count=2**32 - 1, buckets=0) + noise
    yield "ksplat", "buckets without end", _ksplat(sections=1, count=1, buckets=2**32 - 1) + noise
    for name, text in _documents():
        yield "glb", name, _glb(text, noise[: max(0, MEGABYTE - len(text))])
    for name, text in _settings():
        yield "config", name, text
    yield "prompt", "a megabyte of one letter", b"a" * MEGABYTE
    yield "prompt", "noise", noise


def refusal(target: str, data: bytes) -> float:
    """Seconds of processor time that it takes, the least of three."""
    times = []
    for _ in range(3):
        begun = time.process_time()
        assert not TARGETS[target](data), f"a hostile {target} was accepted"
        times.append(time.process_time() - begun)
    return min(times)


def _points(count: int) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    lines += [f"property float {x}" for x in "xyz"] + [f"property uchar {c}" for c in ("red", "green", "blue")]
    return "\n".join([*lines, "end_header\n"]).encode()


def _compressed(count: int) -> bytes:
    head = formats.encode(asymmetric(3), "compressed.ply").partition(b"end_header\n")
    text = (
        head[0].replace(b"chunk 1\n", b"chunk %d\n" % -(-count // 256)).replace(b"vertex 3\n", b"vertex %d\n" % count)
    )
    return text + head[1]


def _text(header: bytes) -> bytes:
    return header.replace(b"binary_little_endian", b"ascii")


def _big(header: bytes) -> bytes:
    return header.replace(b"binary_little_endian", b"binary_big_endian")


def _in_front(count: int) -> bytes:
    """The beginning of a .ply with another element in front of its vertices, without its format."""
    return b"ply\nformat ascii 1.0\nelement camera %d\nproperty float a\n" % count


def _spz4(noise: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Version 4: streams of Zstandard that are larger than they say, smaller, or none."""
    for claim in (20_000_000, 400_000, 10_000):
        sizes = [9 * claim, claim, 3 * claim, 3 * claim, 4 * claim]
        head = struct.pack("<4sIIBBBBI12x", b"NGSP", 4, claim, 0, 12, 0, 5, 32)
        for name, contents in (("zeros", [bytes(min(s, 1 << 24) + 9) for s in sizes]), ("noise", [noise[:2000]] * 5)):
            packed = [zstandard.compress(part) if name == "zeros" else part for part in contents]
            table = b"".join(struct.pack("<QQ", len(p), s) for p, s in zip(packed, sizes, strict=True))
            yield "spz", f"version 4, {name} for {claim} splats", head + table + b"".join(packed)


def _zips(noise: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Zips that unpack to more than a .sog has, or are none."""
    yield "sog", "noise", b"PK\3\4" + noise
    for name, files in {
        "a bomb for a description": {"meta.json": b" " * 50_000_000},
        "brackets": {"meta.json": b"[" * 100_000},
        "a bomb for a picture": {"meta.json": _meta(100_000), "a.webp": bytes(100_000_000)},
        "a large picture": {"meta.json": _meta(16_000_000), "a.webp": _webp(16_000)},
        "many names": {f"{i}": b"" for i in range(5000)},
    }.items():
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry, data in files.items():
                archive.writestr(entry, data)
        yield "sog", name, out.getvalue()


def _meta(count: int) -> bytes:
    part = {"files": ["a.webp", "a.webp"], "codebook": [0], "mins": [0, 0, 0], "maxs": [1, 1, 1]}
    return json.dumps(
        {"version": 2, "count": count, **dict.fromkeys(("means", "scales", "quats", "sh0"), part)}
    ).encode()


def _webp(side: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGBA", (side, side // 16)).save(out, "WEBP", lossless=True, method=0)
    return out.getvalue()


def _ksplat(*, sections: int, count: int, buckets: int) -> bytes:
    head = struct.pack("<BBHIIIIH", 0, 1, 0, sections, sections, count, 1, 1).ljust(4096, b"\0")
    section = struct.pack("<IIIIfHHIII", count, count, 1, buckets, 1.0, 12, 0, 1, 0, 0).ljust(1024, b"\0")
    return head + section * sections


def _spz(count: int, body: bytes) -> bytes:
    return gzip.compress(struct.pack("<4sIIBBBB", b"NGSP", 3, count, 3, 12, 0, 0) + body, mtime=0)


def _documents() -> Iterator[tuple[str, bytes]]:
    size = glb.MAX_JSON - 200
    yield "a megabyte", b"[" * MEGABYTE
    yield "brackets", b"[" * size
    yield "many numbers", b"[" + b"1," * (size // 2) + b"1]"
    yield "digits", b'{"a":' + b"9" * size + b"}"
    yield "many meshes", b'{"meshes":[' + b'{"primitives":[]},' * (size // 20) + b'{"primitives":[]}]}'
    yield (
        "many nodes",
        (
            b'{"meshes":[{"primitives":[{"extensions":{"KHR_gaussian_splatting":{}},"attributes":{}}]}],"nodes":['
            + b"{}," * (size // 4)
            + b"{}]}"
        ),
    )
    wanted = json.dumps([f"x{i}" for i in range(size // 12)]).encode()
    yield "many needed extensions", b'{"extensionsRequired":' + wanted + b"}"


def _glb(text: bytes, blob: bytes) -> bytes:
    text += b" " * (-len(text) % 4)
    blob = blob[: len(blob) // 4 * 4]
    head = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + len(blob), len(text), 0x4E4F534A)
    return head + text + struct.pack("<II", len(blob), 0x004E4942) + blob


def _settings() -> Iterator[tuple[str, bytes]]:
    size = 60_000  # beyond 64 KiB nothing is looked at
    yield "a megabyte", b"a: 1\n" * (MEGABYTE // 5)
    yield "brackets", b"[" * size
    yield "a list", b"[" + b"1," * (size // 2) + b"1]"
    yield "keys", b"".join(b"key%d: 1\n" % i for i in range(size // 11))
    yield "a key of 60 kB", b"a" * size + b": 1\n"
    yield "sixties", b"steps: " + b"1:" * 2400 + b"1"
    yield "many sixties", (b"a%d: " % 1) + b"[" + b",".join(b"1:" * 2400 + b"1" for _ in range(12)) + b"]"
    yield "dates", b"[" + b",".join(b"2001-01-01" for _ in range(3500)) + b"]"
    for name, line in {"merges": b"a%d: &a%d {<<: [*a%d, *a%d]}\n", "laughs": b"a%d: &a%d [*a%d, *a%d]\n"}.items():
        yield name, b"a0: &a0 {k: 1}\n" + b"".join(line % (i, i, i - 1, i - 1) for i in range(1, 99))
