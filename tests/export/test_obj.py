"""The .obj of a mesh, read by a plain reader and by trimesh: corners, normals, colours and the material beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from splatdistill.export import obj
from splatdistill.export.mesh import Mesh
from tests.rounding import GRAY

trimesh = pytest.importorskip("trimesh")


def test_a_mesh_is_found_again(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(subdivisions=2)
    colours = (0.5 + 0.5 * ball.vertices).clip(0, 1)
    made = {"normals": ball.vertex_normals} if "normals" in Mesh.__dataclass_fields__ else {}
    mesh = Mesh(vertices=ball.vertices.astype("f4"), faces=ball.faces, colours=colours, **made)
    obj.write(tmp_path / "ball.obj", mesh)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ball.mtl", "ball.obj"]
    lines = [line.split() for line in (tmp_path / "ball.obj").read_text().splitlines()]
    assert lines[0] == ["mtllib", "ball.mtl"] and ["usemtl", "matt"] in lines
    assert "newmtl matt" in (tmp_path / "ball.mtl").read_text()
    corners = np.array([line[1:] for line in lines if line[0] == "v"], float)
    normals = np.array([line[1:] for line in lines if line[0] == "vn"], float)
    faces = np.array([[part.split("//") for part in line[1:]] for line in lines if line[0] == "f"], int) - 1
    np.testing.assert_allclose(corners[:, :3], ball.vertices, rtol=0, atol=1e-7)  # eight digits are written
    np.testing.assert_allclose(corners[:, 3:], colours, rtol=0, atol=0.51 * GRAY)  # half a step of a byte
    assert np.array_equal(faces[..., 0], ball.faces)
    turn = (normals[faces[..., 1]] * ball.vertices[ball.faces]).sum(-1)
    assert turn.min() > 0.99  # of a ball a normal points where its corner lies: outside, as the faces turn
    again = trimesh.load(tmp_path / "ball.obj", process=False)
    assert again.is_watertight and again.volume == pytest.approx(ball.volume, rel=1e-6)  # of eight digits
