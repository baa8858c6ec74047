"""Forty files as the world has them, each made here: read right, or refused with a true sentence.

Kinds are those that issue threads and other programs' writers show: reference pages `clients` and `market_2026`.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from splatdistill import cli
from splatdistill.io import formats, ply
from splatdistill.io.frames import convert_frame, from_turns, transform
from splatdistill.io.kinds import FormatError
from splatdistill.scene.gaussians import FIELDS, Splats
from tests.io.scenes import asymmetric
from tests.rounding import UNIT

SPLATS = asymmetric(30, degree=1)
DOWN = convert_frame(SPLATS, source="+y", target="-y")  # as most programs' files lie


def inria(splats: Splats = DOWN) -> np.ndarray:
    """The rows of INRIA's .ply, as float32."""
    rest = splats.shN.transpose(1, 2).reshape(len(splats), -1)
    columns = {"x": 0, "y": 1, "z": 2}
    table = {name: splats.means[:, i] for name, i in columns.items()}
    table |= {f"n{x}": torch.zeros(len(splats)) for x in "xyz"}
    table |= {f"f_dc_{i}": splats.sh0[:, 0, i] for i in range(3)}
    table |= {f"f_rest_{i}": rest[:, i] for i in range(rest.shape[1])}
    table |= {"opacity": splats.opacities}
    table |= {f"scale_{i}": splats.scales[:, i] for i in range(3)} | {f"rot_{i}": splats.quats[:, i] for i in range(4)}
    rows = np.empty(len(splats), [(name, "<f4") for name in table])
    for name, column in table.items():
        rows[name] = column.numpy()
    return rows


def as_ply(rows: np.ndarray, *more: PlyElement, first: bool = False, **how: object) -> bytes:
    vertex = PlyElement.describe(rows, "vertex")
    out = io.BytesIO()
    PlyData([*more, vertex] if first else [vertex, *more], **how).write(out)  # type: ignore[arg-type]
    return out.getvalue()


def plain() -> bytes:
    return as_ply(inria(), byte_order="<")


def renamed(rows: np.ndarray, drop: str = "", **new: str) -> np.ndarray:
    names = [name for name in rows.dtype.names or () if not (drop and name.startswith(drop))]
    out = np.empty(len(rows), [(new.get(name, name), rows.dtype[name]) for name in names])
    for name in names:
        out[new.get(name, name)] = rows[name]
    return out


def doubles() -> np.ndarray:
    return inria().astype([(name, "<f8") for name in inria().dtype.names or ()])


def faces() -> PlyElement:
    rows = np.empty(2, [("vertex_indices", "O")])
    rows["vertex_indices"] = [np.array([0, 1, 2], "i4"), np.array([1, 2, 3, 4], "i4")]
    return PlyElement.describe(rows, "face", len_types={"vertex_indices": "u1"}, val_types={"vertex_indices": "i4"})


def cameras() -> PlyElement:
    return PlyElement.describe(np.zeros(3, [("focal", "<f4"), ("id", "<i2")]), "camera")


def with_bad_rows() -> bytes:
    rows = inria()
    rows["x"][3], rows["scale_1"][7], rows["f_rest_2"][8], rows["scale_0"][9] = math.nan, math.inf, -math.inf, 200
    return as_ply(rows, byte_order="<")


def opaque() -> bytes:
    rows = inria()
    rows["opacity"][:2] = math.inf, -math.inf
    return as_ply(rows, byte_order="<")


def unturned() -> bytes:
    rows = inria()
    for i in range(4):
        rows[f"rot_{i}"][0] = 0
    return as_ply(rows, byte_order="<")


def longer_quats() -> bytes:
    rows = inria()
    for i in range(4):
        rows[f"rot_{i}"] *= 7
    return as_ply(rows, byte_order="<")


def packed(splats: Splats = SPLATS) -> bytes:
    return formats.encode(splats, "compressed.ply").replace(b"comment splatdistill up=-y front=+z\n", b"")


