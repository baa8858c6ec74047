"""Pictures of what given cameras see: where a point falls is worked out from transforms.json by its own rules."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from splatdistill import cli
from splatdistill.io import camera_files, ply
from splatdistill.io.frames import convert_frame
from splatdistill.scene import cameras as orbits
from tests.cli.smoke import said
from tests.io.scenes import axes
from tests.rounding import UNIT, assert_within

SIZE = ["--frames", "3", "--size", "96"]


def falls(
    document: dict[str, Any], frame: dict[str, Any], point: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Pixel and distance along the view, as Instant-NGP has it: the camera looks along -z, y up, v grows downwards."""
    place = np.array(frame["transform_matrix"])
    x, y, z = place[:3, :3].T @ (np.array(point) - place[:3, 3])
    known = {**document, **frame}
    return known["cx"] + known["fl_x"] * x / -z, known["cy"] - known["fl_y"] * y / -z, -z


def reddest(picture: np.ndarray, channel: int) -> tuple[float, float]:
    """The middle, x and y, of what has most of one colour against the others."""
    others = [c for c in range(3) if c != channel]
    weight = (picture[..., channel].astype(float) - picture[..., others].max(-1)).clip(min=0)
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    return float((weight * columns).sum() / weight.sum()), float((weight * rows).sum() / weight.sum())


@pytest.mark.parametrize("up", ["+y", "-y"])
def test_balls_fall_where_the_file_of_cameras_says(tmp_path: Path, up: str) -> None:
    """In the world of the file of splats, whichever axis is up in it; written cameras are read and draw the same."""
    world = convert_frame(axes(), source="+y", target=up)  # type: ignore[arg-type]
    ply.write(tmp_path / "a.ply", world, up=up)
    base = ["render", str(tmp_path / "a.ply")]
    assert cli.main([*base, *SIZE, "--pictures", "--output", str(tmp_path / "one")]) == cli.DONE
    cameras = tmp_path / "one" / "transforms.json"
    assert cli.main([*base, "--camera", str(cameras), "--output", str(tmp_path / "two")]) == cli.DONE
    depth = ["--what", "depth", "--camera", str(cameras), "--output", str(tmp_path / "three")]
    assert cli.main([*base, *depth]) == cli.DONE
    document = json.loads(cameras.read_text())
    assert len(document["frames"]) == 3
    for i, frame in enumerate(document["frames"]):
        first, again = (np.asarray(Image.open(tmp_path / name / f"rgb_{i:04d}.png")) for name in ("one", "two"))
        assert np.abs(first.astype(int) - again).max() <= 1 and frame["file_path"] == f"rgb_{i:04d}.png"
        seen = np.load(tmp_path / "three" / f"depth_{i:04d}.npy")
        for channel, ball in enumerate(world.means[:3].tolist()):
            x, y, far = falls(document, frame, ball)
            hidden = any(
                math.dist((x, y), falls(document, frame, b)[:2]) < 14 for b in world.means.tolist() if b != ball
            )
            if hidden:  # another ball lies before or behind it
                continue
            found = reddest(first, channel)
            assert math.dist(found, (x, y)) < 0.5  # a ball is round, and bent by the view by less than half a pixel
            assert abs(seen[int(y), int(x)] - far) < 0.01  # of its splat's middle, but for what lies about it


def test_normals_and_coverage(tmp_path: Path) -> None:
    flat = axes()
    flat.tensors["scales"][:, 2] = math.log(0.001)  # discs that face +z
    ply.write(tmp_path / "a.ply", flat)
    for what in ("normal", "alpha"):
        flags = ["--what", what, "--frames", "1", "--size", "96", "--output", str(tmp_path)]
        assert cli.main(["render", str(tmp_path / "a.ply"), *flags]) == cli.DONE
    alpha = np.asarray(Image.open(tmp_path / "alpha_0000.png"))
    normal = np.asarray(Image.open(tmp_path / "normal_0000.png"))
    assert alpha.shape == (96, 96) and alpha.max() > 240 and alpha.min() == 0
    assert (normal[alpha == 0] == 128).all() and (np.abs(normal[alpha > 200].astype(int) - [128, 128, 255]) <= 1).all()


