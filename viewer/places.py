"""Cameras and boxes of the page, in its own world of +y up, and the same in the world of a file. Loads torch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .rundir import Item

if TYPE_CHECKING:
    import torch

    from splatdistill.scene.gaussians import Splats

MAX_PLACES = 300


@dataclass(frozen=True)
class Asked:
    """Cameras of the page. places: camera to world, x right, y up, z backwards, 4 rows of 4. fovy: degrees."""

    places: list[list[list[float]]]
    fovy: float
    width: int
    height: int


def asked(body: bytes) -> Asked:
    """What the page sent. ValueError, one sentence, for anything else."""
    try:
        found = Asked(**json.loads(body))
        sizes = {(len(place), *map(len, place)) for place in found.places}
        numbers = [float(x) for place in found.places for row in place for x in row]
        fair = sizes == {(4, 4, 4, 4, 4)} and all(map(math.isfinite, numbers)) and 0 < found.fovy < 180
        fair = fair and all(type(side) is int and 0 < side <= 8192 for side in (found.width, found.height))
    except (ValueError, TypeError, RecursionError):
        raise ValueError('the body must look like {"places": [...], "fovy": 40, "width": 1, "height": 1}.') from None
    if not fair or len(found.places) > MAX_PLACES:
        raise ValueError(f"cameras: add 1 to {MAX_PLACES} views first.")
    return found


def write(path: Path, item: Item, asked: Asked) -> None:
    """A transforms.json in the world of the item's file, which `render --camera` reads."""
    import torch

    from splatdistill.io import camera_files
    from splatdistill.scene.types import Cameras

    places = torch.tensor(asked.places, dtype=torch.float64) @ torch.diag(torch.tensor([1.0, -1, -1, 1])).double()
    K = torch.eye(3, dtype=torch.float64)
    K[0, 0] = K[1, 1] = 0.5 * asked.height / math.tan(math.radians(asked.fovy) / 2)
    K[0, 2], K[1, 2] = asked.width / 2, asked.height / 2
    count = len(places)
    angles = torch.zeros(count)
    ours = Cameras(
        torch.linalg.inv(places).float(),
        K.float().expand(count, 3, 3),
        asked.width,
        asked.height,
        angles,
        angles,
        angles,
    )
    theirs = camera_files.turned(ours, _to_ours(item).T)
    camera_files.write(path, theirs, files=[f"{i:04d}.png" for i in range(count)])


def read(path: Path, item: Item) -> list[dict[str, Any]]:
    """The cameras of a transforms.json in the world of the item's file: place, axes and vertical angle of view."""
    from splatdistill.io import camera_files

    found = camera_files.turned(camera_files.read(path).cameras, _to_ours(item))
    fovy = 2 * (0.5 * found.height / found.Ks[:, 1, 1]).atan().rad2deg()
    places = found.viewmats.double().inverse()  # camera to world, OpenCV: y down, z forward
    return [
        {"eye": place[:3, 3].tolist(), "forward": place[:3, 2].tolist(), "up": (-place[:3, 1]).tolist(), "fovy": f}
        for place, f in zip(places, fovy.tolist(), strict=True)
    ]


def cut(item: Item, file: Path, box: str | None) -> Splats:
    """The splats of an item whose middles lie in a box, "x,y,z,x,y,z" from its lower to its upper corner, or all.
    ValueError, one sentence, for a box that is none or that nothing lies in.
    """
    import torch

    from splatdistill.io import formats
    from splatdistill.scene.gaussians import Splats

    splats = formats.read(file, item.taken)
    if box is None:
        return splats
    try:
        corners = torch.tensor([float(x) for x in box.split(",")]).reshape(2, 3)
    except (ValueError, RuntimeError):
        raise ValueError("box must be six numbers: minimum x, y, z, then maximum x, y, z.") from None
    inside = ((splats.means >= corners[0]) & (splats.means <= corners[1])).all(-1)
    if not inside.any():
        raise ValueError("box: no splat lies in it; make it larger.")
    return Splats(**{name: value[inside] for name, value in splats.tensors.items()})


def _to_ours(item: Item) -> torch.Tensor:
    """[3,3]: turns the world of the item's file into ours; that of a run is ours."""
    import torch

    from splatdistill.io import formats
    from splatdistill.io.frames import TO_OURS
    from splatdistill.ops.geometry import rotation_matrices

    up = "+y" if item.is_run else formats.open_file(item.path, item.taken).up
    return rotation_matrices(torch.tensor([TO_OURS[up]], dtype=torch.float64))[0]