def packed_of_2023() -> bytes:
    """Without bounds of colours, which then lie in 0..1."""
    splats = Splats(**{**SPLATS.tensors, "sh0": SPLATS.sh0.clamp(-1.7, 1.7), "shN": SPLATS.shN[:, :0]})
    head, _, body = packed(splats).partition(b"end_header\n")
    bounds = np.frombuffer(body[:72], "<f4").copy()
    rows = np.frombuffer(body[72:], "<u4").reshape(-1, 4).copy()
    low, high = bounds[12:15], bounds[15:18]
    for channel, shift in enumerate((24, 16, 8)):
        unit = (rows[:, 3] >> shift & 255) / 255 * (high - low)[channel] + low[channel]
        rows[:, 3] = rows[:, 3] & ~np.uint32(255 << shift) | np.rint(unit * 255).astype(np.uint32) << shift
    lines = [line for line in head.split(b"\n") if not line.endswith((b"_r", b"_g", b"_b"))]
    return b"\n".join(lines) + b"end_header\n" + bounds[:12].tobytes() + rows.tobytes()


def packed_with_more() -> bytes:
    data = packed()
    return data.replace(b"end_header\n", b"element extra 2\nproperty float a\nend_header\n") + bytes(8)


def raw_spz(version: int) -> bytes:
    """The numbers of DOWN as they are, as gaussforge and splat-transform write them."""
    data = formats.encode(DOWN, "spz", how=formats.Written(spz_version=version))
    if version < 4:
        return gzip.compress(gzip.decompress(data), 6, mtime=0)
    start = struct.unpack_from("<I", data, 16)[0]
    return data[:14] + bytes([data[14] & ~2]) + data[15:16] + struct.pack("<I", 32) + data[20:32] + data[start:]


def spz_in(system: int) -> bytes:
    """Version 4 with another coordinate system in Adobe's extension."""
    data = formats.encode(DOWN, "spz", how=formats.Written(spz_version=4))
    return data[:40] + struct.pack("<I", system) + data[44:]


def spz_with_stranger() -> bytes:
    """Version 4 with another vendor's extension in front of Adobe's."""
    data = formats.encode(SPLATS, "spz", how=formats.Written(spz_version=4))
    more = struct.pack("<II5s", 0x12340001, 5, b"hello")
    return data[:16] + struct.pack("<I", 44 + len(more)) + data[20:32] + more + data[32:]


def of_01() -> bytes:
    """A .spz as version 0.1 of this program wrote it: version 3, +y up, gzip with the highest effort."""
    return formats.encode(SPLATS, "spz", how=formats.Written(spz_version=3))


def glb(change: Callable[[dict, bytearray], None]) -> bytes:
    """Ours with another description, and more numbers behind those that are there."""
    data = formats.encode(SPLATS, "glb")
    size = struct.unpack_from("<I", data, 12)[0]
    document, blob = json.loads(data[20 : 20 + size]), bytearray(data[28 + size :])
    change(document, blob)
    blob += bytes(-len(blob) % 4)
    document["buffers"][0]["byteLength"] = len(blob)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + len(blob), len(text), 0x4E4F534A)
    return head + text + struct.pack("<II", len(blob), 0x004E4942) + bytes(blob)


def _again(document: dict, blob: bytearray, name: str, values: np.ndarray, code: int, *, normalized: bool) -> None:
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"][name]]
    document["bufferViews"].append({"buffer": 0, "byteOffset": len(blob), "byteLength": values.nbytes})
    accessor.update(bufferView=len(document["bufferViews"]) - 1, componentType=code, normalized=normalized)
    blob += values.tobytes()


def quantized(document: dict, blob: bytearray) -> None:
    own = "KHR_gaussian_splatting:"
    turns = np.rint(SPLATS.quats.numpy()[:, [1, 2, 3, 0]] * 32767).astype("<i2")
    _again(document, blob, f"{own}ROTATION", turns, 5122, normalized=True)
    seen = np.rint(SPLATS.opacities.sigmoid().numpy() * 65535).astype("<u2")
    _again(document, blob, f"{own}OPACITY", seen, 5123, normalized=True)


