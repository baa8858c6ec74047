"""The objects that a prior knows by heart: a small file with all their meshes, and a table of what they are."""

from __future__ import annotations

import json
import lzma
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from splatdistill.priors.gbuffer import ALBEDO, ALPHA, CHANNELS, PAINTS, SHADING
from splatdistill.priors.zbuffer import FlatMesh

INDEX, MESHES = "instances.json", "meshes.xz"
GRID, COLOURS, SHADES = 512, 32, 32
"""Values that a coordinate, a colour's channel and a shade can have."""


@dataclass(frozen=True)
class Instance:
    """One model. luminance: of its bare surface under each of three paints, 0..1; parts: names of what each covers,
    several by semicolons, "" where it covers nothing; heights: where each lies, 0 at the lowest point of the object and
    1 at its highest. bare: it has no look of its own, so all of its paints need a colour.
    """

    noun: str
    key: str
    luminance: Sequence[float]
    parts: Sequence[str] = field(default_factory=list)
    heights: Sequence[float] = field(default_factory=list)
    bare: bool = False


@dataclass(frozen=True)
class MeshCode:
    """A mesh in few bits. vertices: [N,3] int16 in 0..GRID-1, over -1..1; faces: [F,3] int32, a new vertex always the
    next one; values: [F,5] uint8: red, green, blue, shade, and the paint that covers it, 0 for none.
    """

    vertices: NDArray[np.int16]
    faces: NDArray[np.int32]
    values: NDArray[np.uint8]

    @classmethod
    def ordered(cls, vertices: NDArray[np.int16], faces: NDArray[np.int64], values: NDArray[np.uint8]) -> MeshCode:
        """Of any mesh, in an order that makes it small in a file: by paint and colour, along neighbours."""
        order = _along(faces, values)
        faces, values = faces[order], values[order]
        used, first = np.unique(faces, return_index=True)
        used = used[np.argsort(first)]
        number = np.zeros(len(vertices), np.int32)
        number[used] = np.arange(len(used))
        return cls(vertices[used], number[faces], values)

    def decode(self) -> FlatMesh:
        values = torch.zeros(len(self.faces), CHANNELS)
        code = torch.from_numpy(self.values.astype(np.float32))
        values[:, ALBEDO] = code[:, :3] / (COLOURS - 1)
        values[:, SHADING], values[:, ALPHA] = code[:, 3] / (SHADES - 1), 1
        for slot, channel in enumerate(PAINTS):
            values[:, channel] = (code[:, 4] == slot + 1).float()
        vertices = torch.from_numpy(self.vertices.astype(np.float32)) * (2 / (GRID - 1)) - 1
        return FlatMesh(vertices, torch.from_numpy(self.faces.astype(np.int64)), values)


class Instances:
    """codes: of the models in `known`, in its order."""

    def __init__(self, codes: Sequence[MeshCode], known: Sequence[Instance]) -> None:
        assert len(codes) == len(known)
        self.codes, self.known = list(codes), list(known)
        self.of_noun: dict[str, list[int]] = {}
        for number, instance in enumerate(self.known):
            self.of_noun.setdefault(instance.noun, []).append(number)

    @classmethod
    def load(cls, folder: Path) -> Instances:
        """ValueError, one sentence, for a folder that holds none or is damaged."""
        if not (folder / INDEX).exists():
            raise ValueError(f"No meshes in {folder}: it has no {INDEX}.")
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            known = [Instance(**one) for one in index["known"]]
            vertices, faces = index["vertices"], index["faces"]
            file = lzma.LZMADecompressor()  # no more is unpacked than the index says
            whole = file.decompress((folder / MESHES).read_bytes(), _length(vertices, faces) + 1)
            if not file.eof:
                raise ValueError("The file ends early, or holds more than its index says.")
            return cls(_unpack(whole, vertices, faces), known)
        except (lzma.LZMAError, ValueError, KeyError, TypeError, OSError) as error:
            raise ValueError(f"The meshes in {folder} are damaged: copy the folder again.") from error

    def save(self, folder: Path) -> None:
        """Writes the folder: index and meshes."""
        folder.mkdir(parents=True, exist_ok=True)
        index = {
            "known": [asdict(known) for known in self.known],
            "vertices": [len(code.vertices) for code in self.codes],
            "faces": [len(code.faces) for code in self.codes],
        }
        (folder / INDEX).write_text(json.dumps(index, separators=(",", ":")) + "\n", encoding="utf-8")
        (folder / MESHES).write_bytes(lzma.compress(_pack(self.codes), preset=9 | lzma.PRESET_EXTREME))

    def mesh(self, number: int) -> FlatMesh:
        return self.codes[number].decode()


