"""Triangles as the ray caster wants them, out of any file that trimesh reads, and the GLB files of a folder."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from splatdistill.embedded.corpus.rays import enclosing_ball

_PLAIN = (160, 160, 160, 255)  # of a part without a material


@dataclass(frozen=True)
class Material:
    """colour: [3] in 0..1; opacity 0..1; texture: [H,W,4] in 0..1 that replaces the colour, or None. name: as the file
    gives it.
    """

    colour: NDArray[np.floating]
    opacity: float
    texture: NDArray[np.floating] | None
    name: str = ""


@dataclass(frozen=True)
class ModelMesh:
    """Triangles in the unit sphere. vertices, normals: [N,3]; uv: [N,2]; faces: [F,3]; face_material: [F] indices."""

    vertices: NDArray[np.floating]
    normals: NDArray[np.floating]
    uv: NDArray[np.floating]
    faces: NDArray[np.int64]
    face_material: NDArray[np.int64]
    materials: list[Material]


def read_glb(source: Path, name: str | None = None, *, yaw_deg: float = 0.0) -> ModelMesh:
    """A GLB file, or `name` in the folder or zip archive `source`, its front turned to +z by `yaw_deg` about +y.

    ValueError, one sentence that names the file, where it is missing, broken or holds no triangles.
    """
    label = name or source.name
    try:
        scene: Any = trimesh.load_scene(io.BytesIO(_read(source, name)), file_type="glb", process=False)
        parts = scene.dump()
    except Exception as error:  # trimesh raises whatever its parsers ran into
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{label} cannot be read as GLB ({reason[:120]}).") from error
    return to_mesh(parts, turn=yaw(yaw_deg), label=label)


def glb_names(source: Path) -> list[str]:
    """The GLB files in a folder or a zip archive, sorted. ValueError, one sentence, where there are none."""
    if source.is_dir():
        names = [p.name for p in source.glob("*.glb")]
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            names = [n for n in archive.namelist() if n.lower().endswith(".glb")]
    else:
        raise ValueError(f"--models {source}: no folder and no zip archive is there.")
    if not names:
        raise ValueError(f"--models {source}: it holds no .glb file.")
    return sorted(names)


def to_mesh(parts: list[Any], *, turn: NDArray[np.floating], label: str) -> ModelMesh:
    """Trimesh's parts as one mesh in the unit sphere, turned by `turn` [3,3]. ValueError without triangles."""
    parts = [g for g in parts if isinstance(g, trimesh.Trimesh) and len(g.faces)]
    if not parts:
        raise ValueError(f"{label} holds no triangles.")
    offsets = np.cumsum([0] + [len(p.vertices) for p in parts])
    vertices = np.concatenate([p.vertices for p in parts]) @ turn.T
    if not np.isfinite(vertices).all():
        raise ValueError(f"{label} has vertices that are no numbers.")
    centre, radius = enclosing_ball(vertices)  # the box diagonal would leave long objects too small
    if not radius > 0:
        raise ValueError(f"{label} has no extent.")
    vertices = (vertices - centre) / radius
    faces = np.concatenate([p.faces + o for p, o in zip(parts, offsets, strict=False)])
    return ModelMesh(
        vertices=vertices,
        normals=vertex_normals(vertices, faces),
        uv=np.concatenate([_uv(p) for p in parts]),
        faces=faces,
        face_material=np.repeat(np.arange(len(parts)), [len(p.faces) for p in parts]),
        materials=[_material(p) for p in parts],
    )


def yaw(degrees: float) -> NDArray[np.floating]:
    """The rotation [3,3] about +y."""
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])


def _read(source: Path, name: str | None) -> bytes:
    if name is None:
        return source.read_bytes()
    if source.is_dir():
        return (source / name).read_bytes()
    with zipfile.ZipFile(source) as archive:
        return archive.read(name)


def vertex_normals(vertices: NDArray[np.floating], faces: NDArray[np.int64]) -> NDArray[np.floating]:
    """Area-weighted means; files split vertices at hard edges. Trimesh's own would need SciPy to be quick."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    sums = [np.bincount(faces.ravel(), np.repeat(normal[:, k], 3), minlength=len(vertices)) for k in range(3)]
    total = np.stack(sums, -1)
    return total / (np.linalg.norm(total, axis=1, keepdims=True) + 1e-12)


def _uv(part: trimesh.Trimesh) -> NDArray[np.floating]:
    uv = getattr(part.visual, "uv", None)
    return np.zeros((len(part.vertices), 2)) if uv is None else np.asarray(uv, dtype=np.float64)


def _material(part: trimesh.Trimesh) -> Material:
    """Of an OBJ the diffuse colour, of a GLB the base colour, as the file has it."""
    material = getattr(part.visual, "material", None)
    colour = getattr(material, "baseColorFactor", None)
    if colour is None:
        colour = getattr(material, "diffuse", None)
    if colour is None:
        colour = _PLAIN
    rgba = np.asarray(colour, dtype=np.float32)
    rgba = rgba / 255 if rgba.max() > 1 else rgba
    image = getattr(material, "image", None) or getattr(material, "baseColorTexture", None)
    texture = None if image is None else np.asarray(image.convert("RGBA"), dtype=np.float32) / 255
    opacity = getattr(material, "kwargs", {}).get("d", [1.0])
    return Material(
        colour=rgba[:3],
        opacity=float(np.ravel(np.asarray(opacity, dtype=np.float64))[0]),
        texture=texture,
        name=str(getattr(material, "name", "") or ""),
    )