def halves(document: dict, blob: bytearray) -> None:
    _again(document, blob, "POSITION", SPLATS.means.numpy().astype("<f2"), 5131, normalized=False)


def interleaved(document: dict, blob: bytearray) -> None:
    mixed = np.zeros((len(SPLATS), 5), "<f4")
    mixed[:, :3] = SPLATS.means.numpy()
    _again(document, blob, "POSITION", mixed, 5126, normalized=False)
    document["bufferViews"][-1]["byteStride"] = 20


def moved(document: dict, _: bytearray) -> None:
    half = math.sqrt(0.5)
    document["nodes"] = [
        {"children": [1], "translation": [1, 2, 3]},
        {"mesh": 0, "rotation": [0, half, 0, half], "scale": [2, 2, 2]},
    ]


def uneven(document: dict, _: bytearray) -> None:
    document["nodes"][0]["scale"] = [1, 2, 1]


def compressed(document: dict, _: bytearray) -> None:
    document["extensionsRequired"] = ["KHR_gaussian_splatting_compression_spz_2"]


def linear(document: dict, _: bytearray) -> None:
    document["meshes"][0]["primitives"][0]["extensions"]["KHR_gaussian_splatting"]["colorSpace"] = "lin_rec709_display"


def mesh_glb(document: dict, _: bytearray) -> None:
    del document["meshes"][0]["primitives"][0]["extensions"]


def circle(document: dict, _: bytearray) -> None:
    document["nodes"][0]["children"] = [0]


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/").replace("_DOT_", "."), data)
    return out.getvalue()


def points(kind: str, white: float) -> bytes:
    rows = np.zeros(30, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), *((c, kind) for c in ("red", "green", "blue"))])
    rows["x"], rows["red"] = np.arange(30), white
    return as_ply(rows, byte_order="<")


def mesh_ply() -> bytes:
    return as_ply(renamed(inria()[["x", "y", "z"]]), faces(), byte_order="<")


def flat() -> bytes:
    """Splats of two dimensions, as 2DGS writes them."""
    return as_ply(renamed(inria(), drop="scale_2"), byte_order="<")


FULL = "full"  # all splats as they were
Wild = tuple[str, Callable[[], bytes], str]
READ: dict[str, Wild] = {  # name: file name, bytes, what to expect
    "INRIA": ("a.ply", plain, FULL),
    "text": ("a.ply", lambda: as_ply(inria(), text=True), FULL),
    "big endian": ("a.ply", lambda: as_ply(inria().astype(inria().dtype.newbyteorder(">")), byte_order=">"), FULL),
    "doubles": ("a.ply", lambda: as_ply(doubles(), byte_order="<"), FULL),
    "faces behind": ("a.ply", lambda: as_ply(inria(), faces(), byte_order="<"), FULL),
    "cameras behind": ("a.ply", lambda: as_ply(inria(), cameras(), byte_order="<"), FULL),
    "cameras in front": ("a.ply", lambda: as_ply(inria(), cameras(), byte_order="<", first=True), FULL),
    "cameras in front, as text": ("a.ply", lambda: as_ply(inria(), cameras(), text=True, first=True), FULL),
    "CRLF": (
        "a.ply",
        lambda: plain().replace(b"\n", b"\r\n", plain().partition(b"end_header\n")[0].count(b"\n") + 1),
        FULL,
    ),
    "blanks": ("a.ply", lambda: plain().replace(b"element vertex 30", b"element  vertex   30   "), FULL),
    "empty lines": ("a.ply", lambda: plain().replace(b"element vertex", b"\n\nelement vertex"), FULL),
    "a comment in Latin-1": ("a.ply", lambda: plain().replace(b"element", b"comment \xe9t\xe9\nelement", 1), FULL),
    "a line end behind": ("a.ply", lambda: plain() + b"\n", FULL),
    "no normals": ("a.ply", lambda: as_ply(renamed(inria(), drop="n"), byte_order="<"), FULL),
    "wrong suffix": ("a.splat", plain, FULL),
    "no suffix": ("scene", plain, FULL),
    "bad rows": ("a.ply", with_bad_rows, "4 splats that cannot be drawn were left out"),
    "infinite opacity": ("a.ply", opaque, FULL),
    "quaternion of zeros": ("a.ply", unturned, FULL),
    "quaternions of any length": ("a.ply", longer_quats, FULL),
    "compressed": ("a.ply", packed, FULL),  # SuperSplat calls them .ply too
    "compressed of 2023": ("a.compressed.ply", packed_of_2023, "degree 0"),
    "compressed with more": ("a.compressed.ply", packed_with_more, FULL),
    "spz 2": ("a.spz", lambda: raw_spz(2), FULL),
    "spz 3": ("a.spz", lambda: raw_spz(3), FULL),
    "spz 4": ("a.spz", lambda: raw_spz(4), FULL),
    "spz of 0.1": ("a.spz", of_01, FULL),
    "spz in LDB": ("a.spz", lambda: spz_in(1), FULL),
    "spz with a stranger's extension": ("a.spz", spz_with_stranger, FULL),
    "glb, quantised": ("a.glb", lambda: glb(quantized), FULL),
    "glb, half floats": ("a.glb", lambda: glb(halves), FULL),
    "glb, interleaved": ("a.glb", lambda: glb(interleaved), FULL),
    "glb, moved": ("a.glb", lambda: glb(moved), "moved"),
}

