"""Bad files of a megabyte, each as costly to refuse as we could think of."""

from __future__ import annotations

import gzip
import json
import random
import struct
import time
from collections.abc import Iterator

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
    yield "ply", "not finite at its end", ply_header(rows) + bytes(rows * stride - 4) + b"\0\0\xc0\x7f"
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
    yield "splat", "not finite at its end", _splat(MEGABYTE // 32)
    for claim in (20_000_000, 1_500_000, 400_000, 10_000):
        yield "spz", f"a bomb of {claim} splats", _spz(claim, bytes(64 * claim + 1))
    yield "spz", "noise", b"\x1f\x8b\x08\0" + noise
    yield "spz", "noise that unpacks", _spz(15_000, noise[:900_000])
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


def _splat(count: int) -> bytes:
    good = formats.encode(asymmetric(1), "splat")
    return good * (count - 1) + b"\xff" * 32


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
