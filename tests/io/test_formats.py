"""Every format: reopened by a second, plain reader written from its description, by GaussForge, and by our own."""

from __future__ import annotations

import gzip
import json
import math
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splatdistill.io import formats, kinds, ply
from splatdistill.io.frames import convert_frame
from splatdistill.ops.geometry import SH_C0, rotation_matrices
from splatdistill.scene.gaussians import Splats
from tests.io.scenes import asymmetric
from tests.rounding import GRAY, UNIT

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
        kind = {5126: "f"}[accessor["componentType"]]
        assert view["byteOffset"] % 4 == 0
        return list(
            struct.iter_unpack(f"<{width}{kind}", blob[view["byteOffset"] : view["byteOffset"] + view["byteLength"]])
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
    """The light of an sRGB value in 0..1."""
    return c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4


def record(mean, scale, turn, alpha, rgb, sh=()) -> Record:
    w, x, y, z = (np.array(turn) / np.linalg.norm(turn)).tolist()
    matrix = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return {"mean": mean, "scale": scale, "matrix": matrix, "alpha": alpha, "rgb": rgb, "sh": sh}


PLAIN = {"splat": plain_splat, "spz": plain_spz, "compressed.ply": plain_compressed, "glb": plain_glb}
HALF = 0.51  # a step, with a fiftieth of that for what follows in float32
FLOAT = 16 * UNIT  # a handful of operations in float32 on numbers up to 5, here and there
# A rotation changes by at most twice what its quaternion does, as a vector. Of four components each is off by half a
# step; or of three, and the fourth, which is half the length or more, then is by three times that.
OF_FOUR, OF_THREE = 2 * 4**0.5 * HALF, 2 * (3 + 3**2) ** 0.5 * HALF
# What each may be off by: position (steps of the box), log scale, rotation matrix, opacity, colour, harmonics.
ERRORS = {
    "splat": (FLOAT, FLOAT, OF_FOUR / 128, HALF * GRAY, HALF * GRAY, None),
    "spz": (HALF / 4096, HALF / 16, OF_THREE / 511 / 2**0.5, HALF * GRAY, HALF * GRAY / 0.15 * SH_C0, HALF / 128),
    "compressed.ply": (
        HALF / 1023 * 1.3, HALF / 1023 * 5, OF_THREE * 2**0.5 / 1023, HALF * GRAY, HALF * GRAY, HALF * 8 / 256,
    ),
    "glb": (FLOAT,) * 6,
}  # fmt: skip


def columns(records: list[Record]) -> dict[str, np.ndarray]:
    return {name: np.array([r[name] for r in records]) for name in records[0]}


def expected(splats: Splats) -> dict[str, np.ndarray]:
    return {
        "mean": splats.means.numpy(),
        "scale": torch.exp(splats.scales).numpy(),
        "matrix": rotation_matrices(splats.quats).numpy(),
        "alpha": torch.sigmoid(splats.opacities).numpy(),
        "rgb": (0.5 + SH_C0 * splats.sh0[:, 0]).numpy(),
        "sh": splats.shN.numpy(),
    }


def assert_alike(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], kind: str) -> None:
    """Within the format's steps; splats may come in another order."""
    far = np.linalg.norm(found["mean"][:, None] - wanted["mean"][None], axis=-1)
    order = far.argmin(0)
    assert sorted(order) == list(range(len(order)))
    found = {name: value[order] for name, value in found.items()}
    rgb = wanted["rgb"].clip(0, 1) if kind == "splat" else wanted["rgb"]
    place, size, turn, alpha, colour, sh = ERRORS[kind]
    assert np.abs(found["mean"] - wanted["mean"]).max() <= place
    assert np.abs(np.log(found["scale"]) - np.log(wanted["scale"])).max() <= size
    assert np.abs(found["matrix"] - wanted["matrix"]).max() <= turn
    assert np.abs(found["alpha"] - wanted["alpha"]).max() <= alpha
    assert np.abs(found["rgb"] - rgb).max() <= colour
    if sh is not None and wanted["sh"].size:
        assert np.abs(found["sh"] - wanted["sh"]).max() <= sh


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("kind", PLAIN)
def test_a_plain_reader_finds_the_splats_in_the_frame_of_the_format(tmp_path: Path, kind: str, degree: int) -> None:
    splats = asymmetric(300, degree=degree)
    formats.write(tmp_path / f"a.{kind}", splats)
    found = columns(PLAIN[kind]((tmp_path / f"a.{kind}").read_bytes()))
    assert_alike(found, expected(convert_frame(splats, source="+y", target=kinds.FRAMES[kind])), kind)
    assert [p.name for p in tmp_path.iterdir()] == [f"a.{kind}"]


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("kind", PLAIN)
def test_what_is_written_is_read_back_in_our_frame(tmp_path: Path, kind: str, degree: int) -> None:
    splats = asymmetric(300, degree=degree)
    formats.write(tmp_path / f"a.{kind}", splats)
    back = formats.read(tmp_path / f"a.{kind}")
    assert back.sh_degree == (0 if kind == "splat" else degree)
    assert_alike(expected(back), expected(splats), kind)
    formats.write(tmp_path / f"b.{kind}", back)
    assert_alike(expected(formats.read(tmp_path / f"b.{kind}")), expected(back), kind)


