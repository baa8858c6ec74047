"""Points with colours on the surface of a mesh, for a training to begin from. trimesh reads the mesh."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splatdistill.io.kinds import MAX_HEADER, FormatError, UpAxis

_UP: dict[str, UpAxis] = {"glb": "+y", "gltf": "+y", "obj": "+y", "stl": "+z", "off": "+z", "ply": "+z"}


def is_mesh(path: Path) -> bool:
    """Whether a file holds triangles, by its first bytes, or for .obj and others without a mark by its name."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(MAX_HEADER)
    if start[:3] == b"ply":
        header = start.partition(b"end_header")[0]
        return re.search(rb"^element\s+face\s+0*[1-9]", header, flags=re.M) is not None
    return start[:4] == b"glTF" or path.suffix.lower().removeprefix(".") in ("obj", "gltf", "stl", "off")


def sample(path: Path, *, count: int, seed: int) -> tuple[Tensor, Tensor, UpAxis]:
    """`count` points [P,3] spread evenly over the surface, as they stand in the file, their colours [P,3] in 0..1, and
    which axis points up in files of that kind. FormatError for a file that holds no coloured mesh.
    """
    if importlib.util.find_spec("trimesh") is None:
        raise ValueError("init: trimesh reads meshes and is not installed; pip install 'splatdistill[mesh]' brings it.")
    with path.open("rb") as file:
        start = file.read(4)
    kind = "ply" if start[:3] == b"ply" else "glb" if start == b"glTF" else path.suffix.lower().removeprefix(".")
    try:
        points, colours = _on_surface(path, kind, count=count, seed=seed)
    except FormatError:
        raise
    except Exception as error:  # of trimesh's readers, of which there are a dozen
        raise FormatError(f"{path} cannot be read as a mesh: {' '.join(str(error).split())[:120]}.") from None
    if not (np.isfinite(points).all() and len(points)):
        raise FormatError(f"{path} is a mesh without a surface of finite size.")
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(colours.astype(np.float32)), _UP[kind]  # pyright: ignore[reportUnknownMemberType]


def _on_surface(path: Path, kind: str, *, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    trimesh: Any = importlib.import_module("trimesh")  # its types are not whole
    scene = trimesh.load_scene(path, file_type=kind, process=False)
    parts: list[Any] = [mesh for mesh in scene.dump() if isinstance(mesh, trimesh.Trimesh) and len(mesh.faces)]
    areas = np.array([part.area for part in parts])
    if not parts or not areas.sum() > 0:
        raise FormatError(f"{path} has no triangles.")
    shares = np.floor(count * areas / areas.sum()).astype(int)
    shares[0] += count - shares.sum()
    points, colours = list[np.ndarray](), list[np.ndarray]()
    for part, share in zip(parts, shares.tolist(), strict=True):
        if not share:
            continue
        where, faces = trimesh.sample.sample_surface(part, share, seed=seed)
        points.append(np.asarray(where))
        colours.append(_colours(part, np.asarray(where), np.asarray(faces), linear=kind in ("glb", "gltf")))
    return np.concatenate(points), np.concatenate(colours)


def _colours(part: Any, points: np.ndarray, faces: np.ndarray, *, linear: bool) -> np.ndarray:
    """[P,3] in 0..1, for a display, of points on some faces of a mesh. linear: whether those of corners are linear."""
    trimesh: Any = importlib.import_module("trimesh")
    weights = trimesh.triangles.points_to_barycentric(part.triangles[faces], points)
    corners = part.faces[faces]
    if getattr(part.visual, "uv", None) is not None:
        uv = np.einsum("pk,pkc->pc", weights, np.asarray(part.visual.uv)[corners])
        return np.asarray(part.visual.material.to_color(uv))[:, :3] / 255  # a texture is in sRGB
    if part.visual.kind == "face":
        rgb = np.asarray(part.visual.face_colors)[faces, :3] / 255
    else:
        rgb = np.einsum("pk,pkc->pc", weights, np.asarray(part.visual.vertex_colors)[corners, :3] / 255)
    return np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb.clip(1e-9) ** (1 / 2.4) - 0.055) if linear else rgb
