"""Every format: reopened by a second, plain reader written from its description, by GaussForge, and by our own."""

from __future__ import annotations

import gzip
import io
import json
import math
import struct
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from splatdistill.io import formats, kinds, ply, spz
from splatdistill.io.frames import convert_frame
from splatdistill.ops.geometry import SH_C0, rotation_matrices
from splatdistill.scene.gaussians import Splats
from tests.io.plain_readers import (
    FLOAT,
    HALF,
    Record,
    plain_compressed,
    plain_glb,
    plain_sog,
    plain_splat,
    plain_spz,
    plain_spz4,
)
from tests.io.scenes import asymmetric
from tests.rounding import GRAY

PLAIN = {
    "splat": plain_splat, "spz 4": plain_spz4, "spz 3": plain_spz, "sog": plain_sog, "compressed.ply": plain_compressed,
    "glb": plain_glb,
}  # fmt: skip
# A rotation changes by at most twice what its quaternion does, as a vector. Of four components each is off by half a
# step; or of three, and the fourth, which is half the length or more, then is by three times that.
OF_FOUR, OF_THREE = 2 * 4**0.5 * HALF, 2 * (3 + 3**2) ** 0.5 * HALF
# What each may be off by: position (steps of the box), log scale, rotation matrix, opacity, colour, harmonics.
ERRORS = {
    "splat": (FLOAT, FLOAT, OF_FOUR / 128, HALF * GRAY, HALF * GRAY, None),
    "spz": (HALF / 4096, HALF / 16, OF_THREE / 511 / 2**0.5, HALF * GRAY, HALF * GRAY / 0.15 * SH_C0, HALF / 128),
    # Logarithms of positions, steps of tables: of log scales within 5, of colours within 3, of harmonics within 2.2.
    "sog": (
        HALF / 65535 * 2.5, HALF * 5 / 255, OF_THREE * 2**0.5 / 255, HALF * GRAY, HALF * 3.01 * SH_C0 / 255,
        HALF * 2.2 / 255,
    ),
    # Of three components each is off by half a step, so the square of the fourth by 2 sqrt(3) of that, and its root.
    "spz 2": (
        HALF / 4096, HALF / 16, 2 * (2 * 3**0.5 * HALF / 127.5 + 3 * (HALF / 127.5) ** 2) ** 0.5, HALF * GRAY,
        HALF * GRAY / 0.15 * SH_C0, HALF / 128,
    ),
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
    place, size, turn, alpha, colour, sh = ERRORS.get(kind) or ERRORS[kind.split()[0]]
    assert_within(found, {**wanted, "rgb": rgb}, (place, size, turn, alpha, colour, sh))


def assert_within(
    found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], errors: tuple[float | None, ...]
) -> None:
    """Within these errors: of positions, log scales, rotation matrices, opacities, colours and harmonics."""
    order = np.linalg.norm(found["mean"][:, None] - wanted["mean"][None], axis=-1).argmin(0)
    found = {name: value[order] for name, value in found.items()}
    place, size, turn, alpha, colour, sh = errors
    assert np.abs(found["mean"] - wanted["mean"]).max() <= place
    assert np.abs(np.log(found["scale"]) - np.log(wanted["scale"])).max() <= size
    assert np.abs(found["matrix"] - wanted["matrix"]).max() <= turn
    assert np.abs(found["alpha"] - wanted["alpha"]).max() <= alpha
    assert np.abs(found["rgb"] - wanted["rgb"]).max() <= colour
    if sh is not None and wanted["sh"].size:
        assert np.abs(found["sh"] - wanted["sh"]).max() <= sh


def written(folder: Path, kind: str, splats: Splats) -> Path:
    """A file of that kind; "spz 3" is version 3."""
    path = folder / f"a.{kind.partition(' ')[0]}"
    formats.write(path, splats, how=version_of(kind))
    return path


def version_of(kind: str) -> formats.Written:
    return formats.Written(spz_version=int(kind.partition(" ")[2] or kinds.SPZ_VERSION))


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("kind", PLAIN)
def test_a_plain_reader_finds_the_splats_in_the_frame_of_the_format(tmp_path: Path, kind: str, degree: int) -> None:
    splats = asymmetric(300, degree=degree)
    path = written(tmp_path, kind, splats)
    found = columns(PLAIN[kind](path.read_bytes()))
    assert_alike(found, expected(convert_frame(splats, source="+y", target=kinds.FRAMES[kind.split()[0]])), kind)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("kind", PLAIN)
