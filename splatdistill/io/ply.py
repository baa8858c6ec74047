"""Splats as .ply in the INRIA layout, which most programs read: raw parameters, that is log scales, logit opacities and
quaternions wxyz. Numbers are read and written as they stand; which way is up, `formats` knows.

Files of other programs may be text or binary of either byte order, with further elements, types and properties. plyfile
reads text. Binary rows it reads number by number, or from a map of the file, which whoever cuts the file meanwhile
would make end the process. Point clouds and the points of meshes are read too.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import torch
from plyfile import PlyData, PlyParseError  # pyright: ignore[reportMissingTypeStubs]

from splatdistill.io.files import replacing
from splatdistill.io.kinds import MAX_HEADER, FormatError, stamp
from splatdistill.io.ply_header import TYPES, Element, Header, parse
from splatdistill.scene.gaussians import Splats, all_finite, with_sh_degree

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
_BLOCK = 1 << 20  # bytes that stay in the cache of a core
_LONGEST = 2  # bytes of a line end that some programs add to a file


class PlyError(FormatError):
    """The file is no .ply of splats that can be read, or the splats cannot be written; says why in one sentence."""


def write(
    path: Path | str,
    splats: Splats,
    *,
    up: str = "+y",
    sh_degree: int | None = None,
    turned: Callable[[Splats], Splats] = lambda splats: splats,
) -> None:
    """Writes `splats` as binary little-endian float32, whole or not at all.

    up: what the file says of its up axis. sh_degree: to which harmonics are cut or filled up with zeros; None keeps
    theirs. turned: into the world of the file, some splats at a time. Raises PlyError if a value is not finite: no
    program could show such a file.
    """
    path, own, splats = Path(path), splats.sh_degree, splats.detach()
    for name, value in splats.tensors.items():
        if not all_finite(value):
            raise PlyError(f"{path} was not written: {name} of the splats has values that are not finite.")
    degree = own if sh_degree is None else sh_degree
    names = ["x", "y", "z", "nx", "ny", "nz", *_COLUMNS["sh0"], *_rest_names(3 * ((degree + 1) ** 2 - 1))]
    names += [*_COLUMNS["opacities"], *_COLUMNS["scales"], *_COLUMNS["quats"]]
    said = stamp(up, _RASTER + (f"sh={own} " if own < degree else ""))
    lines = ["ply", "format binary_little_endian 1.0", f"comment {said}"]
    lines += [f"element vertex {len(splats)}", *(f"property float {name}" for name in names), "end_header\n"]
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write("\n".join(lines).encode("ascii"))
        block = _BLOCK // (4 * len(names))
        table = np.zeros((min(len(splats), block), len(names)), "<f4")  # normals stay zeros
        for at in range(0, len(splats), block):
            part = Splats(**{name: value[at : at + block].to("cpu") for name, value in splats.tensors.items()})
            rows = table[: len(part)]
            _fill(rows, with_sh_degree(turned(part), degree))
            file.write(rows.data)


def _fill(table: np.ndarray, splats: Splats) -> None:
    means, quats, scales, opacities, sh0, shN = (
        splats.tensors[name].numpy() for name in ("means", "quats", "scales", "opacities", "sh0", "shN")
    )
    table[:, 0:3], table[:, 6:9] = means, sh0[:, 0]
    table[:, 9:-8].reshape(len(table), 3, -1)[:] = shN.transpose(0, 2, 1)  # channel-major, as INRIA has it
    table[:, -8], table[:, -7:-4], table[:, -4:] = opacities, scales, quats


def read(path: Path | str) -> Splats:
    """Reads splats of degree 0..3 as float32 on the CPU, in time linear in its size; PlyError for anything else. Values
    are as they stand in the file, and may not be finite.
    """
    vertex, blocks = _blocks(Path(path), check=_check_splats)
    rest = _rest_names(sum(name.startswith("f_rest_") for name in vertex.properties))
    n, num_harmonics = vertex.count, len(rest) // 3
    tensors = {name: torch.empty(n, len(columns)) for name, columns in _COLUMNS.items()}
    tensors["shN"] = torch.empty(n, num_harmonics, 3)
    at = 0
    for rows in blocks:
        end = at + len(rows)
        for name, columns in _COLUMNS.items():
            _gather(rows, columns, tensors[name].numpy()[at:end])
        by_channel = tensors["shN"].numpy()[at:end].transpose(0, 2, 1)
        for channel in range(3 if rest else 0):
            _gather(rows, rest[channel * num_harmonics :][:num_harmonics], by_channel[:, channel])
        at = end
    tensors["opacities"], tensors["sh0"] = tensors["opacities"][:, 0], tensors["sh0"][:, None]
    return Splats(**tensors)


def read_points(path: Path | str) -> tuple[torch.Tensor, torch.Tensor]:
    """Points [P,3] as they stand in the file and their colours [P,3] in 0..1; PlyError for anything else. Points that
    are not finite are left out.
    """
    path = Path(path)
    vertex, blocks = _blocks(path, check=_check_points)
    both, at = np.empty((vertex.count, 6), np.float32), 0
    for rows in blocks:
        _gather(rows, [*_COLUMNS["means"], *(_colour_names(vertex) or [])], both[at : at + len(rows)])
        at += len(rows)
    points, colours = both[:, :3], both[:, 3:]
    sound = np.isfinite(both).all(1)
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


def _blocks(path: Path, *, check: Callable[[Path, Header, Element], None]) -> tuple[Element, Iterator[np.ndarray]]:
    """The vertices of a file, once `check` and its size have passed it, and their rows in blocks."""
    if not path.is_file():
        raise PlyError(f"{path} is not a file.")
    with path.open("rb") as file:
        header = _parsed(path, file.read(MAX_HEADER))
    vertex = header.element("vertex")
    if vertex is None or not vertex.count:
        raise PlyError(f"{path} holds no splats: its header has no element vertex, or one without rows.")
    check(path, header, vertex)
    _check_size(path, header, vertex, size=path.stat().st_size)
    return vertex, (_text_rows if header.format == "ascii" else _binary_rows)(path, header, vertex)


def _binary_rows(path: Path, header: Header, vertex: Element) -> Iterator[np.ndarray]:
    """One buffer is filled again and again: what has been read of a block is gone with the next."""
    order = "<" if header.format == "binary_little_endian" else ">"
    row = np.dtype([(name, order + TYPES[kind]) for name, kind in vertex.properties.items()])
    buffer = np.empty(min(vertex.count, max(1, _BLOCK // row.itemsize)), row)
    with path.open("rb") as file:
        file.seek(header.num_bytes + (header.before("vertex") or 0))
        for at in range(0, vertex.count, len(buffer)):
            rows = buffer[: vertex.count - at]
            if file.readinto(rows.view(np.uint8).data) != rows.nbytes:
                raise PlyError(f"{path} became shorter while it was read.")
            yield rows


def _text_rows(path: Path, header: Header, vertex: Element) -> Iterator[np.ndarray]:
    """All rows at once, read by plyfile from a .ply of the vertices alone."""
    if "list" in vertex.properties.values():
        raise PlyError(f"{path} has lists among its vertices, which splats do not have.")
    lines = ["ply", "format ascii 1.0", f"element vertex {vertex.count}"]
    lines += [f"property {kind} {name}" for name, kind in vertex.properties.items()]
    copy = io.BytesIO()
    copy.write("\n".join([*lines, "end_header\n"]).encode())
    with path.open("rb") as file:
        file.seek(header.num_bytes)
        for element in header.elements[: header.elements.index(vertex)]:
            for _ in range(element.count):
                if not file.readline(1 << 16):
                    break
        shutil.copyfileobj(file, copy, 1 << 20)
    copy.seek(0)
    try:
        yield cast(np.ndarray, PlyData.read(copy)["vertex"].data)  # pyright: ignore[reportUnknownMemberType]
    except (PlyParseError, ValueError, KeyError) as error:
        raise PlyError(f"{path} cannot be read as .ply: {' '.join(str(error).split())[:200]}.") from error


def _parsed(path: Path, start: bytes) -> Header:
    try:
        return parse(start)
    except FormatError as error:
        raise PlyError(f"{path} {error}") from None


def _check_size(path: Path, header: Header, vertex: Element, *, size: int) -> None:
    """PlyError where the file has too few bytes, or some to spare."""
    stride, before = vertex.stride, header.before("vertex")
    if header.format == "ascii":
        if 2 * len(vertex.properties) * vertex.count > size - header.num_bytes + 1:
            raise PlyError(f"{path} claims {vertex.count} rows, for which it is too short: it is cut or damaged.")
        return
    if stride is None or before is None:
        raise PlyError(f"{path} has lists among or in front of its vertices, which splats do not have.")
    expected = header.num_bytes + before + vertex.count * stride
    behind = header.elements[header.elements.index(vertex) + 1 :]
    open_end = any(element.stride is None for element in behind)  # faces
    expected += sum(element.count * (element.stride or 0) for element in behind)
    if size < expected or (size > expected + _LONGEST and not open_end):
        need = f"{vertex.count} splats of {stride} bytes need {expected}"
        raise PlyError(f"{path} is {size} bytes long, but {need}: it is cut or damaged.")


def _gather(rows: np.ndarray, names: list[str], out: np.ndarray) -> None:
    """Fills out [N,len(names)] float32 with the named columns."""
    known = rows.dtype.names or ()
    first = known.index(names[0]) if names else 0
    if len(names) > 4 and _all_float(rows.dtype) and known[first : first + len(names)] == tuple(names):
        out[:] = rows.view("<f4").reshape(len(rows), -1)[:, first : first + len(names)]  # side by side, in one go
        return
    with np.errstate(over="ignore"):  # a double beyond float32 becomes inf
        for column, name in enumerate(names):
            out[:, column] = rows[name]


@lru_cache(maxsize=1)
def _all_float(row: np.dtype) -> bool:
    return row == np.dtype([(name, "<f4") for name in row.names or ()])


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