@pytest.mark.parametrize("kind", ["splat", "spz", "compressed.ply"])
def test_gaussforge_reads_the_same(tmp_path: Path, kind: str) -> None:
    gaussforge = pytest.importorskip("gaussforge")
    splats = asymmetric(300)
    splats.opacities.clamp_(-4, 4)  # its .ply has an infinite logit where the byte is 0
    formats.write(tmp_path / f"a.{kind}", splats)
    turned = gaussforge.GaussForge().convert((tmp_path / f"a.{kind}").read_bytes(), kind, "ply")
    (tmp_path / "b.ply").write_bytes(turned["data"])
    # It hands on the numbers of the file as they are, so its .ply lies in the frame of the format that it came from.
    wanted = convert_frame(splats, source="+y", target=kinds.FRAMES[kind])
    assert_alike(expected(ply.read(tmp_path / "b.ply")), expected(wanted), kind)


def test_a_ply_is_turned_unless_it_says_that_y_is_up(tmp_path: Path) -> None:
    splats = asymmetric(5, degree=1)
    formats.write(tmp_path / "ours.ply", splats)
    assert torch.equal(formats.read(tmp_path / "ours.ply").means, splats.means)
    data = (tmp_path / "ours.ply").read_bytes()
    (tmp_path / "theirs.ply").write_bytes(data.replace(f"comment {ply.COMMENT}\n".encode(), b""))
    theirs = formats.read(tmp_path / "theirs.ply")
    torch.testing.assert_close(theirs.means, splats.means * torch.tensor([1.0, -1, -1]))
    assert kinds.ply_up(tmp_path / "ours.ply") == "+y" and kinds.ply_up(tmp_path / "theirs.ply") == "-y"


def test_the_most_visible_splat_comes_first(tmp_path: Path) -> None:
    splats = asymmetric(100)
    formats.write(tmp_path / "a.splat", splats)
    seen = [r["alpha"] * math.prod(r["scale"]) for r in plain_splat((tmp_path / "a.splat").read_bytes())]
    assert all(a >= b - 0.01 * a for a, b in pairwise(seen))


def test_an_old_spz_is_read() -> None:
    body = (
        struct.pack("<4sIIBBBB", b"NGSP", 2, 1, 0, 12, 0, 0)
        + (4096).to_bytes(3, "little")
        + b"\0\0\0"
        + (2**24 - 4096).to_bytes(3, "little")
    )
    body += bytes([255, 128, 128, 128, 160, 160, 160]) + bytes([255, 128, 128])  # a half turn about x
    arrays = formats._decode_spz(gzip.compress(body))
    assert arrays["means"].tolist() == [[1, 0, -1]]
    assert np.abs(arrays["quats"][0] - [0, 1, 0, 0]).max() < 0.1