def test_what_is_written_is_read_back_in_our_frame(tmp_path: Path, kind: str, degree: int) -> None:
    splats = asymmetric(300, degree=degree)
    back = formats.read(written(tmp_path, kind, splats))
    assert back.sh_degree == (0 if kind == "splat" else degree)
    assert_alike(expected(back), expected(splats), kind)
    assert_alike(expected(formats.read(written(tmp_path, kind, back))), expected(back), kind)


GAUSSFORGE = ["splat", "spz 4", "spz 3", "spz 2", "compressed.ply", "sog"]


@pytest.mark.parametrize("kind", GAUSSFORGE)
def test_gaussforge_reads_the_same(tmp_path: Path, kind: str) -> None:
    gaussforge = pytest.importorskip("gaussforge")
    splats = asymmetric(300, degree=0 if kind == "compressed.ply" else 2)  # its order of packed harmonics is its own
    splats.opacities.clamp_(-4, 4)  # its .ply has an infinite logit where the byte is 0
    data = written(tmp_path, kind, splats).read_bytes()
    turned = gaussforge.GaussForge().convert(data, kind.split()[0], "ply")
    (tmp_path / "b.ply").write_bytes(turned["data"])
    # It hands on the numbers of the file as they are, so its .ply lies in the frame of the format that it came from.
    wanted = convert_frame(splats, source="+y", target=kinds.FRAMES[kind.split()[0]])
    found = expected(ply.read(tmp_path / "b.ply"))
    assert_alike(found, expected(wanted), kind)


@pytest.mark.parametrize("kind", ["ply", *GAUSSFORGE, "ksplat"])
def test_what_gaussforge_writes_is_read(tmp_path: Path, kind: str) -> None:
    gaussforge = pytest.importorskip("gaussforge")
    splats = asymmetric(300, degree=0 if kind in ("splat", "compressed.ply", "ksplat") else 2)
    ply.write(tmp_path / "a.ply", convert_frame(splats, source="+y", target="-y"))
    version, kind = version_of(kind).spz_version, kind.split()[0]
    data = (tmp_path / "a.ply").read_bytes().replace(f"comment {ply.COMMENT}\n".encode(), b"")
    turned = gaussforge.GaussForge().convert(data, "ply", kind, spz_version=version)
    (tmp_path / f"b.{kind}").write_bytes(turned["data"])
    found = formats.open_file(tmp_path / f"b.{kind}")
    assert (found.kind, found.up, found.assumed) == (kind, "-y", True) and "--up" in found.sentence()
    # It rounds down where we round, and keeps 5 and 4 bits of harmonics, which lie within -1 and 1.
    turn = ERRORS["spz 2"][2] if (kind, version) == ("spz", 2) else 2 * OF_THREE * 2**0.5 / 255
    errors = (1e-3, 2 * HALF / 16, turn, 2 * HALF * GRAY, 2 * HALF * GRAY / 0.15 * SH_C0, 2 * HALF / 8)  # 1e-3: a claim
    wanted = expected(splats)
    wanted["rgb"] = wanted["rgb"].clip(0, 1) if kind in ("splat", "ksplat") else wanted["rgb"]
    assert_within(expected(found.splats), wanted, errors)


def test_a_ply_is_turned_unless_it_says_that_y_is_up(tmp_path: Path) -> None:
    splats = asymmetric(5, degree=1)
    formats.write(tmp_path / "ours.ply", splats)
    ply.write(tmp_path / "run.ply", splats)
    for name in ("ours", "run"):
        assert torch.equal(formats.read(tmp_path / f"{name}.ply").means, splats.means)
    data = (tmp_path / "run.ply").read_bytes()
    (tmp_path / "theirs.ply").write_bytes(data.replace(f"comment {ply.COMMENT}\n".encode(), b""))
    theirs = formats.read(tmp_path / "theirs.ply")
    torch.testing.assert_close(theirs.means, splats.means * torch.tensor([-1.0, -1, 1]))
    ups = [kinds.ply_up(tmp_path / f"{name}.ply") for name in ("ours", "run", "theirs")]
    assert ups == ["-y", "+y", "-y"]


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
    arrays = spz.decode(gzip.compress(body))
    assert arrays["means"].tolist() == [[1, 0, -1]]
    assert np.abs(arrays["quats"][0] - [0, 1, 0, 0]).max() < 0.1


