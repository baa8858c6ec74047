"""Splats as .ply in the INRIA layout that gsplat, SuperSplat and most viewers read.

The numbers are the raw parameters in our own world (+y up, front +z): log scales, logit opacities, quaternions wxyz.
Files of other programs are mostly y-down; they are read as they stand. Only bytes checked here reach plyfile.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch
from plyfile import PlyData, PlyElement, PlyParseError  # pyright: ignore[reportMissingTypeStubs]

from splatdistill.io.files import replacing
from splatdistill.scene.gaussians import FIELDS, Splats

COMMENT = "splatdistill raster=classic eps2d=0.3 up=+y"  # how training drew the splats, for viewers that match it
MAX_HEADER = 64 * 1024  # bytes
MAX_PROPERTIES = 512

_SIZES = {
    "char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "float": 4, "double": 8,
    "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float32": 4, "float64": 8,
}  # fmt: skip
_COLUMNS = {
    "means": ["x", "y", "z"],
    "sh0": [f"f_dc_{i}" for i in range(3)],
    "opacities": ["opacity"],
    "scales": [f"scale_{i}" for i in range(3)],
    "quats": [f"rot_{i}" for i in range(4)],
}
_COLORS = ["red", "green", "blue"]
_NUM_REST = (0, 9, 24, 45)  # f_rest columns at degree 0, 1, 2, 3


class PlyError(ValueError):
    """The file is no .ply of splats that can be read, or the splats cannot be written; says why in one sentence."""


@dataclass(frozen=True)
class _Header:
    count: int
    properties: dict[str, str]  # name -> type, in file order
    num_bytes: int


def write(path: Path | str, splats: Splats, *, comments: Iterable[str] = ()) -> None:
    """Writes `splats` as binary little-endian float32, whole or not at all.

    comments: further header lines, ASCII without newlines.
    Raises PlyError if a value is not finite: no program could show such a file.
    """
    path = Path(path)
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
    data = PlyData([vertex], byte_order="<", comments=[COMMENT, *comments])
    with replacing(path) as temporary:
        data.write(str(temporary))  # pyright: ignore[reportUnknownMemberType]


def read(path: Path | str) -> Splats:
    """Reads splats of degree 0..3 as float32 on the CPU; PlyError for anything else, in time linear in its size."""
    path = Path(path)
    header, rows = _rows(path, check=_check_splats)
    num_rest = sum(name.startswith("f_rest_") for name in header.properties)
    columns = {**_COLUMNS, "shN": _rest_names(num_rest)}
    tensors = {name: _gather(path, rows, columns[name]) for name in FIELDS}
    tensors["opacities"] = tensors["opacities"][:, 0]
    tensors["sh0"] = tensors["sh0"][:, None]
    tensors["shN"] = tensors["shN"].reshape(header.count, 3, num_rest // 3).transpose(1, 2).contiguous()
    return Splats(**tensors)


def read_points(path: Path | str) -> tuple[torch.Tensor, torch.Tensor]:
    """Points [P,3] as they stand in the file and their colours [P,3] in 0..1; PlyError for anything else."""
    path = Path(path)
    header, rows = _rows(path, check=_check_points)
    colors = _gather(path, rows, _COLORS)
    if header.properties[_COLORS[0]] in ("uchar", "uint8"):
        colors = colors / 255
    return _gather(path, rows, _COLUMNS["means"]), colors.clamp(0, 1)


def _rows(path: Path, *, check: Callable[[Path, _Header], None]) -> tuple[_Header, np.ndarray]:
    """The header, once `check` and the file's size have passed it, and one row for each vertex."""
    if not path.is_file():
        raise PlyError(f"{path} is not a file.")
    with path.open("rb") as file, _nameless() as copy:
        header = _check_header(path, file, check=check)
        file.seek(0)
        shutil.copyfileobj(file, copy, 1 << 20)
        copy.seek(0)
        try:
            # Unless it maps a file into memory plyfile reads number by number, some 200 times slower. What is mapped is
            # a copy, which nobody can cut meanwhile: that would end the process.
            rows = cast(np.ndarray, PlyData.read(copy)["vertex"].data)  # pyright: ignore[reportUnknownMemberType]
        except (PlyParseError, ValueError, KeyError) as error:
            raise PlyError(f"{path} cannot be read as .ply: {error}.") from error
    return header, rows