REFUSED: dict[str, Wild] = {
    "a mesh": ("a.ply", mesh_ply, "is a mesh, not splats; train --init points:"),
    "a cloud": ("a.ply", lambda: points("u1", 255), "is a cloud of points, not splats; train --init points:"),
    "flat splats": ("a.ply", flat, "has no property scale_2"),
    "cut": ("a.ply", lambda: plain()[:-100], "it is cut or damaged"),
    "wrong stride": ("a.ply", lambda: plain().replace(b"property float nx\n", b""), "it is cut or damaged"),
    "Git LFS": ("a.ply", lambda: b"version https://git-lfs.github.com/spec/v1\nsize 1\n", "is a pointer of Git LFS"),
    "a web page": ("a.ply", lambda: b"<!DOCTYPE html><html>404</html>", "is a web page"),
    "empty": ("a.ply", lambda: b"", "is empty"),
    "a picture": ("a.ply", lambda: b"\x89PNG\r\n\x1a\n" + bytes(40), "is a picture or a film"),
    "obj": ("a.obj", lambda: b"# made by hand\nv 0 0 0\n", "is a mesh, not splats"),
    "a checkpoint": ("a.ply", lambda: zipped(archive__data_DOT_pkl=b"x"), "is a checkpoint of PyTorch"),
    "a pickle": ("a.ckpt", lambda: b"\x80\x04" + bytes(40), "is a pickle of Python"),
    "another zip": ("a.zip", lambda: zipped(a_DOT_ply=b"ply"), "is a zip without meta.json"),
    "an unpacked .sog": ("meta.json", lambda: b'{"version": 2, "means": {}}', "describes a .sog that is not packed"),
    "glTF with files": ("a.gltf", lambda: b'{"asset": {"version": "2.0"}}', "is glTF with its numbers in other"),
    "sog 1": ("a.sog", lambda: zipped(meta_DOT_json=b'{"means": {}}'), "is of version 1; version 2 is read"),
    "spz 5": ("a.spz", lambda: raw_spz(4)[:4] + b"\5" + raw_spz(4)[5:], "is of version 5; versions 2, 3 and 4"),
    "spz, left-handed": ("a.spz", lambda: spz_in(3), "lies in the coordinate system LUB"),
    "gzip of something": ("a.ply.gz", lambda: gzip.compress(plain()), "has no header of .spz"),
    "glb, uneven": ("a.glb", lambda: glb(uneven), "scales them unevenly"),
    "glb, compressed": ("a.glb", lambda: glb(compressed), "KHR_gaussian_splatting_compression_spz_2"),
    "glb, linear": ("a.glb", lambda: glb(linear), "has the colorSpace 'lin_rec709_display'"),
    "glb, a mesh": ("a.glb", lambda: glb(mesh_glb), "holds no Gaussian splats"),
    "glb, a circle": ("a.glb", lambda: glb(circle), "shows its splats so often"),
    "all bad": ("a.ply", lambda: as_ply(np.full_like(inria(), np.nan), byte_order="<"), "30 of 30 splats cannot be"),
}  # fmt: skip


