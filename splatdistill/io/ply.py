"""Splats as .ply in the INRIA layout, which most programs read: raw parameters, that is log scales, logit opacities and
quaternions wxyz. Numbers are read and written as they stand; which way is up, `formats` knows.

Files of other programs may be text or binary of either byte order, with further elements, types and properties. Only
bytes checked here reach plyfile. Point clouds and the points of meshes are read too.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch
from plyfile import PlyData, PlyElement, PlyParseError  # pyright: ignore[reportMissingTypeStubs]

from splatdistill.io.files import replacing
from splatdistill.io.kinds import MAX_HEADER, FormatError, stamp
from splatdistill.io.ply_header import Element, Header, parse
from splatdistill.scene.gaussians import FIELDS, Splats, with_sh_degree

_RASTER = "raster=classic eps2d=0.3 "  # how training drew the splats, for viewers that match it
COMMENT = stamp("+y", _RASTER)

_COLUMNS = {
    "means": ["x", "y", "z"],
    "sh0": [f"f_dc_{i}" for i in range(3)],
    "opacities": ["opacity"],
    "scales": [f"scale_{i}" for i in range(3)],
    "quats": [f"rot_{i}" for i in range(4)],
}
_COLORS = (["red", "green", "blue"], ["diffuse_red", "diffuse_green", "diffuse_blue"], ["r", "g", "b"])
_NUM_REST = (0, 9, 24, 45)  # f_rest columns at degree 0, 1, 2, 3
_LONGEST = 2  # bytes of a line end that some programs add to a file


class PlyError(FormatError):
    """The file is no .ply of splats that can be read, or the splats cannot be written; says why in one sentence."""


def write(
    path: Path | str, splats: Splats, *, up: str = "+y", sh_degree: int | None = None, comments: Iterable[str] = ()
) -> None:
    """Writes `splats` as binary little-endian float32, whole or not at all.

    up: what the file says of its up axis. sh_degree: to which harmonics are cut or filled up with zeros; None keeps
    theirs. comments: further header lines, ASCII without newlines.
    Raises PlyError if a value is not finite: no program could show such a file.
    """
    path = Path(path)
    filled, own = "", splats.sh_degree
    if sh_degree is not None:
        filled = f"sh={own} " if own < sh_degree else ""
        splats = with_sh_degree(splats, sh_degree)
    values = {name: splats.tensors[name].detach().to("cpu", torch.float32).numpy() for name in FIELDS}
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise PlyError(f"{path} was not written: {name} of the splats has values that are not finite.")
    rest = values["shN"].transpose(0, 2, 1).reshape(len(splats), -1)  # channel-major, as INRIA has it
    names = ["x", "y", "z", "nx", "ny", "nz", *_COLUMNS["sh0"], *_rest_names(rest.shape[1])]
    names += [*_COLUMNS["opacities"], *_COLUMNS["scales"], *_COLUMNS["quats"]]
    blocks = [values["means"], np.zeros_like(values["means"]), values["sh0"][:, 0], rest]
    blocks += [values["opacities"][:, None], values["scales"], values["quats"]]
    table = np.concatenate(blocks, 1).astype("<f4", copy=False)
    rows = table.view([(name, "<f4") for name in names])[:, 0]
    vertex = PlyElement.describe(rows, "vertex")  # pyright: ignore[reportUnknownMemberType]
    data = PlyData([vertex], byte_order="<", comments=[stamp(up, _RASTER + filled), *comments])
    with replacing(path) as temporary:
        data.write(str(temporary))  # pyright: ignore[reportUnknownMemberType]


def read(path: Path | str) -> Splats:
    """Reads splats of degree 0..3 as float32 on the CPU, in time linear in its size; PlyError for anything else. Values
    are as they stand in the file, and may not be finite.
    """
    _, vertex, rows = _rows(Path(path), check=_check_splats)
    num_rest = sum(name.startswith("f_rest_") for name in vertex.properties)
    columns = {**_COLUMNS, "shN": _rest_names(num_rest)}
    tensors = {name: torch.from_numpy(_gather(rows, columns[name])) for name in FIELDS}  # pyright: ignore[reportUnknownMemberType]
    tensors["opacities"] = tensors["opacities"][:, 0]
    tensors["sh0"] = tensors["sh0"][:, None]
    tensors["shN"] = tensors["shN"].reshape(vertex.count, 3, num_rest // 3).transpose(1, 2).contiguous()
    return Splats(**tensors)


def read_points(path: Path | str) -> tuple[torch.Tensor, torch.Tensor]:
    """Points [P,3] as they stand in the file and their colours [P,3] in 0..1; PlyError for anything else. Points that
    are not finite are left out.
    """
    path = Path(path)
    _, vertex, rows = _rows(path, check=_check_points)
    colours = _gather(rows, _colour_names(vertex) or [])
    points = _gather(rows, _COLUMNS["means"])
    sound = np.isfinite(points).all(1) & np.isfinite(colours).all(1)
    if not sound.any():
        raise PlyError(f"{path} has no point whose place and colour are finite.")
    points, colours = points[sound], colours[sound] / _brightest(vertex, colours[sound])
    return torch.from_numpy(points), torch.from_numpy(colours.clip(0, 1))  # pyright: ignore[reportUnknownMemberType]


def comments_of(path: Path) -> list[str]:
    """The comments in the header of a .ply."""
    with path.open("rb") as file:
        return _parsed(path, file.read(MAX_HEADER)).comments


def _colour_names(vertex: Element) -> list[str] | None:
    return next((names for names in _COLORS if all(name in vertex.properties for name in names)), None)


def _brightest(vertex: Element, colours: np.ndarray) -> float:
    """What white is: the largest number of an integer type, and of fractions 1, or 255 or 65535 where one is above."""
    kind = vertex.properties[(_colour_names(vertex) or [""])[0]]
    whole = {"uchar": 255, "uint8": 255, "ushort": 65535, "uint16": 65535}
    most = float(colours.max())
    return whole.get(kind) or next((white for white in (1.0, 255.0) if most <= white), 65535.0)


def _rows(path: Path, *, check: Callable[[Path, Header, Element], None]) -> tuple[Header, Element, np.ndarray]:
    """The header, once `check` and the file's size have passed it, its vertices and one row for each of them."""
    if not path.is_file():
        raise PlyError(f"{path} is not a file.")
    with path.open("rb") as file, _nameless() as copy:
        header = _parsed(path, file.read(MAX_HEADER))
        vertex = header.element("vertex")
        if vertex is None or not vertex.count:
            raise PlyError(f"{path} holds no splats: its header has no element vertex, or one without rows.")
        check(path, header, vertex)
        length = _check_size(path, header, vertex, size=os.fstat(file.fileno()).st_size)
        _only_vertices(path, header, vertex, file, copy, length=length)
        copy.seek(0)
        try:
            # Unless it maps a file into memory plyfile reads number by number, some 200 times slower. What is mapped is
            # a copy, which nobody can cut meanwhile: that would end the process.
            rows = cast(np.ndarray, PlyData.read(copy)["vertex"].data)  # pyright: ignore[reportUnknownMemberType]
        except (PlyParseError, ValueError, KeyError) as error:
            raise PlyError(f"{path} cannot be read as .ply: {' '.join(str(error).split())[:200]}.") from error
    return header, vertex, rows


