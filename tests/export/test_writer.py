"""Videos, the transparent picture, scenes of several objects, and what the command line makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from splatdistill import cli
from splatdistill.config.schema import CameraConfig
from splatdistill.export import writer as exports
from splatdistill.io import formats
from splatdistill.rendering.renderer import CpuRenderer
from splatdistill.rendering.turntable import Turntable
from splatdistill.scene import cameras as orbits
from tests.io.scenes import AXES, axes, knot
from tests.rounding import GRAY, UNIT

TURNTABLE = Turntable(CameraConfig(), frames=4, size=48)


def test_the_picture_laid_on_any_ground_is_the_render_there(tmp_path: Path) -> None:
    splats = knot(300)
    exports.write(tmp_path / "a.png", splats, kind="png", turntable=TURNTABLE)
    pixels = np.asarray(Image.open(tmp_path / "a.png")).astype(float) / 255
    assert pixels.shape == (48, 48, 4) and pixels[0, 0, 3] == 0 and pixels[..., 3].max() > 0.9
    view = orbits.turntable(CameraConfig(), num_frames=1, size=48)
    for ground in ((1.0, 1.0, 1.0), (0.2, 0.9, 0.1)):
        drawn = CpuRenderer().render(splats, view, background=torch.tensor([ground])).rgb[0].detach().numpy().clip(0, 1)
        laid = pixels[..., :3] * pixels[..., 3:] + np.array(ground) * (1 - pixels[..., 3:])
        # Half a step of the colour, which alpha weighs, and half a step of alpha, of a difference of at most 1.
        assert np.abs(laid - drawn).max() <= 0.5 * GRAY * (1 + 1) + 8 * UNIT


def test_videos_turn_once(tmp_path: Path) -> None:
    exports.write(tmp_path / "a.gif", axes(), kind="gif", turntable=TURNTABLE)
    video = Image.open(tmp_path / "a.gif")
    assert (video.n_frames, video.size, video.info["loop"]) == (4, (48, 48), 0)
    frames = []
    for i in range(4):
        video.seek(i)
        frames.append(np.asarray(video.convert("RGB")).astype(float))
    red = [frame[..., 0] - frame[..., 1:].max(-1) > 100 for frame in frames]
    front, back = (np.argwhere(red[i])[:, 1].mean() - 24 for i in (0, 2))
    assert front > 5 and back < -5  # +x is on the right in front and on the left behind


def test_parts_are_scaled_then_turned_then_moved() -> None:
    scene = exports.compose(
        [axes(), axes()], translate=[(0, 0, 0), (3, 0, 0)], rotate=[(0, 0, 0), (0, 90, 0)], scale=[1, 2]
    )
    assert len(scene) == 8
    torch.testing.assert_close(scene.means[:4], axes().means)
    blue = 2 * AXES["blue"][2]
    torch.testing.assert_close(scene.means[6], torch.tensor([3 + blue, 0, 0]))  # +z turned about y is +x


def test_the_command_composes_and_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    formats.write(tmp_path / "a.ply", axes())
    formats.write(tmp_path / "b.spz", axes())
    both = [str(tmp_path / "a.ply"), str(tmp_path / "b.spz")]
    scene = tmp_path / "scene.glb"
    words = ["compose", *both, "--output", str(scene), "--translate", "0,0,0", "-1,0,0.5", "--scale", "1", "0.5"]
    assert cli.main(words) == cli.DONE
    assert capsys.readouterr().out == f"{scene}\n"
    means = formats.read(scene).means
    # Half a step of .spz, scaled by a half; float32 after that.
    assert means[4].tolist() == pytest.approx([-1 + 0.4, 0, 0.5], abs=0.5 * 0.5 / 4096 + 2 * UNIT)
    for kind in ("compressed.ply", "splat", "spz", "html", "gif", "png"):
        output = tmp_path / f"out.{kind}"
        words = ["export", str(scene), "--format", kind, "--output", str(output), "--frames", "2", "--size", "32"]
        assert cli.main(words) == cli.DONE
        assert output.stat().st_size > 0
    capsys.readouterr()
    for words, sentence in (
        (["compose", *both, "--output", str(scene)], "is there already"),
        (["compose", *both, "--output", str(tmp_path / "x.obj")], "must end with one of"),
        (
            ["compose", *both, "--output", str(tmp_path / "x.ply"), "--scale", "1"],
            "scale: there are 2 files, but 1 values",
        ),
        (
            ["compose", *both, "--output", str(tmp_path / "x.ply"), "--scale", "1", "0"],
            "scale: every factor must be above 0",
        ),
        (["compose", *both, "--output", str(tmp_path / "x.ply"), "--rotate", "0,0", "1,2,3"], "rotate must be X,Y,Z"),
        (["compose", *both, "--output", str(tmp_path / "x.ply"), "--rotate", "0,0,inf", "1,2,3"], "must be finite"),
        (["export", str(tmp_path / "none.spz"), "--format", "glb"], "There is no run folder or file of splats called"),
    ):
        assert cli.main(words) == cli.USAGE
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1
    assert not (tmp_path / "x.ply").exists()