def test_cameras_survive_their_file(tmp_path: Path) -> None:
    before = orbits.orbit(
        azimuth=torch.tensor([0.3, -2.0]), elevation=torch.tensor([0.2, -0.7]), radius=torch.tensor([2.0, 5.0]),
        fovy=torch.tensor([0.6, 1.1]), size=64,
    )  # fmt: skip
    camera_files.write(tmp_path / "a.json", before, files=["0.png", "1.png"])
    after = camera_files.read(tmp_path / "a.json").cameras
    for name in ("viewmats", "Ks", "azimuth", "elevation", "radius"):
        # Some ten operations in double from float32 numbers up to 60.
        assert_within(getattr(after, name), getattr(before, name), 64 * 16 * UNIT)
    assert (after.width, after.height) == (64, 64)


def test_a_scene_of_nerf_is_read(tmp_path: Path) -> None:
    """One angle of view, the size beside it, 3 x 4 matrices, and lens distortion, which is reported."""
    frames = [{"file_path": "./train/r_0", "transform_matrix": np.eye(4)[:3].tolist()}]
    document = {"camera_angle_x": 0.7, "w": 80, "h": 60, "k1": 0.1, "frames": frames}
    (tmp_path / "a.json").write_text(json.dumps(document))
    found = camera_files.read(tmp_path / "a.json")
    assert found.notes == ("its lens distortion is not drawn",)
    assert float(found.cameras.Ks[0, 0, 0]) == pytest.approx(40 / math.tan(0.35))
    assert found.cameras.Ks[0, :2, 2].tolist() == [40, 30] and float(found.cameras.radius) == 0


def scene(place: Any = None, **more: Any) -> dict[str, Any]:
    """A sound file of one camera, but for what is given."""
    frame = {"transform_matrix": np.eye(4).tolist() if place is None else place.tolist()}
    return {key: value for key, value in ({"w": 8, "h": 8, "fl_x": 9, "frames": [frame]} | more).items() if value}


BAD: dict[str, tuple[Any, str]] = {
    "no list": ([], "is no transforms.json"),
    "no frames": ({"frames": []}, "it has 0 frames"),
    "no size": (scene(w=None), "it has no 'w'"),
    "no angle": (scene(fl_x=None), "it has no 'camera_angle_x'"),
    "no place": (scene(np.zeros((4, 4))), "no place of a camera"),
    "mirrored": (scene(np.diag([1, 1, -1, 1])), "no place of a camera"),
    "huge": (scene(w=1e9), "w must be a whole number"),
    "not finite": (scene(fl_x=math.nan), "not finite"),
    "two sizes": (scene(w=None, frames=[scene()["frames"][0] | {"w": w} for w in (8, 9)]), "differ in size"),
}


@pytest.mark.parametrize("case", BAD)
def test_other_files_are_no_cameras(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    ply.write(tmp_path / "a.ply", axes())
    document, sentence = BAD[case]
    (tmp_path / "c.json").write_text(json.dumps(document))
    flags = ["--camera", str(tmp_path / "c.json"), "--output", str(tmp_path / "out")]
    assert cli.main(["render", str(tmp_path / "a.ply"), *flags]) == cli.USAGE
    found = said(capsys)
    assert f"camera: {tmp_path / 'c.json'} is no transforms.json" in found and sentence in found
    assert not (tmp_path / "out").exists()


def test_flags_that_do_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ply.write(tmp_path / "a.ply", axes())
    for flags, sentence in (
        (["--camera", "none.json"], "camera: none.json is not a file."),
        (["--camera", "none.json", "--fit"], "leave out --fit"),
        (["--what", "depth", "--light", "0,0"], "light: only the turntable is lit"),
    ):
        assert cli.main(["render", str(tmp_path / "a.ply"), *flags]) == cli.USAGE and sentence in said(capsys)