def _parsed(path: Path, start: bytes) -> Header:
    try:
        return parse(start)
    except FormatError as error:
        raise PlyError(f"{path} {error}") from None


def _check_size(path: Path, header: Header, vertex: Element, *, size: int) -> int | None:
    """Bytes of the vertices, None where they are text; PlyError where the file has too few, or some to spare."""
    stride, before = vertex.stride, header.before("vertex")
    if header.format == "ascii":
        if 2 * len(vertex.properties) * vertex.count > size - header.num_bytes + 1:
            raise PlyError(f"{path} claims {vertex.count} rows, for which it is too short: it is cut or damaged.")
        return None
    if stride is None or before is None:
        raise PlyError(f"{path} has lists among or in front of its vertices, which splats do not have.")
    expected = header.num_bytes + before + vertex.count * stride
    behind = header.elements[header.elements.index(vertex) + 1 :]
    open_end = any(element.stride is None for element in behind)  # faces
    expected += sum(element.count * (element.stride or 0) for element in behind)
    if size < expected or (size > expected + _LONGEST and not open_end):
        need = f"{vertex.count} splats of {stride} bytes need {expected}"
        raise PlyError(f"{path} is {size} bytes long, but {need}: it is cut or damaged.")
    return vertex.count * stride


def _only_vertices(
    path: Path, header: Header, vertex: Element, file: BinaryIO, copy: BinaryIO, *, length: int | None
) -> None:
    """Writes the vertices to `copy`, as a .ply of their own. length: of them in bytes; None where they are text."""
    lines = ["ply", f"format {header.format} 1.0", f"element vertex {vertex.count}"]
    lines += [f"property {kind} {name}" for name, kind in vertex.properties.items()]
    copy.write("\n".join([*lines, "end_header\n"]).encode())
    file.seek(header.num_bytes)
    if length is None:
        if "list" in vertex.properties.values():
            raise PlyError(f"{path} has lists among its vertices, which splats do not have.")
        for element in header.elements[: header.elements.index(vertex)]:
            for _ in range(element.count):
                if not file.readline(1 << 16):
                    break
        shutil.copyfileobj(file, copy, 1 << 20)
        return
    file.seek(header.before("vertex") or 0, os.SEEK_CUR)
    while length > 0 and (part := file.read(min(length, 1 << 20))):
        copy.write(part)
        length -= len(part)


