"""Cameras as transforms.json, the file of Instant-NGP, Nerfstudio and the Blender scenes of NeRF.

Its matrices take camera to world with OpenGL's axes: x right, y up, z backwards. V cameras.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from splatdistill.io.files import write_text
from splatdistill.scene.types import Cameras

MAX_BYTES = 1 << 26
MAX_CAMERAS = 10_000
MAX_SIDE = 8192  # px
MAX_TILT = 1e-3  # by which rows of a rotation may miss length 1 and right angles: files have 6 digits, or fewer

_CV_TO_GL = torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64))
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")


@dataclass(frozen=True)
class CameraFile:
    """The cameras of a file, in its own world, and sentences about what of it is not drawn."""

    cameras: Cameras
    notes: tuple[str, ...]


def read(path: Path) -> CameraFile:
    """ValueError, one sentence that names the file, for one that describes no cameras."""
    if not path.is_file():
        raise ValueError(f"camera: {path} is not a file.")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"camera: {path} is larger than {MAX_BYTES >> 20} MiB.")
    try:
        return _cameras(json.loads(path.read_bytes()))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, OverflowError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:120]
        raise ValueError(f"camera: {path} is no transforms.json with cameras: {why}.") from None


def write(path: Path, cameras: Cameras, *, files: list[str]) -> None:
    """Writes the cameras, each with the picture of `files` that it took."""
    frames: list[dict[str, Any]] = []
    for file, viewmat, K in zip(files, cameras.viewmats.double(), cameras.Ks.double(), strict=True):
        place = cast("list[list[float]]", (_inverse(viewmat) @ _CV_TO_GL).tolist())  # pyright: ignore[reportUnknownMemberType]
        own = {"fl_x": float(K[0, 0]), "fl_y": float(K[1, 1]), "cx": float(K[0, 2]), "cy": float(K[1, 2])}
        frames.append({"file_path": file, **own, "transform_matrix": place})
    document = {"camera_model": "OPENCV", "w": cameras.width, "h": cameras.height, "frames": frames}
    write_text(path, json.dumps(document, indent=1) + "\n")


def turned(cameras: Cameras, rotation: Tensor) -> Cameras:
    """The same cameras in a world that was turned by `rotation` [3,3]."""
    back = torch.eye(4, dtype=torch.float64)
    back[:3, :3] = rotation.double().T
    return _placed((cameras.viewmats.double() @ back), cameras.Ks, cameras.width, cameras.height)


def _cameras(document: Any) -> CameraFile:
    frames = cast("list[dict[str, Any]]", document["frames"])
    if not 0 < len(frames) <= MAX_CAMERAS:
        raise ValueError(f"it has {len(frames)} frames; 1 to {MAX_CAMERAS} are read")
    sizes = {(_side(document, frame, "w"), _side(document, frame, "h")) for frame in frames}
    if len(sizes) != 1:
        raise ValueError("its pictures differ in size, which is not drawn")
    ((width, height),) = sizes
    places = torch.tensor([frame["transform_matrix"] for frame in frames], dtype=torch.float64)
    if places.shape[1:] == (3, 4):
        places = torch.cat([places, torch.tensor([[[0.0, 0, 0, 1]]]).expand(len(frames), 1, 4)], 1)
    rotation = places[:, :3, :3]
    tilt = (rotation.mT @ rotation - torch.eye(3, dtype=torch.float64)).abs().amax()
    if places.shape[1:] != (4, 4) or not tilt < MAX_TILT or not (torch.linalg.det(rotation) > 0).all():  # pyright: ignore[reportUnknownMemberType]
        raise ValueError("a transform_matrix is no place of a camera: it does not only turn and move")
    viewmats = _inverse(places @ _CV_TO_GL)
    Ks = torch.tensor([_intrinsics(document, frame, width, height) for frame in frames], dtype=torch.float64)
    if not torch.isfinite(viewmats).all() or not torch.isfinite(Ks).all() or not (Ks[:, 0, 0] > 0).all():
        raise ValueError("its numbers are not finite, or a focal length is not above 0")
    bent = any(frame.get(name, document.get(name, 0)) for frame in frames for name in _DISTORTION)
    notes = ("its lens distortion is not drawn",) if bent else ()
    return CameraFile(_placed(viewmats, Ks, width, height), notes)


def _inverse(matrices: Tensor) -> Tensor:
    """Of [...,4,4]."""
    return cast(Tensor, torch.linalg.inv(matrices))  # pyright: ignore[reportUnknownMemberType]


def _placed(viewmats: Tensor, Ks: Tensor, width: int, height: int) -> Cameras:
    """Cameras with angles and distance from where they stand. viewmats: [V,4,4]; Ks: [V,3,3]."""
    position = -torch.einsum("vji,vj->vi", viewmats[:, :3, :3], viewmats[:, :3, 3])
    radius = position.square().sum(-1).sqrt()
    azimuth = torch.atan2(position[:, 0], position[:, 2])
    elevation = torch.asin((position[:, 1] / radius.clamp(min=1e-9)).clamp(-1, 1))
    return Cameras(viewmats.float(), Ks.float(), width, height, azimuth.float(), elevation.float(), radius.float())


def _side(document: dict[str, Any], frame: dict[str, Any], name: str) -> int:
    side = frame.get(name, document.get(name))
    if side is None:
        raise KeyError(name)
    if int(side) != side or not 0 < side <= MAX_SIDE:
        raise ValueError(f"{name} must be a whole number up to {MAX_SIDE}")
    return int(side)


def _intrinsics(document: dict[str, Any], frame: dict[str, Any], width: int, height: int) -> list[list[float]]:
    """[3,3] in pixels: focal lengths, or the angle of view of the width as NeRF's scenes have it."""
    known = {**document, **frame}
    if "fl_x" in known:
        fx = float(known["fl_x"])
    else:
        fx = 0.5 * width / math.tan(0.5 * float(known["camera_angle_x"]))
    fy = float(known.get("fl_y", fx))
    return [[fx, 0, float(known.get("cx", width / 2))], [0, fy, float(known.get("cy", height / 2))], [0, 0, 1]]
