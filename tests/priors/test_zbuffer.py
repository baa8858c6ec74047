"""The z-buffer: held against rays that an outside library casts, and against closed forms; and the file of meshes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from splatdistill.priors.gbuffer import ALBEDO, ALPHA, CHANNELS, PAINTS, SHADING
from splatdistill.priors.instances import COLOURS, GRID, SHADES, Instance, Instances, MeshCode
from splatdistill.priors.zbuffer import FlatMesh, MeshSet, draw, draw_all
from splatdistill.scene.cameras import orbit
from tests.rounding import UNIT


def cameras(num: int = 2, size: int = 16, *, radius: float = 3.3):
    one = torch.ones(num)
    azimuth = torch.linspace(0.3, 2.0, num)
    return orbit(azimuth=azimuth, elevation=one * 0.4, radius=one * radius, fovy=one * 0.66, size=size)


def soup(faces: int = 60, *, seed: int = 0) -> FlatMesh:
    """Triangles anywhere in the unit ball, each of its own colour."""
    draws = torch.Generator().manual_seed(seed)
    corners = torch.randn(faces, 1, 3, generator=draws) * 0.35 + torch.randn(faces, 3, 3, generator=draws) * 0.25
    values = torch.rand(faces, CHANNELS, generator=draws)
    values[:, ALPHA] = 1
    return FlatMesh(0.5 * corners.reshape(-1, 3), torch.arange(3 * faces).view(-1, 3), values)


@pytest.mark.parametrize("seed", range(4))
def test_the_nearest_triangle_is_the_one_that_a_ray_meets_first(seed):
    pytest.importorskip("embreex")
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    from splatdistill.embedded.corpus.rays import camera_rays

    mesh, size = soup(seed=seed), 48
    numbered = FlatMesh(mesh.vertices, mesh.faces, mesh.values.clone())
    numbered.values[:, 0] = torch.arange(len(mesh.faces)) / 256
    seen = draw(numbered, cameras(size=size), size=size, samples=1)
    embree = RayMeshIntersector(trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False))
    for view in range(2):
        origin, directions = camera_rays(cameras(size=size), view, 1)
        first = embree.intersects_first(np.broadcast_to(origin, directions.shape), directions).reshape(size, size)
        mine = torch.where(seen[view, ..., ALPHA] > 0, (seen[view, ..., 0] * 256).round(), -1).long().numpy()
        # A ray that meets an edge, or two triangles where they cross, may be said to meet either. One that shifts by a
        # thousandth of a pixel does not: there both must say the same.
        shifted = []
        for dx, dy in ((1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3)):
            moved = cameras(size=size)
            moved.Ks[:, 0, 2] += dx
            moved.Ks[:, 1, 2] += dy
            origin, directions = camera_rays(moved, view, 1)
            hit = embree.intersects_first(np.broadcast_to(origin, directions.shape), directions)
            shifted.append(hit.reshape(size, size))
        sure = np.all([other == first for other in shifted], axis=0)
        assert sure.mean() > 0.9
        assert np.array_equal(mine[sure], first[sure])


def test_a_square_before_the_camera_covers_what_perspective_says():
    corners = torch.tensor([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0.0]])
    values = torch.full((2, CHANNELS), 0.25)
    values[:, ALPHA] = 1
    mesh = FlatMesh(corners, torch.tensor([[0, 1, 2], [2, 3, 0]]), values)
    one, size = torch.ones(1), 64
    view = orbit(azimuth=0 * one, elevation=0 * one, radius=2 * one, fovy=one * math.pi / 2, size=size)
    seen = draw(mesh, view, size=size)
    # At distance 2 the picture is 4 wide, so the square has 16 of 64 pixels a side, and its edges lie between pixels.
    middle = torch.zeros(size, size)
    middle[24:40, 24:40] = 1
    assert torch.equal(seen[0, ..., ALPHA], middle)
    assert torch.equal(seen[0, ..., SHADING], 0.25 * middle)


def test_values_are_means_over_the_points_that_meet_something():
    seen = draw(soup(), cameras(size=32), size=32)
    points = draw(soup(), cameras(size=32), size=64, samples=1)
    share = points[..., ALPHA].unflatten(1, (32, 2)).unflatten(3, (32, 2))
    assert torch.equal(seen[..., ALPHA], share.mean((2, 4)))
    colour = points[..., ALBEDO].unflatten(1, (32, 2)).unflatten(3, (32, 2))
    mean = colour.sum((2, 4)) / share.sum((2, 4)).clamp(min=1)[..., None]
    # Four numbers of at most 1 are added in any order, and divided twice.
    torch.testing.assert_close(seen[..., ALBEDO], mean, rtol=8 * UNIT, atol=0)


def test_meshes_that_are_drawn_together_are_each_as_drawn_alone():
    meshes = [soup(faces, seed=faces) for faces in (60, 1, 17)]
    together = draw_all(MeshSet.of(meshes), cameras(3), size=16)
    assert together.shape == (3, 3, 16, 16, CHANNELS) and together[1, ..., ALPHA].any()
    assert torch.equal(together, torch.stack([draw(mesh, cameras(3), size=16) for mesh in meshes]))


def test_what_is_behind_the_camera_is_not_drawn():
    assert not draw(soup(), cameras(radius=0.0), size=16)[..., ALPHA].isnan().any()
    mesh = soup()
    behind = FlatMesh(mesh.vertices + torch.tensor([0, 0, 40.0]), mesh.faces, mesh.values)
    one = torch.ones(1)
    view = orbit(azimuth=0 * one, elevation=0 * one, radius=3 * one, fovy=0.7 * one, size=16)
    assert not draw(behind, view, size=16).any()


def code(faces: int = 40, *, seed: int = 0) -> MeshCode:
    draws = np.random.default_rng(seed)
    vertices = draws.integers(0, GRID, (faces, 3)).astype(np.int16)
    corners = np.stack([draws.permutation(faces)[:3] for _ in range(faces)])
    limits = [COLOURS, COLOURS, COLOURS, SHADES, len(PAINTS) + 1]
    values = np.stack([draws.integers(0, limit, faces) for limit in limits], 1).astype(np.uint8)
    return MeshCode.ordered(vertices, corners, values)


def triangles(one: MeshCode) -> set[bytes]:
    return {np.concatenate([one.vertices[f].ravel(), v]).tobytes() for f, v in zip(one.faces, one.values, strict=True)}


def test_another_order_is_the_same_mesh():
    draws = np.random.default_rng(3)
    vertices = draws.integers(0, GRID, (30, 3)).astype(np.int16)
    faces = np.stack([draws.permutation(30)[:3] for _ in range(50)])
    values = draws.integers(0, 3, (50, 5)).astype(np.uint8)
    ordered = MeshCode.ordered(vertices, faces, values)
    assert triangles(ordered) == triangles(MeshCode(vertices, faces.astype(np.int32), values))
    fresh = np.maximum.accumulate(np.concatenate([[-1], ordered.faces.ravel()]))
    assert (ordered.faces.ravel() <= fresh[:-1] + 1).all()  # a new vertex is always the next one


def test_a_folder_of_meshes_is_read_as_it_was_written(tmp_path):
    codes = [code(seed=seed, faces=20 + 7 * seed) for seed in range(3)]
    known = [Instance(noun, f"test/{i}", [0.1, 0.2, 0.3], ["seat", "", ""]) for i, noun in enumerate(("a", "b", "a"))]
    Instances(codes, known).save(tmp_path)
    read = Instances.load(tmp_path)
    assert read.known == known and read.of_noun == {"a": [0, 2], "b": [1]}
    for mine, theirs in zip(read.codes, codes, strict=True):
        for name in ("vertices", "faces", "values"):
            assert np.array_equal(getattr(mine, name), getattr(theirs, name)), name


def test_a_decoded_mesh_lies_in_the_ball_s_box_and_has_one_paint_at_most():
    mesh = code().decode()
    assert mesh.vertices.min() >= -1 and mesh.vertices.max() <= 1
    masks = mesh.values[:, list(PAINTS)]
    assert set(masks.sum(1).tolist()) == {0.0, 1.0} and (mesh.values[:, ALPHA] == 1).all()


def test_missing_and_damaged_meshes_are_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"it has no instances\.json"):
        Instances.load(tmp_path)
    Instances([code()], [Instance("a", "k", [0, 0, 0])]).save(tmp_path)
    whole, index = (tmp_path / "meshes.xz").read_bytes(), json.loads((tmp_path / "instances.json").read_text())
    for data in (b"no", whole[:-3], b""):
        (tmp_path / "meshes.xz").write_bytes(data)
        with pytest.raises(ValueError, match="are damaged: copy the folder again"):
            Instances.load(tmp_path)
    (tmp_path / "meshes.xz").write_bytes(whole)
    for change in ({"faces": [39]}, {"vertices": [0]}, {"faces": ["x"]}, {"known": [{}]}):
        (tmp_path / "instances.json").write_text(json.dumps(index | change))
        with pytest.raises(ValueError, match="are damaged: copy the folder again"):
            Instances.load(tmp_path)