def test_there_are_forty_kinds_and_more() -> None:
    assert len(READ) + len(REFUSED) >= 40


@pytest.mark.parametrize("name", READ)
def test_it_is_read_right(tmp_path: Path, name: str) -> None:
    file, make, expected = READ[name]
    (tmp_path / file).write_bytes(make())
    found = formats.open_file(tmp_path / file)
    splats, wanted = found.splats, SPLATS
    if expected == "moved":
        wanted = transform(wanted, rotation=from_turns((0, 90, 0)), scale=2.0, translation=(1, 2, 3))
    elif expected != FULL:
        assert expected in found.sentence()
    far = torch.cdist(wanted.means, splats.means)
    assert len(splats) == (26 if "4 splats" in expected else 30)
    # Each file is coarser in one thing or another; a wrong axis, order or scale is off by tenths and more.
    near = far.min(1).values
    if len(splats) == 30:
        assert near.max() < 0.002  # a step of half floats or of a box of .compressed.ply here
        assert (wanted.scales - splats.scales[far.argmin(1)]).abs().max() < 0.04  # a step of .spz
        # Harmonics turn with the frame: of what they were, with the steps of .spz and .compressed.ply.
        if splats.sh_degree:
            assert (wanted.shN - splats.shN[far.argmin(1)]).abs().max() < 0.02
        colour = (wanted.sh0 - splats.sh0[far.argmin(1)]).abs()
        assert (colour if "2023" not in name else colour.clamp(max=0)).max() < 0.02
    assert all(torch.isfinite(splats.tensors[field]).all() for field in FIELDS)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_a_true_sentence(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    file, make, sentence = REFUSED[name]
    path = tmp_path / file
    path.write_bytes(make())
    with pytest.raises(FormatError) as caught:
        formats.open_file(path)
    said = str(caught.value)
    assert sentence in said and str(path) in said and said.endswith(".") and "\n" not in said and len(said) < 400
    assert cli.main(["export", str(path), "--output", str(tmp_path / "out.ply")]) == cli.USAGE
    assert capsys.readouterr().err == f"splatdistill: {said}\n"
    assert [p.name for p in tmp_path.iterdir()] == [file]


@pytest.mark.parametrize(
    ("kind", "white"), [("u1", 255), ("<u2", 65535), ("<f4", 1.0), ("<f4", 255.0), ("<f8", 255.0), ("<f4", 65535.0)]
)
def test_colours_of_points_are_scaled_by_what_they_are(tmp_path: Path, kind: str, white: float) -> None:
    (tmp_path / "a.ply").write_bytes(points(kind, white))
    colours = ply.read_points(tmp_path / "a.ply")[1]
    assert torch.equal(colours, torch.tensor([[1.0, 0, 0]] * 30))


def test_a_flag_overrules_what_is_assumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.ply").write_bytes(as_ply(inria(SPLATS), byte_order="<"))
    base = ["export", str(tmp_path / "a.ply"), "--output", str(tmp_path / "b.spz"), "--format", "spz", "--force"]
    for flags, said, sign in (
        ([], "-y up (assumed, for it does not say; --up overrules)", -1),
        (["--up=+y"], "+y up (as asked)", 1),
    ):
        assert cli.main([*base, *flags]) == cli.DONE
        assert said in capsys.readouterr().err
        found = formats.read(tmp_path / "b.spz").means
        torch.testing.assert_close(found[:, 1], sign * SPLATS.means[:, 1], rtol=0, atol=1 / 4096 + UNIT)
