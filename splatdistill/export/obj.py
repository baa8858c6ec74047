"""A mesh as .obj with its .mtl: colours stand at the vertices, as MeshLab and Blender read them, beside normals."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from splatdistill.export.mesh import Mesh
from splatdistill.io.files import write_text

_MATT = "newmtl matt\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nd 1\nillum 1\n"  # rough, and white under the colours


def write(path: Path, mesh: Mesh, *, material: bool = True) -> None:
    """Writes `path` and the material beside it, each whole or not at all; colours are as a screen shows them. material:
    some readers, as trimesh, leave out the colours where there is one.
    """
    trimesh: Any = importlib.import_module("trimesh")
    exchange: Any = importlib.import_module("trimesh.exchange.obj")
    colours = np.rint(mesh.colours * 255).astype("u1")
    shape = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colours, process=False)
    text: str = exchange.export_obj(shape, include_normals=True, include_color=True, header=None)
    if not material:
        write_text(path, text)
        return
    corners, _, faces = text.partition("\nf ")
    library = path.with_suffix(".mtl")
    write_text(library, _MATT)
    write_text(path, f"mtllib {library.name}\n{corners.strip()}\nusemtl matt\nf {faces.strip()}\n")
