"""The mesh of a painted ball of splats is that ball."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from splatdistill import cli
from splatdistill.export import mesh
from splatdistill.io import formats
from splatdistill.ops.geometry import SH_C0
from splatdistill.rendering.renderer import CpuRenderer
from splatdistill.scene.gaussians import Splats

CENTRE, RADIUS = np.array([0.1, -0.1, 0.2]), 0.5


def painted_ball(count: int = 4000) -> Splats:
    """Opaque discs on a sphere, red towards +x and blue towards -x."""
    k = torch.arange(count) + 0.5
    z, turn = 1 - 2 * k / count, k * math.pi * (3 - 5**0.5)
    normal = torch.stack([torch.cos(turn) * (1 - z * z).sqrt(), torch.sin(turn) * (1 - z * z).sqrt(), z], -1)
    colours = torch.where(normal[:, :1] > 0, torch.tensor([[0.9, 0.1, 0.1]]), torch.tensor([[0.1, 0.1, 0.9]]))
    half = torch.nn.functional.normalize(normal + torch.tensor([0.0, 0, 1 + 1e-6]), dim=-1)
    return Splats(
        means=torch.tensor(CENTRE).float() + RADIUS * normal,
        quats=torch.cat([torch.zeros(count, 1), half], 1),  # half a turn about the bisector takes +z to the normal
        scales=torch.log(torch.tensor([0.02, 0.02, 0.002])).repeat(count, 1),
        opacities=torch.full((count,), 5.0),
        sh0=((colours - 0.5) / SH_C0)[:, None],
        shN=torch.zeros(count, 0, 3),
    )


def test_a_ball_becomes_a_closed_coloured_ball(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("skimage")
    made = mesh.fuse(painted_ball(), CpuRenderer(), resolution=64)
    away = made.vertices - CENTRE
    cell = 2.1 / 63
    assert np.abs(np.linalg.norm(away, axis=1) - RADIUS).max() < 1.5 * cell
    right, left = away[:, 0] > 2 * cell, away[:, 0] < -2 * cell
    # A claim about quality: two cells from the seam a tenth of the colours' range is all that comes from beyond it.
    assert made.colours[right].mean(0) == pytest.approx([0.9, 0.1, 0.1], abs=0.1)
    assert made.colours[left].mean(0) == pytest.approx([0.1, 0.1, 0.9], abs=0.1)  # alike
    mesh.write(tmp_path / "ball.glb", made)
    back = trimesh.load(tmp_path / "ball.glb", force="mesh")
    # Another claim: on average the surface lies within three quarters of a cell of the true one.
    assert back.is_watertight
    assert back.volume == pytest.approx(4 / 3 * math.pi * RADIUS**3, rel=3 * 0.75 * cell / RADIUS)
    assert len(back.visual.vertex_colors) == len(back.vertices)


@pytest.mark.slow
def test_the_command_writes_a_mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trimesh = pytest.importorskip("trimesh")
    formats.write(tmp_path / "ball.spz", painted_ball())
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", "ball.spz", "--format", "mesh"]) == cli.DONE
    made = trimesh.load(tmp_path / "ball.mesh.glb", force="mesh")
    # A claim about quality: a thirtieth of the radius, at the command's own resolution.
    assert made.volume == pytest.approx(4 / 3 * math.pi * RADIUS**3, rel=3 / 30)


def test_fog_has_no_mesh() -> None:
    pytest.importorskip("skimage")
    fog = painted_ball(50)
    fog.tensors["opacities"] -= 10
    with pytest.raises(ValueError, match="no solid surface"):
        mesh.fuse(fog, CpuRenderer(), resolution=24)
