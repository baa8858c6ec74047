"""Splats from a coloured point cloud: turned, centred, scaled, coloured; and files that hold none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from splatdistill.config.schema import SplatsConfig
from splatdistill.io import ply
from splatdistill.ops.geometry import SH_C0
from splatdistill.scene.gaussians import init_points
from splatdistill.training.beginning import initial_splats
from tests.rounding import UNIT, assert_within


def cloud(path: Path, points: Any, colors: Any, *, kind: str = "u1", drop: str = "", text: bool = False) -> Path:
    """Written as Point-E writes it: x y z as floats, red green blue as bytes."""
    fields = [(name, "<f4") for name in "xyz"] + [(name, kind) for name in ("red", "green", "blue")]
    fields = [field for field in fields if field[0] != drop]
    rows = np.empty(len(points), fields)
    for i, (name, _) in enumerate(field for field in fields if field[0] in "xyz"):
        rows[name] = np.asarray(points)[:, i]
    for i, name in enumerate(("red", "green", "blue")):
        if name != drop:
            rows[name] = np.asarray(colors)[:, i]
    PlyData([PlyElement.describe(rows, "vertex")], text=text, byte_order="<").write(str(path))
    return path


def test_the_cloud_is_turned_centred_scaled_and_coloured(tmp_path: Path) -> None:
    # A pole along +z, in units of its own and away from the middle; its tip is red.
    points = np.stack([np.full(101, 7.0), np.full(101, -3.0), np.linspace(100, 300, 101)], 1)
    colors = np.zeros((101, 3))
    colors[-1] = (255, 0, 0)
    path = cloud(tmp_path / "pole.ply", points, colors)
    splats = initial_splats(f"points:{path}", SplatsConfig(radius=0.6), seed=0)
    assert len(splats) == 101 and splats.sh_degree == 0
    few = 4 * UNIT  # operations that round, each by at most a UNIT of numbers up to 1
    assert_within(splats.means.aminmax(dim=0).min, torch.tensor([0.0, -0.6, 0.0]), few)
    assert_within(splats.means.aminmax(dim=0).max, torch.tensor([0.0, 0.6, 0.0]), few)
    rgb = 0.5 + SH_C0 * splats.sh0[:, 0]
    assert_within(rgb[splats.means[:, 1].argmax()], torch.tensor([1.0, 0.0, 0.0]), few)
    assert_within(rgb[splats.means[:, 1].argmin()], torch.zeros(3), few)
    spacing = splats.scales.exp() / 0.6  # neighbours lie 0.012 apart; the third is twice as far
    middle = splats.means[:, 1].abs() < 0.5
    # Distances come from |a|^2 + |b|^2 - 2ab, four sums of numbers up to 0.36, where a squared one is 0.0072^2.
    assert_within(spacing[middle], torch.full((1,), 0.016), 0.016 * 0.5 * 4 * 2 * 0.36 * UNIT / 0.0072**2)


def test_front_of_a_z_up_cloud_faces_plus_z() -> None:
    """As everywhere here: z-up worlds have their front on +x, ours on +z."""
    points = torch.cat([torch.eye(3), -torch.eye(3)])
    splats = init_points(SplatsConfig(radius=1.0), points=points, colors=torch.eye(3).repeat(2, 1), seed=0)
    rgb = 0.5 + SH_C0 * splats.sh0[:, 0]
    for axis, ours in ((0, (0, 0, 1)), (1, (1, 0, 0)), (2, (0, 1, 0))):
        found = {tuple(p.round().int().tolist()) for p in splats.means[rgb[:, axis] > 0.9]}
        assert found == {ours, tuple(-x for x in ours)}


def test_more_points_than_asked_for_are_thinned_by_the_seed() -> None:
    g = torch.Generator().manual_seed(0)
    points, colors = torch.randn(500, 3, generator=g), torch.rand(500, 3, generator=g)
    config = SplatsConfig(num_init=80)
    a, b, c = (init_points(config, points=points, colors=colors, seed=seed) for seed in (0, 0, 1))
    assert len(a) == 80 and torch.equal(a.means, b.means) and not torch.equal(a.means, c.means)
    assert a.means.norm(dim=-1).amax() == pytest.approx(config.radius)


def test_colours_may_be_fractions(tmp_path: Path) -> None:
    path = cloud(tmp_path / "f.ply", np.random.default_rng(0).normal(size=(9, 3)), np.full((9, 3), 0.25), kind="<f4")
    assert torch.equal(ply.read_points(path)[1], torch.full((9, 3), 0.25))


def test_files_that_are_no_clouds(tmp_path: Path) -> None:
    points, colors = np.random.default_rng(0).normal(size=(9, 3)), np.zeros((9, 3))
    with pytest.raises(ply.PlyError, match="has no property blue: it is not a coloured point cloud"):
        ply.read_points(cloud(tmp_path / "a.ply", points, colors, drop="blue"))
    text = cloud(tmp_path / "b.ply", points, colors, text=True)
    np.testing.assert_allclose(ply.read_points(text)[0], points, rtol=UNIT)  # a float32 as text is itself
    with pytest.raises(ply.PlyError, match="is not a file"):
        ply.read_points(tmp_path / "none.ply")
    whole = cloud(tmp_path / "c.ply", points, colors).read_bytes()
    (tmp_path / "c.ply").write_bytes(whole[:-5])
    with pytest.raises(ply.PlyError, match="it is cut or damaged"):
        ply.read_points(tmp_path / "c.ply")
    same = cloud(tmp_path / "d.ply", np.zeros((9, 3)), colors)
    with pytest.raises(ValueError, match="a cloud needs 4 points or more that lie apart; this one has 9"):
        initial_splats(f"points:{same}", SplatsConfig(), seed=0)
    with pytest.raises(ply.PlyError, match=r"is a cloud of points, not splats; train --init points:"):
        ply.read(same)
