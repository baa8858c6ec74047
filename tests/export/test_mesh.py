"""The mesh of a painted ball of splats is that ball: closed, smooth, with its colours and a rough material."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import splat_surface

from splatdistill import cli
from splatdistill.export import fusion, mesh, texture
from splatdistill.export.mesh import MeshStyle
from splatdistill.io import formats
from splatdistill.rendering.renderer import CpuRenderer
from splatdistill.scene.gaussians import Splats
from splatdistill.utils.srgb import linear
from tests.clients.letter import letter
from tests.export.shapes import BLUE, CENTRE, FOOT, LEG, LEGS, RADIUS, RED, SEAT, painted_ball, stool
from tests.io.scenes import knot

RESOLUTION = 48
CELL = 2 * RADIUS / (RESOLUTION - 1 - 2 * fusion.BAND)

pytestmark = [pytest.mark.xdist_group("mesh")]
for package in (*mesh.PACKAGES, "xatlas"):
    pytest.importorskip(package)
trimesh = pytest.importorskip("trimesh")


@pytest.fixture(scope="module")
def made() -> tuple[mesh.Mesh, list[fusion.Sight]]:
    return mesh.make(painted_ball(), CpuRenderer(), triangles=3000, resolution=RESOLUTION)


def test_a_ball_becomes_a_closed_coloured_ball(made: tuple[mesh.Mesh, list[fusion.Sight]]) -> None:
    ball, _ = made
    away = ball.vertices - CENTRE
    distance = np.linalg.norm(away, axis=1)
    # Claims about quality: no vertex is further than a cell and a half from the ball, and normals lean by 10 degrees at
    # most in 99 of 100.
    assert np.abs(distance - RADIUS).max() < 1.5 * CELL
    lean = (ball.normals * away).sum(1) / distance
    assert np.quantile(lean, 0.01) > math.cos(math.radians(10))
    right, left = away[:, 0] > 2 * CELL, away[:, 0] < -2 * CELL
    # Two cells from the seam a fiftieth of the colours' range is all that comes from beyond it.
    assert ball.colours[right].mean(0) == pytest.approx(RED, abs=0.02)
    assert ball.colours[left].mean(0) == pytest.approx(BLUE, abs=0.02)  # alike
    shape = trimesh.Trimesh(ball.vertices, ball.faces, process=False)
    assert shape.is_watertight and shape.is_winding_consistent
    assert len(ball.faces) <= 3000
    # Another claim: on average the surface lies within half a cell of the true one.
    assert shape.volume == pytest.approx(4 / 3 * math.pi * RADIUS**3, rel=3 * 0.5 * CELL / RADIUS)


def test_a_slanted_surface_is_not_drawn_nearer(made: tuple[mesh.Mesh, list[fusion.Sight]]) -> None:
    """As it is where a splat counts as a screen that faces the camera: its nearest splats come first."""
    ball, sights = made
    seen = np.concatenate([sight.points().numpy() for sight in sights])
    for points in (ball.vertices, seen):
        # A disc's flat edge stands off the ball by s^2 / 2R, s being two standard deviations, and its edge in the
        # picture is half a pixel wider. Screens give 0.0073.
        bulge = np.median(np.linalg.norm(points - CENTRE, axis=1)) - RADIUS
        assert abs(bulge) < 0.04**2 / (2 * RADIUS) + 0.5 * sights[0].radius * 2 / fusion.SIZE


def test_thin_legs_are_kept() -> None:
    made, _ = mesh.make(stool(), CpuRenderer(), triangles=20_000, resolution=96)
    shape = trimesh.Trimesh(made.vertices, made.faces, process=False)
    assert shape.is_watertight and shape.body_count == 1
    for height in np.linspace(FOOT + 0.05, SEAT - 0.05, 7):
        outlines = shape.section([0, 1, 0], [0, height, 0]).discrete
        middles = np.array([outline.mean(0)[[0, 2]] for outline in outlines])
        order = np.lexsort(np.sign(middles.T[::-1]))
        # Claims about quality: a leg stands where it should to a quarter of its radius, and is as wide to a half.
        np.testing.assert_allclose(middles[order], LEGS, rtol=0, atol=0.25 * LEG)
        for outline in outlines:
            assert 0.5 * LEG < np.linalg.norm(outline - outline.mean(0), axis=1).mean() < 1.5 * LEG


def test_the_file_has_normals_linear_colours_and_a_rough_material(
    tmp_path: Path, made: tuple[mesh.Mesh, list[fusion.Sight]]
) -> None:
    ball, _ = made
    mesh.write(tmp_path / "ball.glb", ball)
    gltf = pytest.importorskip("trimesh.exchange.gltf")
    with (tmp_path / "ball.glb").open("rb") as file:
        kept = gltf.load_glb(file)
    (geometry,) = kept["geometry"].values()
    document, blob = _parts(tmp_path / "ball.glb")
    (primitive,) = document["meshes"][0]["primitives"]
    assert set(primitive["attributes"]) == {"POSITION", "NORMAL", "COLOR_0"}
    material = document["materials"][primitive["material"]]
    assert material["pbrMetallicRoughness"] == {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    assert material["extensions"] == {"KHR_materials_specular": {"specularFactor": 0.0}}
    np.testing.assert_array_equal(geometry["faces"], ball.faces)
    accessor = document["accessors"][primitive["attributes"]["COLOR_0"]]
    assert (accessor["componentType"], accessor["type"]) == (5126, "VEC3")  # float32
    start = document["bufferViews"][accessor["bufferView"]]["byteOffset"]
    written = np.frombuffer(blob, "<f4", 3 * accessor["count"], start).reshape(-1, 3)
    np.testing.assert_array_equal(written, linear(ball.colours).astype("f4"))


def _parts(path: Path) -> tuple[dict, bytes]:
    import json
    import struct

    data = path.read_bytes()
    size = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def test_the_picture_on_the_mesh_has_its_colours(tmp_path: Path, made: tuple[mesh.Mesh, list[fusion.Sight]]) -> None:
    ball, sights = made
    texture.write(tmp_path / "ball.glb", ball, sights, size=256)
    back = trimesh.load(tmp_path / "ball.glb", force="mesh")
    assert len(back.faces) == len(ball.faces)
    material = back.visual.material
    assert (material.metallicFactor, material.roughnessFactor) == (0, 1)
    size = np.array(material.baseColorTexture.size)
    middles = back.visual.uv[back.faces].mean(1)
    texels = np.asarray(material.baseColorTexture.convert("RGB"))
    x, y = ((middles * [1, -1] + [0, 1]) * size).astype(int).clip(0, size - 1).T
    away = back.triangles_center - CENTRE
    for side, colour in ((away[:, 0] > 4 * CELL, RED), (away[:, 0] < -4 * CELL, BLUE)):
        # A claim about quality, as for the vertices; texels are as large as two cells here.
        assert texels[y, x][side].mean(0) / 255 == pytest.approx(colour, abs=0.02)


def test_colours_are_linear_light() -> None:
    # IEC 61966-2-1 has both ends and the joint of its two pieces; a half is 0.2140 in every table.
    assert linear(np.array([-1.0, 0.0, 0.5, 1.0, 2.0])) == pytest.approx([0, 0, 0.21404, 1, 1], abs=1e-5)
    below, above = linear(np.array([0.04045, np.nextafter(0.04045, 1)]))
    assert above - below == pytest.approx(0, abs=1e-7)  # the pieces of the standard meet to seven digits


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--texture", "256"]])
def test_the_command_writes_a_mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    formats.write(tmp_path / "ball.spz", painted_ball())
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", "ball.spz", "--format", "mesh", "--triangles", "5000", *words]) == cli.DONE
    made = trimesh.load(tmp_path / "ball.mesh.glb", force="mesh")
    assert len(made.faces) <= 5000
    # A claim about quality: a thirtieth of the radius, at the command's own resolution.
    assert made.volume == pytest.approx(4 / 3 * math.pi * RADIUS**3, rel=3 / 30)


@pytest.mark.slow
@pytest.mark.parametrize("make", [letter, lambda: knot(6000), painted_ball, stool], ids=["F", "knot", "ball", "stool"])
def test_it_lies_within_a_hundredth_of_the_radius(make: Callable[[], Splats]) -> None:
    splats, most = make(), MeshStyle().triangles
    made, _ = mesh.make(splats, CpuRenderer(), triangles=most)
    shape = trimesh.Trimesh(made.vertices, made.faces, process=False)
    assert shape.is_watertight and shape.is_winding_consistent
    assert 0.9 * most < len(shape.faces) <= most
    # A claim about quality, of the surface that none of the mesher's views shows. The knot is at 0.0099.
    assert splat_surface.away(splat_surface.see(splats), shape)["chamfer"] <= 0.01


@pytest.mark.parametrize("most", [100, 2000])
def test_few_triangles_are_closed_too(made: tuple[mesh.Mesh, list[fusion.Sight]], most: int) -> None:
    ball, _ = made
    shape = mesh.simplified(ball.vertices, ball.faces, most)
    assert shape.is_watertight and shape.is_winding_consistent and shape.body_count == 1
    assert 0.8 * most < len(shape.faces) <= most
    # N triangles on a ball have edges of R sqrt(16 pi / (N sqrt 3)) and leave out about edge^2 / 8 below its surface.
    missing = 16 * math.pi / (math.sqrt(3) * len(shape.faces)) / 8
    assert shape.volume == pytest.approx(trimesh.Trimesh(ball.vertices, ball.faces).volume, rel=3 * 2 * missing)


def test_a_mesh_that_cannot_have_so_few_triangles_is_refused() -> None:
    ball = trimesh.creation.icosphere(3)
    with pytest.raises(ValueError, match=r"triangles: no closed mesh of 3 was found; ask for \d+\."):
        mesh.simplified(ball.vertices, ball.faces, 3)


def test_fog_has_no_mesh() -> None:
    fog = painted_ball(50)
    fog.tensors["opacities"] -= 10
    with pytest.raises(ValueError, match="no solid surface"):
        mesh.make(fog, CpuRenderer(), triangles=100)


@pytest.mark.parametrize(("style", "sentence"), [((99, 0), "triangles must be"), ((100, 63), "texture must be")])
def test_a_style_that_cannot_be_is_refused(style: tuple[int, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        MeshStyle(*style)