def _pack(codes: Sequence[MeshCode]) -> bytes:
    """Columns of all models, each number as its difference from what is likely: a vertex from the one before, a corner
    from the next new vertex, a value from that of the triangle before.
    """
    steps = np.concatenate([np.diff(c.vertices, axis=0, prepend=np.int16(0)) for c in codes]).astype(np.int16)
    corners = np.concatenate([_next_new(c.faces) - c.faces.ravel() for c in codes]).astype(np.uint16)
    values = np.concatenate([np.diff(c.values, axis=0, prepend=np.uint8(0)) for c in codes])
    columns = [*steps.T, *corners.reshape(-1, 3).T, *values.T]
    return b"".join(_bytes(column) for column in columns)


def _bytes(column: NDArray[np.generic]) -> bytes:
    """Low bytes first, then high ones, which are nearly all alike."""
    wide = np.ascontiguousarray(column).view(np.uint8).reshape(len(column), -1)
    return wide.T.tobytes()


def _next_new(faces: NDArray[np.int32]) -> NDArray[np.int64]:
    """[3 F] how many vertices were met before each corner."""
    flat = faces.ravel()
    seen = np.maximum.accumulate(flat)
    return np.concatenate([[0], seen[:-1] + 1])


def _length(vertices: Sequence[int], faces: Sequence[int]) -> int:
    return 6 * sum(vertices) + 11 * sum(faces)


def _unpack(data: bytes, vertices: Sequence[int], faces: Sequence[int]) -> list[MeshCode]:
    """ValueError where the data has another length than the counts say, or names a vertex that is not there."""
    many, triangles = sum(vertices), sum(faces)
    raw = np.frombuffer(data, np.uint8)
    if min(*vertices, *faces, 1) < 1 or len(raw) != _length(vertices, faces):
        raise ValueError("The meshes have another length than their index says.")
    words, rest = raw[: 6 * many].reshape(3, 2, many), raw[6 * many :]
    steps = (words[:, 0] | words[:, 1].astype(np.uint16) << 8).view(np.int16).T
    words = rest[: 6 * triangles].reshape(3, 2, triangles)
    corners = (words[:, 0] | words[:, 1].astype(np.uint16) << 8).T.astype(np.int32)
    values = rest[6 * triangles :].reshape(5, triangles).T
    codes, v, f = [], 0, 0
    for some, few in zip(vertices, faces, strict=True):
        back = corners[f : f + few].ravel()
        # A corner that is 0 back is a new vertex, so the next new one is how many of them came before.
        number = np.cumsum(back == 0) - (back == 0) - back
        if number.min() < 0 or number.max() >= some:
            raise ValueError("The meshes name a vertex that is not there.")
        codes.append(
            MeshCode(
                np.cumsum(steps[v : v + some], axis=0, dtype=np.int16), number.reshape(-1, 3).astype(np.int32),
                np.cumsum(values[f : f + few], axis=0, dtype=np.uint8),
            )
        )  # fmt: skip
        v, f = v + some, f + few
    return codes


def _along(faces: NDArray[np.int64], values: NDArray[np.uint8]) -> list[int]:
    """An order of the triangles: those of one colour together, each next to one before it where there is one."""
    alike: dict[bytes, list[int]] = {}
    for number, row in enumerate(values[:, [4, 0, 1, 2]]):
        alike.setdefault(row.tobytes(), []).append(number)
    around: dict[tuple[int, int], list[int]] = {}
    edges = [[tuple(sorted((int(a), int(b)))) for a, b in ((f[0], f[1]), (f[1], f[2]), (f[2], f[0]))] for f in faces]
    for number, three in enumerate(edges):
        for edge in three:
            around.setdefault(edge, []).append(number)  # type: ignore[arg-type]
    order: list[int] = []
    done = np.zeros(len(faces), bool)
    for _, group in sorted(alike.items()):
        mine = set(group)
        for first in group:
            waiting = [first]
            while waiting:
                number = waiting.pop()
                if done[number]:
                    continue
                done[number] = True
                order.append(number)
                waiting += [n for edge in edges[number] for n in around[edge] if not done[n] and n in mine]  # type: ignore[index]
    return order
