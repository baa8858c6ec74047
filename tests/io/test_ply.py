"""The .ply file: exact round trips, readable by others, and a reader that is total."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plyfile import PlyData

from splatdistill.io import ply
from splatdistill.scene.gaussians import FIELDS, Splats


def some_splats(*, n: int = 7, degree: int = 0, seed: int = 0) -> Splats:
    g = torch.Generator().manual_seed(seed)
    shapes = {"means": (n, 3), "quats": (n, 4), "scales": (n, 3), "opacities": (n,), "sh0": (n, 1, 3)}
    shapes["shN"] = (n, (degree + 1) ** 2 - 1, 3)
    return Splats(**{name: torch.randn(shape, generator=g) for name, shape in shapes.items()})


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("ply") / "good.ply"
    ply.write(path, some_splats(degree=1))
    return path.read_bytes()


@pytest.mark.parametrize("degree", range(4))
def test_round_trip_is_bit_exact(tmp_path: Path, degree: int) -> None:
    before = some_splats(degree=degree)
    ply.write(tmp_path / "a.ply", before)
    after = ply.read(tmp_path / "a.ply")
    assert after.sh_degree == degree
    for name in FIELDS:
        assert torch.equal(after.tensors[name], before.tensors[name]), name
        assert after.tensors[name].is_contiguous() and after.tensors[name].dtype == torch.float32
    assert [p.name for p in tmp_path.iterdir()] == ["a.ply"]


@pytest.mark.parametrize("degree", range(4))
def test_plain_plyfile_reads_the_inria_layout(tmp_path: Path, degree: int) -> None:
    splats = some_splats(degree=degree)
    ply.write(tmp_path / "a.ply", splats)
    data = PlyData.read(str(tmp_path / "a.ply"))
    rows = data["vertex"].data
    num_rest = 3 * ((degree + 1) ** 2 - 1)
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{i}" for i in range(num_rest))]
    names += ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert list(rows.dtype.names) == names
    assert all(rows.dtype[name] == np.dtype("<f4") for name in names)
    assert data.comments == [ply.COMMENT] and data.byte_order == "<"
    for channel in range(3):  # channel-major: all of red, then all of green, then all of blue
        for k in range(num_rest // 3):
            assert np.array_equal(rows[f"f_rest_{channel * (num_rest // 3) + k}"], splats.shN[:, k, channel].numpy())
    assert np.array_equal(rows["rot_0"], splats.quats[:, 0].numpy()) and not rows["nx"].any()


def test_foreign_files_may_order_type_and_add_properties(tmp_path: Path) -> None:
    splats = some_splats(n=3)
    ply.write(tmp_path / "a.ply", splats)
    rows = PlyData.read(str(tmp_path / "a.ply"))["vertex"].data
    names = sorted(name for name in rows.dtype.names if not name.startswith("n"))
    header = ["ply", "format binary_little_endian 1.0", "obj_info x", f"element vertex {len(rows)}"]
    header += ["property uchar red"]
    header += [f"property double {name}" for name in names] + ["end_header", ""]
    foreign = np.zeros(len(rows), [("red", "u1"), *((name, "<f8") for name in names)])
    for name in names:
        foreign[name] = rows[name]
    (tmp_path / "b.ply").write_bytes("\r\n".join(header).encode() + foreign.tobytes())
    after = ply.read(tmp_path / "b.ply")
    assert all(torch.equal(after.tensors[name], splats.tensors[name]) for name in FIELDS)


@pytest.mark.parametrize("degree", range(4))
def test_files_of_gsplat_read_exactly(tmp_path: Path, degree: int) -> None:
    gsplat = pytest.importorskip("gsplat")
    splats = some_splats(degree=degree)
    names = ("means", "scales", "quats", "opacities", "sh0", "shN")
    data = gsplat.export_splats(*(splats.tensors[name] for name in names), format="ply")
    (tmp_path / "g.ply").write_bytes(data)
    after = ply.read(tmp_path / "g.ply")
    assert all(torch.equal(after.tensors[name], splats.tensors[name]) for name in FIELDS)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    ply.write(path, some_splats())
    before = path.read_bytes()
    broken = some_splats()
    broken.means[3, 1] = float("nan")
    with pytest.raises(ply.PlyError, match="means of the splats has values that are not finite"):
        ply.write(path, broken)

    def stops(_: Splats) -> Splats:
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        ply.write(path, some_splats(), turned=stops)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def _swap(old: bytes, new: bytes):
    return lambda data: data.replace(old, new, 1)


BAD = {
    "empty": (lambda data: b"", "does not begin with 'ply'"),
    "cut": (lambda data: data[:-1], "cut or damaged"),
    "cut header": (lambda data: data[:100], "no end_header"),
    "longer": (lambda data: data + b"\0" * 3, "cut or damaged"),
    "wrong count": (_swap(b"vertex 7", b"vertex 8"), "cut or damaged"),
    "huge count": (_swap(b"vertex 7", b"vertex 999999999999"), "cut or damaged"),
    "no splats": (_swap(b"vertex 7", b"vertex 0"), "holds no splats"),
    "negative count": (_swap(b"vertex 7", b"vertex -7"), "that no .ply has"),
    "huge header": (_swap(b"comment ", b"comment " + b"x" * (1 << 20)), "no end_header within its first 64 KiB"),
    "no text": (_swap(b"binary_little_endian", b"ascii"), "cannot be read as .ply"),
    "no format": (_swap(b"binary_little_endian", b"binary"), "that no .ply has"),
    "list": (_swap(b"property float nx", b"property list uchar float nx"), "which splats do not have"),
    "many": (_swap(b"end_header", b"property float p%d\n" * 600 % (*range(600),) + b"end_header"), "more than 512"),
    "twice": (_swap(b"property float nx", b"property float ny"), "twice"),
    "not splats": (_swap(b"float opacity", b"float capacity"), "no property opacity"),
    "odd harmonics": (_swap(b"float f_rest_3", b"float g_rest_3"), "8 f_rest properties"),
    "second element": (_swap(b"end_header", b"element face 1\nproperty int a\nend_header"), "cut or damaged"),
    "bare return": (_swap(b"property float nx", b"property float \rnx"), "not plain ASCII"),
    "latin": (_swap(b"property float nx", b"property float \xe9"), "not plain ASCII"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_explained(tmp_path: Path, good: bytes, case: str) -> None:
    change, message = BAD[case]
    (tmp_path / "bad.ply").write_bytes(change(good))
    with pytest.raises(ply.PlyError, match=message) as caught:
        ply.read(tmp_path / "bad.ply")
    text = str(caught.value)
    assert "bad.ply" in text and text.endswith(".") and "\n" not in text and len(text) < 400


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.ply"):
        with pytest.raises(ply.PlyError, match="is not a file"):
            ply.read(path)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_bytes_give_splats_or_a_ply_error(tmp_path_factory, good: bytes, data: st.DataObject) -> None:
    raw = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        # Mostly in the header, where the reader decides.
        at = data.draw(st.integers(0, len(raw))) % data.draw(st.sampled_from([64, 400, 1 << 20]))
        cut = data.draw(st.integers(0, 12))
        chunk = st.binary(max_size=12) | st.sampled_from([b"9" * 9, b"\n", b"\r\n", b"element vertex 3\n"])
        raw[at : at + cut] = data.draw(chunk)
    path = tmp_path_factory.getbasetemp() / "fuzz.ply"
    path.write_bytes(raw)
    try:
        splats = ply.read(path)
    except ply.PlyError:
        return
    assert len({len(value) for value in splats.tensors.values()}) == 1
