"""Where the splats of a run begin: a ball, a shell, or a file of splats, of points or of a mesh."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from splatdistill.config.schema import CameraConfig, SplatsConfig
from splatdistill.io import formats, mesh_points, ply
from splatdistill.io.frames import TO_OURS, refuse_out_of_sight
from splatdistill.io.kinds import Assumptions, readable
from splatdistill.io.runs import SPLATS
from splatdistill.ops.geometry import rotation_matrices
from splatdistill.scene.gaussians import INITS, Splats, init_points, with_sh_degree


def initial_splats(
    init: str,
    config: SplatsConfig,
    *,
    seed: int,
    taken: Assumptions | None = None,
    camera: CameraConfig | None = None,
) -> Splats:
    """The splats of step 0. init: `ball`, `shell`, a file of splats or a run folder, or `points:FILE` for the points of
    a file. taken: how the file is taken. ValueError for anything else, and for a file that no camera would see.
    """
    if init in INITS:
        return INITS[init](config, seed=seed)
    kind, _, path = init.partition(":")
    if kind == "points" and path:
        points, colours = _points(Path(path), (taken or Assumptions()), count=config.num_init, seed=seed)
        return init_points(config, points=points, colors=colours, seed=seed)
    splats = opened(init, taken=taken, camera=camera).splats
    return splats if config.sh_degree == "auto" else with_sh_degree(splats, config.sh_degree)


def opened(init: str, *, taken: Assumptions | None, camera: CameraConfig | None) -> formats.Opened:
    """The file of splats that `init` names, as the door takes it; ValueError where cameras would not see them."""
    kind, _, path = init.partition(":")
    file = Path(path if kind in readable() and path else init)  # ply:FILE, as version 0.1 had it
    if file.is_dir():
        file = file / SPLATS
    if not file.exists() and file == Path(init) and not file.suffix:
        raise ValueError(f"init: {init!r} is neither 'ball' nor 'shell' nor a FILE that is there nor 'points:FILE'.")
    camera = camera or CameraConfig()
    found = formats.open_file(file, taken, radius=camera.object_radius)
    if camera.kind == "orbit":
        refuse_out_of_sight(found.splats, radius=camera.object_radius, name=f"init: {file}")
    return found


def _points(path: Path, taken: Assumptions, *, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points [P,3] with +z up, as `init_points` takes them, and their colours [P,3] in 0..1."""
    up = taken.up
    if mesh_points.is_mesh(path):
        points, colours, own = mesh_points.sample(path, count=count, seed=seed)
        up = own if up == "auto" else up
    else:
        points, colours = ply.read_points(path)
    if up in ("auto", "+z"):
        return points, colours
    turn = rotation_matrices(torch.tensor([TO_OURS[up]], dtype=torch.float64))[0].to(points.dtype)
    return (points @ turn.T)[:, [2, 0, 1]], colours  # `init_points` takes x, y, z from y, z, x
