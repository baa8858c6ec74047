"""How a mesh is best made of splats: a signed distance on a grid (what `export --format mesh` does), or the screened
Poisson surface (Kazhdan and Hoppe 2013, as pymeshlab has it) through the same points of the same views.

    python benchmarks/mesh_methods.py --runs DIR --json FILE --sheet FOLDER

Seven objects are trained with the defaults (DIR keeps them) and four hard ones are those of the tests. Distances are to
the surface of splat_surface.py, in parts of its radius; seconds are of the processor, without the views, which both
share. Both are simplified and painted by the same code. The record is written after each object, and objects that it
holds are left out. Poisson needs pymeshlab, which nothing else here does: `pip install pymeshlab`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import splat_surface
import torch
import trimesh
from common import commit, machine, progress
from evidence import Record, read_json
from PIL import Image
from torch import Tensor
from trimesh.sample import sample_surface

from splatdistill import cli
from splatdistill.export import fusion, mesh
from splatdistill.export.fusion import Sight
from splatdistill.export.mesh import MeshStyle
from splatdistill.io import formats
from splatdistill.rendering.renderer import CpuRenderer
from splatdistill.scene.gaussians import Splats
from splatdistill.scene.types import Cameras
from tests.clients.letter import letter
from tests.export.shapes import painted_ball, stool
from tests.io.scenes import knot

PROMPTS = ("an armchair", "a teddy bear", "a car", "a piano", "a tree", "a spaceship", "a bicycle")
HARD: dict[str, Callable[[], Splats]] = {
    "letter F": letter, "knot": lambda: knot(6000), "ball": painted_ball, "stool on thin legs": stool
}  # fmt: skip
COMMAND = "python benchmarks/mesh_methods.py --runs DIR --json FILE --sheet FOLDER"
MOST = 300_000  # points that Poisson is given
TILE = 192  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, required=True, help="one .png for each object goes into this folder")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.sheet.mkdir(parents=True, exist_ok=True)
    done = read_json(args.json).get("objects", {})
    record = Record(args.json, command=COMMAND, commit=commit(), machine=machine(), objects=done)
    for name, splats in objects(args.runs):
        if name not in done:
            done[name], pictures = compared(splats)
            Image.fromarray(np.concatenate(pictures, 1)).save(args.sheet / f"{name.replace(' ', '-')}.png")
            record.write(objects=done, summary=summary(done))
            progress(f"{name}: {done[name]}")


def objects(runs: Path) -> Iterator[tuple[str, Splats]]:
    """By name; those of prompts are trained where `runs` has none."""
    for name, make in HARD.items():
        yield name, make()
    for prompt in PROMPTS:
        name = prompt.replace(" ", "-")
        if not (runs / name / "splats.ply").exists():
            assert cli.main(["train", "--prompt", prompt, "--out", str(runs), "--name", name]) == cli.DONE
        yield prompt, formats.read(runs / name / "splats.ply")


@dataclass(frozen=True)
class Poisson:
    """The surface of an octree of that depth through points of `sights`, as many as a picture's pixel is turned."""

    sights: list[Sight]
    depth: int = 8

    def surface(self) -> tuple[np.ndarray, np.ndarray]:
        import pymeshlab  # pyright: ignore[reportMissingImports]

        points, normals = (torch.cat(x)[:: self.stride].numpy().astype(float) for x in zip(*self.parts, strict=True))
        scene = pymeshlab.MeshSet()
        scene.add_mesh(pymeshlab.Mesh(vertex_matrix=points, v_normals_matrix=normals))
        scene.generate_surface_reconstruction_screened_poisson(depth=self.depth, preclean=True)
        made = scene.current_mesh()
        return made.vertex_matrix(), made.face_matrix()

    @property
    def parts(self) -> list[tuple[Tensor, Tensor]]:
        return [_oriented(sight) for sight in self.sights]

    @property
    def stride(self) -> int:
        return max(1, sum(int(sight.depth.isfinite().sum()) for sight in self.sights) // MOST)


def _oriented(sight: Sight) -> tuple[Tensor, Tensor]:
    """points [P,3] that a view sees, and there the direction [P,3] across the surface, towards the view."""
    camera = sight.view.viewmats[0]
    where = torch.full((*sight.depth.shape, 3), torch.nan)
    where[sight.depth.isfinite()] = sight.points()
    across = torch.cross(where[2:, 1:-1] - where[:-2, 1:-1], where[1:-1, 2:] - where[1:-1, :-2], dim=-1)
    normal = torch.nn.functional.normalize(across, dim=-1)
    kept = normal.isfinite().all(-1) & (across.norm(dim=-1) > 0)
    points, normals = where[1:-1, 1:-1][kept], normal[kept]
    towards = -(camera[:3, :3].T @ camera[:3, 3]) - points
    return points, normals * torch.sign((normals * towards).sum(-1, keepdim=True))


def compared(splats: Splats) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The figures of one object, and its pictures: the splats and each mesh from one side."""
    surface = splat_surface.see(splats)
    low, high = np.quantile(surface.all, 0.002, axis=0), np.quantile(surface.all, 0.998, axis=0)
    middle, reach = torch.tensor(0.5 * (low + high)).float(), 0.55 * float(np.linalg.norm(high - low))
    view = splat_surface.around(middle, reach, num_views=9, size=TILE).select(slice(3, 4))
    sights = fusion.look(splats, CpuRenderer())
    found: dict[str, Any] = {"splats": len(splats), "points": len(surface.all), "floor": surface.floor()}
    pictures = [_drawn(splats, view)]
    methods = {"grid": lambda: fusion.fuse(sights, resolution=mesh.RESOLUTION), "poisson": lambda: Poisson(sights)}
    for name, method in methods.items():
        start = time.process_time()
        points, faces = method().surface()
        shape = mesh.simplified(points, faces, MeshStyle().triangles)
        seconds = round(time.process_time() - start, 1)
        found[name] = splat_surface.away(surface, shape) | {
            "watertight": bool(shape.is_watertight), "triangles": len(shape.faces), "parts": int(shape.body_count),
            "seconds": seconds,
        }  # fmt: skip
        pictures.append(_photographed(shape, sights, view))
    return found, pictures


def summary(done: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {
            "median_chamfer": float(np.median([found[name]["chamfer"] for found in done.values()])),
            "worst_chamfer": max(found[name]["chamfer"] for found in done.values()),
            "within_0.01": sum(found[name]["chamfer"] <= 0.01 for found in done.values()),
            "watertight": sum(found[name]["watertight"] for found in done.values()),
        }
        for name in ("grid", "poisson")
    } | {"objects": len(done)}


@torch.no_grad()
def _drawn(splats: Splats, view: Cameras) -> np.ndarray:
    return _bytes(CpuRenderer().render(splats, view, background=torch.ones(1, 3)).rgb[0].numpy())


def _photographed(shape: Any, sights: list[Sight], view: Cameras) -> np.ndarray:
    """[TILE,2*TILE,3]: the mesh in its colours, and in grey under a lamp at the camera, which shows every lump."""
    points, faces = sample_surface(shape, 300_000, seed=0)[:2]
    vertices, normals = (np.array(x, np.float32) for x in (shape.vertices, shape.vertex_normals))
    colours = mesh.paint(vertices, normals, sights)
    camera, K = view.viewmats[0].numpy(), view.Ks[0].numpy()
    at = points @ camera[:3, :3].T + camera[:3, 3]
    place = np.floor((at @ K.T)[:, :2] / at[:, 2:]).astype(int)
    column, row = place[:, 0], place[:, 1]
    bary = trimesh.triangles.points_to_barycentric(shape.triangles[faces], points)[..., None]
    facing = -((bary * normals[shape.faces[faces]]).sum(1) @ camera[2, :3])
    pictures = []
    order = np.argsort(-at[:, 2])
    order = order[((column >= 0) & (column < TILE) & (row >= 0) & (row < TILE))[order]]
    for values in ((bary * colours[shape.faces[faces]]).sum(1), np.repeat(facing.clip(0.1, 1)[:, None], 3, 1)):
        picture = np.ones((TILE, TILE, 3))
        picture[row[order], column[order]] = values[order]  # the nearest is written last
        pictures.append(_bytes(picture))
    return np.concatenate(pictures, 1)


def _bytes(picture: np.ndarray) -> np.ndarray:
    return np.rint(255 * picture.clip(0, 1)).astype(np.uint8)


if __name__ == "__main__":
    main()