def _nameless() -> BinaryIO:
    """An empty file in memory where the system has such, else on the disk."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("splats.ply"), "w+b")
    return cast(BinaryIO, tempfile.TemporaryFile())


def _gather(rows: np.ndarray, names: list[str]) -> np.ndarray:
    """[N,len(names)] float32 of the named columns."""
    known = rows.dtype.names or ()
    first = known.index(names[0]) if names else 0
    alike = rows.dtype == np.dtype([(name, "<f4") for name in known])
    if names and alike and known[first : first + len(names)] == tuple(names):  # columns side by side, in one go
        return rows.view("<f4").reshape(len(rows), -1)[:, first : first + len(names)].astype(np.float32)
    out = np.empty((len(rows), len(names)), np.float32)
    for column, name in enumerate(names):
        with np.errstate(over="ignore"):  # a double beyond float32 becomes inf
            out[:, column] = rows[name]
    return out


def _rest_names(count: int) -> list[str]:
    return [f"f_rest_{i}" for i in range(count)]


def _check_points(path: Path, header: Header, vertex: Element) -> None:
    missing = [name for name in _COLUMNS["means"] if name not in vertex.properties]
    missing += [] if _colour_names(vertex) else [name for name in _COLORS[0] if name not in vertex.properties]
    if missing:
        raise PlyError(f"{path} has no property {missing[0]}: it is not a coloured point cloud.")


def _check_splats(path: Path, header: Header, vertex: Element) -> None:
    missing = [name for names in _COLUMNS.values() for name in names if name not in vertex.properties]
    if missing and _COLUMNS["scales"][0] not in vertex.properties and _COLUMNS["means"][0] in vertex.properties:
        what = "a mesh" if header.element("face") is not None else "a cloud of points"
        raise PlyError(f"{path} is {what}, not splats; train --init points:{path} starts from one with colours.")
    if missing:
        raise PlyError(f"{path} has no property {missing[0]}: it is not a .ply of Gaussian splats.")
    num_rest = sum(name.startswith("f_rest_") for name in vertex.properties)
    if num_rest not in _NUM_REST or any(name not in vertex.properties for name in _rest_names(num_rest)):
        raise PlyError(f"{path} has {num_rest} f_rest properties; degree 0 to 3 have 0, 9, 24 or 45.")
