"""Where a run begins: any format of an asymmetric scene, any axis up, far away, and meshes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from splatdistill import cli
from splatdistill.config.schema import CameraConfig, SplatsConfig
from splatdistill.io import formats, kinds, ply
from splatdistill.io.frames import TO_OURS, convert_frame, transform
from splatdistill.io.kinds import Assumptions, Up
from splatdistill.io.runs import SPLATS
from splatdistill.scene.gaussians import FIELDS, Splats
from splatdistill.training.beginning import initial_splats, opened
from tests.cli.smoke import TINY, said
from tests.io.scenes import AXES, asymmetric, axes
from tests.rounding import GRAY, UNIT

WRITTEN_AND_READ = sorted({*kinds.FRAMES} & {*kinds.READ})


def mute(splats: Splats, up: Up, path: Path) -> Path:
    """A .ply with that axis up which does not say so."""
    ply.write(path, convert_frame(splats, source="+y", target=up))
    path.write_bytes(path.read_bytes().replace(f"comment {ply.COMMENT}\n".encode(), b""))
    return path


@pytest.mark.parametrize("kind", WRITTEN_AND_READ)
def test_a_run_begins_with_what_the_door_reads(tmp_path: Path, kind: str) -> None:
    formats.write(tmp_path / f"a.{kind}", asymmetric(40, degree=2))
    wanted = formats.read(tmp_path / f"a.{kind}")
    for init in (f"{tmp_path}/a.{kind}", f"{kind}:{tmp_path}/a.{kind}"):
        found = initial_splats(init, SplatsConfig(num_init=7), seed=0)
        assert found.sh_degree == (0 if kind == "splat" else 2) and len(found) == 40  # its degree and its budget
        assert all(torch.equal(found.tensors[name], wanted.tensors[name]) for name in FIELDS)
    assert initial_splats(init, SplatsConfig(sh_degree=1), seed=0).sh_degree == 1


@pytest.mark.parametrize("up", ["+y", "-y", "+z", "-z"])
def test_a_training_keeps_it_upright_whichever_axis_is_up(tmp_path: Path, up: Up) -> None:
    path = mute(axes(), up, tmp_path / "a.ply")
    flags = ["--init", str(path), f"--up={up}", "--name", "run", "--out", str(tmp_path)]
    assert cli.main(["train", *TINY, "--prompt", "x", *flags]) == cli.DONE
    after = formats.read(tmp_path / "run" / SPLATS)
    for place, channel in zip(AXES.values(), range(3), strict=True):
        nearest = (after.means - torch.tensor(place)).norm(dim=-1).argmin()
        assert after.sh0[nearest, 0].argmax() == channel  # a few small steps do not move a ball to another's place


def test_turns_take_the_axis_that_is_up_to_plus_y(tmp_path: Path) -> None:
    for up, direction in {"+y": (0, 1, 0), "-y": (0, -1, 0), "+z": (0, 0, 1), "-z": (0, 0, -1)}.items():
        top = Splats(**{**axes().tensors, "means": torch.tensor([direction] * 4).float()})
        turned = transform(top, rotation=TO_OURS[up])  # type: ignore[index]
        torch.testing.assert_close(turned.means, torch.tensor([[0.0, 1, 0]] * 4), rtol=0, atol=4 * UNIT)


def test_a_capture_far_away_is_refused_with_the_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ball = asymmetric(200)
    directions = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    ball.tensors["means"] = torch.nn.functional.normalize(directions, dim=-1) * 6 + torch.tensor([16.0, 3, -12])
    path = mute(ball, "-y", tmp_path / "capture.ply")
    arguments = ["train", *TINY, "--prompt", "x", "--init", str(path), "--out", str(tmp_path / "runs"), "--name", "a"]
    assert cli.main(arguments) == cli.USAGE
    sentence = said(capsys)
    assert "the cameras look at a ball of radius 1 about the origin, but 200 of 200 splats lie outside" in sentence
    assert "--fit moves and scales them." in sentence and not (tmp_path / "runs").exists()
    assert cli.main([*arguments, "--fit"]) == cli.DONE
    assert "moved and made" in capsys.readouterr().err
    after = formats.read(tmp_path / "runs" / "a" / SPLATS)
    assert (after.means.norm(dim=-1) < 1.5).float().mean() > 0.9
    fitted = opened(str(path), taken=Assumptions(fit=True), camera=CameraConfig()).splats
    shown = fitted.means[fitted.opacities > -2.2]  # those of opacity under 0.1 count for nothing
    assert float(shown.norm(dim=-1).sort().values[int(0.99 * (len(shown) - 1))]) <= 1 + 16 * UNIT
    # The largest direction of a splat grows as the whole does.
    factor = (fitted.scales - formats.read(path).scales).exp()
    torch.testing.assert_close(factor, factor[:1, :1].expand_as(factor), rtol=64 * UNIT, atol=0)


def test_a_scene_is_looked_at_from_within(tmp_path: Path) -> None:
    room = asymmetric(50)
    room.tensors["means"] = room.means + 5
    path = mute(room, "+y", tmp_path / "room.ply")
    config = replace(CameraConfig(), kind="outward")
    assert len(initial_splats(str(path), SplatsConfig(), seed=0, camera=config)) == 50


def test_a_run_folder_and_a_wrong_word(tmp_path: Path) -> None:
    ply.write(tmp_path / SPLATS, asymmetric(5))
    assert len(initial_splats(str(tmp_path), SplatsConfig(), seed=0)) == 5
    with pytest.raises(ValueError, match="init: 'bal' is neither 'ball' nor 'shell' nor a FILE that is there"):
        initial_splats("bal", SplatsConfig(), seed=0)


@pytest.mark.parametrize("kind", ["ply", "glb", "obj", "stl"])
def test_a_coloured_mesh_gives_points_on_its_surface(tmp_path: Path, kind: str) -> None:
    trimesh = pytest.importorskip("trimesh")
    box = trimesh.creation.box(extents=(1, 2, 4))
    up = 2 if kind in ("ply", "stl") else 1  # the axis that points up in such files
    top = box.vertices[:, up] > 0
    box.visual.vertex_colors = np.where(top[:, None], [255, 0, 0, 255], [0, 0, 255, 255]).astype(np.uint8)
    box.export(tmp_path / f"box.{kind}")
    splats = initial_splats(f"points:{tmp_path}/box.{kind}", SplatsConfig(num_init=3000, radius=0.6), seed=0)
    extent = splats.means.amax(0) - splats.means.amin(0)
    order = (extent / extent.min()).tolist()
    assert len(splats) == 3000 and order[1] == pytest.approx([1, 2, 4][up], rel=0.05)  # 3000 points reach nearly all
    assert float(splats.means.norm(dim=-1).amax()) == pytest.approx(0.6)
    if kind == "stl":  # it keeps no colours
        return
    rgb = 0.5 + 0.28209479 * splats.sh0[:, 0]
    high, low = splats.means[:, 1].argmax(), splats.means[:, 1].argmin()
    assert rgb[high, 0] > 0.9 > rgb[high, 2] and rgb[low, 2] > 0.9 > rgb[low, 0]
    middle = splats.means[:, 1].abs() < 0.05 * extent[1]
    # Corners are mixed as the file has them: halfway in sRGB, or in glTF in linear light, which is sRGB 0.735.
    assert float(rgb[middle].mean(0)[0]) == pytest.approx(0.735 if kind == "glb" else 0.5, abs=8 * GRAY)


def test_a_mesh_that_is_none_is_told(tmp_path: Path) -> None:
    pytest.importorskip("trimesh")
    for name, data in {"a.obj": b"v 0 0 0\n", "b.glb": b"glTF" + bytes(40), "c.stl": b"solid x\nendsolid x\n"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(kinds.FormatError, match=rf"{name} (cannot be read as a mesh|has no triangles)"):
            initial_splats(f"points:{tmp_path / name}", SplatsConfig(), seed=0)