def broken(kind: str, data: bytes) -> list[bytes]:
    cut = [b"", data[:3], data[:-1], data[: len(data) // 2], b"\0" * 100]
    if kind == "splat":
        return [cut[0], cut[2], b"\xff" * 64]
    if kind == "spz":
        body = gzip.decompress(data)
        claims = [body[:8] + struct.pack("<I", n) + body[12:] for n in (0, 299, 301, 2**32 - 1)]
        odd = [
            body[:4] + struct.pack("<I", 9) + body[8:],
            body[:12] + b"\x09" + body[13:],
            b"XXXX" + body[4:],
            body + b"\0",
        ]
        return [*cut, *(gzip.compress(x) for x in (*claims, *odd)), gzip.compress(b"\0" * 10_000_000)]
    if kind == "compressed.ply":
        swaps = [
            (b"element chunk 2", b"element chunk 1"),
            (b"vertex 300", b"vertex 301"),
            (b"packed_color", b"packed_colour"),
        ]
        return [*cut, *(data.replace(*swap) for swap in swaps), data.replace(b"comment", b"comment" + b" " * 70_000)]
    size = struct.unpack_from("<I", data, 12)[0]
    text = data[20 : 20 + size]
    swaps = [
        (b'"count":300', b'"count":301'),
        (b'"count":300', b'"count":-10'),
        (b"VEC3", b"VEC4"),
        (b"5126", b"5121"),
        (b'"POSITION":0', b'"POSITION":9'),
        (b'"mesh":0', b'"scale":0'),
        (b"splatting:SCALE", b"splatting:SCAL_"),
        (b'"byteOffset":0', b'"byteOffset":-'),
    ]
    return [*cut, *(data[:20] + text.replace(*swap)[:size].ljust(size) + data[20 + size :] for swap in swaps)]


@pytest.mark.parametrize("kind", PLAIN)
def test_broken_files_are_told_in_one_sentence(tmp_path: Path, kind: str) -> None:
    formats.write(tmp_path / f"a.{kind}", asymmetric(300, degree=0 if kind == "splat" else 1))
    for i, data in enumerate(broken(kind, (tmp_path / f"a.{kind}").read_bytes())):
        path = tmp_path / f"{i}.{kind}"
        path.write_bytes(data)
        with pytest.raises(kinds.FormatError, match=rf"^[^\n]*{i}\.{kind} .*[.]$"):
            formats.read(path)


@pytest.mark.parametrize("kind", PLAIN)
@settings(max_examples=60)
@given(data=st.data())
def test_any_change_of_a_file_gives_splats_or_a_sentence(kind: str, data: st.DataObject) -> None:
    good = formats.encode(asymmetric(3, degree=1), kind)
    good = gzip.decompress(good) if kind == "spz" else good
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + data.draw(st.binary(max_size=8)) + good[at + data.draw(st.integers(0, 8)) :]
    try:
        arrays = formats._FORMATS[kind].decode(gzip.compress(bad) if kind == "spz" else bad)
    except kinds.FormatError:
        return
    assert len({len(value) for value in arrays.values()}) == 1


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    splats = asymmetric(3)
    splats.tensors["means"][1, 1] = math.nan
    for kind in PLAIN:
        with pytest.raises(ValueError, match="means that are not finite"):
            formats.write(tmp_path / f"a.{kind}", splats)
    with pytest.raises(kinds.FormatError, match=r"must end with one of \.ply, \.compressed\.ply"):
        formats.write(tmp_path / "a.obj", asymmetric(3))
    assert list(tmp_path.iterdir()) == []