def _nameless() -> BinaryIO:
    """An empty file in memory where the system has such, else on the disk."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("splats.ply"), "w+b")
    return cast(BinaryIO, tempfile.TemporaryFile())


def _gather(path: Path, rows: np.ndarray, names: list[str]) -> torch.Tensor:
    """[N,len(names)] float32 of the named columns."""
    out = np.empty((len(rows), len(names)), np.float32)
    for column, name in enumerate(names):
        with np.errstate(over="ignore"):  # a double beyond float32 becomes inf and is refused below
            out[:, column] = rows[name]
    if not np.isfinite(out).all():
        raise PlyError(f"{path} has values that are not finite in {names[0]}..{names[-1]}.")
    return torch.from_numpy(out)  # pyright: ignore[reportUnknownMemberType]


def _rest_names(count: int) -> list[str]:
    return [f"f_rest_{i}" for i in range(count)]


def _check_header(path: Path, file: BinaryIO, *, check: Callable[[Path, _Header], None]) -> _Header:
    """Parses the header and holds it against the file's size."""
    start = file.read(MAX_HEADER)
    first = re.match(rb"ply(\r?\n)", start)
    if first is None:
        raise PlyError(f"{path} is not a .ply file: it does not begin with 'ply'.")
    newline = first[1]
    text, end, _ = start.partition(newline + b"end_header" + newline)
    if not end:
        raise PlyError(f"{path} has no end_header within its first {MAX_HEADER // 1024} KiB.")
    lines = text.split(newline)[1:]
    # Bare line ends and other control characters are read differently by different programs, plyfile among them.
    if not all(re.fullmatch(rb"[\t\x20-\x7e]*", line) for line in lines):
        raise PlyError(f"{path} has a header that is not plain ASCII.")
    header = _parse(path, [line.decode("ascii") for line in lines], num_bytes=len(text) + len(end))
    if len(header.properties) > MAX_PROPERTIES:
        raise PlyError(f"{path} has {len(header.properties)} properties; at most {MAX_PROPERTIES} are read.")
    check(path, header)
    stride = sum(_SIZES[kind] for kind in header.properties.values())
    expected = header.num_bytes + header.count * stride
    size = os.fstat(file.fileno()).st_size
    if size != expected:
        need = f"{header.count} splats of {stride} bytes need {expected}"
        raise PlyError(f"{path} is {size} bytes long, but {need}: it is cut or damaged.")
    return header


def _parse(path: Path, lines: list[str], *, num_bytes: int) -> _Header:
    count: int | None = None
    properties: dict[str, str] = {}
    if not lines or lines[0].split() != ["format", "binary_little_endian", "1.0"]:
        raise PlyError(f"{path} is not in the format binary_little_endian 1.0; only that one is read.")
    for line in lines[1:]:
        words = line.split()
        if words[:1] in (["comment"], ["obj_info"]):
            continue
        if words[:1] == ["element"] and count is None:
            if not re.fullmatch(r"element vertex [0-9]{1,12}", line):
                raise PlyError(f"{path} must have one element, vertex, and its count; its header says {line[:80]!r}.")
            count = int(words[2])
        elif words[:1] == ["property"] and count is not None and len(words) == 3 and words[1] in _SIZES:
            if words[2] in properties:
                raise PlyError(f"{path} has the property {words[2][:80]!r} twice.")
            properties[words[2]] = words[1]
        else:
            raise PlyError(f"{path} has a header line that splats do not have: {line[:80]!r}.")
    if not count:
        raise PlyError(f"{path} holds no splats.")
    return _Header(count, properties, num_bytes)


def _check_points(path: Path, header: _Header) -> None:
    missing = [name for name in (*_COLUMNS["means"], *_COLORS) if name not in header.properties]
    if missing:
        raise PlyError(f"{path} has no property {missing[0]}: it is not a coloured point cloud.")


def _check_splats(path: Path, header: _Header) -> None:
    missing = [name for names in _COLUMNS.values() for name in names if name not in header.properties]
    if missing:
        raise PlyError(f"{path} has no property {missing[0]}: it is not a .ply of Gaussian splats.")
    num_rest = sum(name.startswith("f_rest_") for name in header.properties)
    if num_rest not in _NUM_REST or any(name not in header.properties for name in _rest_names(num_rest)):
        raise PlyError(f"{path} has {num_rest} f_rest properties; degree 0 to 3 have 0, 9, 24 or 45.")
