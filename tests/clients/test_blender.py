"""A mesh in Blender, where its Python module is installed: `pip install bpy`. Upright, same hand, its colours, matt."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from splatdistill.export import mesh, obj
from splatdistill.io import formats
from splatdistill.io.frames import convert_frame
from splatdistill.io.kinds import FRAMES
from splatdistill.rendering.renderer import CpuRenderer
from splatdistill.utils.srgb import linear
from tests.clients.letter import letter
from tests.clients.photograph import FOVY, camera, ours, stands
from tests.patience import PATIENCE

pytest.importorskip("trimesh")
pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(find_spec("bpy") is None, reason="bpy, Blender's module, is not installed"),
]
Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
"""Blender's world: what was up, +y, is +z there, and the front looks along -y."""
VIEW = camera(azimuth=30, elevation=20)
SIZE = VIEW.width


def blender(path: Path, picture: Path) -> dict[str, Any]:
    """What Blender finds in a file, and draws of it. It runs by itself: it brings libraries of its own."""
    world = np.linalg.inv(VIEW.viewmats[0].double().numpy()) @ np.diag([1.0, -1, -1, 1])  # OpenGL's axes
    words = [path, picture, str(SIZE), str(math.radians(FOVY)), json.dumps((Z_UP @ world).tolist())]
    script = Path(__file__).with_name("blender.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, script, *words], capture_output=True, text=True, timeout=PATIENCE, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def shape() -> mesh.Mesh:
    return mesh.make(letter(), CpuRenderer(), triangles=5000, resolution=96)[0]


@pytest.mark.parametrize("kind", ["glb", "obj"])
def test_a_mesh_is_there_as_it_was_sent(tmp_path: Path, shape: mesh.Mesh, kind: str) -> None:
    (mesh.write if kind == "glb" else obj.write)(tmp_path / f"letter.{kind}", shape)
    found = blender(tmp_path / f"letter.{kind}", tmp_path / "seen.png")
    # Numbers of single precision, of at most 1 here, turned once; .obj has eight digits.
    np.testing.assert_allclose(found["vertices"], shape.vertices @ Z_UP[:3, :3].T, rtol=0, atol=1e-6)
    assert np.array_equal(found["faces"], shape.faces)
    assert "custom_normal" in found["attributes"]
    (material,) = found["materials"]
    assert (material["Metallic"], material["Roughness"], material["Specular IOR Level"]) == (0, 1, 0)
    (colours,) = found["colours"]
    # Blender gives linear ones for either file; the .glb's go through bytes as a screen shows them, as the .obj's.
    corners = shape.faces.ravel() if len(colours) > len(shape.vertices) else slice(None)
    sent, got = shape.colours[corners], np.array(colours)[:, :3]
    steps = np.abs(linear(np.rint(sent * 255) / 255) - got)
    assert steps.max() <= np.abs(linear((np.rint(sent * 255) + 1) / 255) - linear(np.rint(sent * 255) / 255)).max()
    if kind == "obj":
        assert material["from"] is None  # Blender's own: an .obj's colours are no part of its material
        return
    assert material["from"] == "VERTEX_COLOR"
    drawn = np.asarray(Image.open(tmp_path / "seen.png").convert("RGBA")).astype(float) / 255
    picture = drawn[..., :3] * drawn[..., 3:] + 1 - drawn[..., 3:]
    assert stands(picture, letter(), VIEW)[0] == "upright"
    solid = (drawn[..., 3] > 0.99) & (ours(letter(), VIEW).min(-1) < 0.9)
    away = picture[solid].mean(0) - ours(letter(), VIEW)[solid].mean(0)
    print(f"Blender {found['version']}: {255 * np.abs(away).max():.1f} of 255")
    assert np.abs(away).max() <= 12 / 255  # the bar of three.js: a claim about quality


def test_splats_are_points_that_lie_as_the_file_has_them(tmp_path: Path) -> None:
    formats.write(tmp_path / "letter.ply", letter())
    found = blender(tmp_path / "letter.ply", tmp_path / "seen.png")
    assert found["faces"] == []
    lies = convert_frame(letter(), source="+y", target=FRAMES["ply"])  # Blender takes the axes as they are
    np.testing.assert_array_equal(np.array(found["vertices"], np.float32), lies.means.numpy())
