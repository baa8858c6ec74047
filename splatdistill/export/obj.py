"""A mesh as .obj with its .mtl: colours stand at the vertices, as MeshLab and Blender read them, beside normals."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from splatdistill.export.mesh import Mesh
from splatdistill.io.files import write_text

_MATT = "newmtl matt\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nd 1\nillum 1\n"  # rough, and white under the colours


def write(path: Path, mesh: Mesh) -> None:
    """Writes `path` and the material beside it, each whole or not at all; colours are as a screen shows them."""
    trimesh: Any = importlib.import_module("trimesh")
    exchange: Any = importlib.import_module("trimesh.exchange.obj")
    colours = np.rint(mesh.colours * 255).astype("u1")
    shape = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colours, process=False)
    text: str = exchange.export_obj(shape, include_normals=True, include_color=True, header=None)
    corners, _, faces = text.partition("\nf ")
    material = path.with_suffix(".mtl")
    write_text(material, _MATT)
    write_text(path, f"mtllib {material.name}\n{corners.strip()}\nusemtl matt\nf {faces.strip()}\n")