def broken(kind: str, data: bytes) -> list[bytes]:
    cut = [b"", data[:3], data[:-1], data[: len(data) // 2]]
    if kind == "splat":
        return [cut[0], cut[2], b"\xff" * 64]
    if kind == "spz 4":
        sizes = [data[:8] + struct.pack("<I", n) + data[12:] for n in (0, 299, 301, 2**32 - 1)]
        first = struct.unpack_from("<Q", data, 44)[0]
        table = [data[:44] + struct.pack("<Q", n) + data[52:] for n in (0, first - 1, first + 1, 2**64 - 1)]
        odd = [data[:at] + bytes([new]) + data[at + 1 :] for at, new in ((4, 9), (12, 9), (15, 0), (16, 9), (40, 7))]
        return [*cut, *sizes, *table, *odd]
    if kind == "spz 3":
        body = gzip.decompress(data)
        claims = [body[:8] + struct.pack("<I", n) + body[12:] for n in (0, 299, 301, 2**32 - 1)]
        odd = [body[:4] + struct.pack("<I", 9) + body[8:], body[:12] + b"\x09" + body[13:]]
        odd += [b"XXXX" + body[4:], body + b"\0"]
        return [*cut, *(gzip.compress(x) for x in (*claims, *odd)), gzip.compress(b"\0" * 10_000_000)]
    if kind == "sog":
        return [*cut, *_broken_zips(data)]
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
        (b'"POSITION":0', b'"POSITION":9'),
        (b'"mesh":0', b'"scale":0'),
        (b'"mesh":0', b'"mesh":7'),
        (b'"nodes":[0]', b'"nodes":[7]'),
        (b"splatting:SCALE", b"splatting:SCAL_"),
        (b'"byteOffset":0', b'"byteOffset":-'),
        (b'"kernel":"ellipse"', b'"kernel":"sphere"'),
        (b"srgb_rec709_display", b"lin_rec709_display"),
    ]
    return [*cut, *(data[:20] + text.replace(*swap)[:size].ljust(size) + data[20 + size :] for swap in swaps)]


def _broken_zips(data: bytes) -> list[bytes]:
    """A .sog with other descriptions, or with another picture."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    meta = json.loads(files["meta.json"])
    small = io.BytesIO()
    Image.new("RGBA", (4, 4)).save(small, "WEBP", lossless=True)
    changes: list[dict[str, bytes]] = [
        {"meta.json": json.dumps(meta | change).encode()}
        for change in (
            {"version": 1}, {"version": 3}, {"count": 0}, {"count": -1}, {"count": 10**9}, {"count": "many"},
            {"means": {}}, {"means": {**meta["means"], "mins": [0]}}, {"means": {**meta["means"], "files": ["a", "b"]}},
            {"scales": {**meta["scales"], "codebook": "none"}}, {"quats": []},
            {"shN": {**meta["shN"], "bands": 9}}, {"shN": {**meta["shN"], "count": 70_000}},
        )
    ]  # fmt: skip
    changes += [
        {"meta.json": b"["},
        {"meta.json": b"[" * 100_000},
        {"quats.webp": b"RIFF"},
        {"quats.webp": small.getvalue()},
    ]
    out = []
    for change in changes:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, content in {**files, **change}.items():
                archive.writestr(name, content)
        out.append(packed.getvalue())
    return out


@pytest.mark.parametrize("kind", PLAIN)
def test_broken_files_are_told_in_one_sentence(tmp_path: Path, kind: str) -> None:
    good = written(tmp_path, kind, asymmetric(300, degree=0 if kind == "splat" else 1))
    for i, data in enumerate(broken(kind, good.read_bytes())):
        path = tmp_path / f"{i}.{kind.split()[0]}"
        path.write_bytes(data)
        with pytest.raises(kinds.FormatError, match=rf"^[^\n]*{i}\.{kind.split()[0]} .*[.]$"):
            formats.read(path)


@pytest.mark.parametrize("kind", PLAIN)
@settings(max_examples=60)
@given(data=st.data())
def test_any_change_of_a_file_gives_splats_or_a_sentence(kind: str, data: st.DataObject) -> None:
    zipped, how, kind = kind == "spz 3", version_of(kind), kind.split()[0]
    good = formats.encode(asymmetric(3, degree=1), kind, how=how)
    good = gzip.decompress(good) if zipped else good
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + data.draw(st.binary(max_size=8)) + good[at + data.draw(st.integers(0, 8)) :]
    try:
        arrays = formats.FORMATS[kind].decode(gzip.compress(bad) if zipped else bad)
    except kinds.FormatError:
        return
    assert len({len(value) for value in arrays.values()}) == 1


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    splats = asymmetric(3)
    splats.tensors["means"][1, 1] = math.nan
    for kind in kinds.FRAMES:
        with pytest.raises(ValueError, match=r"means .*that are not finite"):
            formats.write(tmp_path / f"a.{kind}", splats)
    with pytest.raises(kinds.FormatError, match=r"must end with one of \.ply, \.compressed\.ply"):
        formats.write(tmp_path / "a.obj", asymmetric(3))
    assert list(tmp_path.iterdir()) == []
