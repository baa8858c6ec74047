"""Splats in a user's hands: every format there and back, renders as arrays, and a notebook that may not be there."""

from __future__ import annotations

import base64
import html
import re
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import splatdistill
from splatdistill.api import notebook
from splatdistill.config.schema import SplatsConfig
from splatdistill.io import kinds
from splatdistill.scene.gaussians import FIELDS, init_ball


@pytest.fixture
def splats() -> splatdistill.Splats:
    """A solid ball, of degree 1."""
    ball = init_ball(SplatsConfig(num_init=600, radius=0.6, opacity=0.95, sh_degree=1), seed=0)
    return splatdistill.Splats.of(ball)


@pytest.mark.parametrize("kind", [*kinds.FRAMES, "mp4", "gif", "png", "html", "obj", "mesh.glb"])
def test_is_saved_by_the_name_of_the_file(splats: splatdistill.Splats, kind: str, tmp_path: Path) -> None:
    more = {"kind": "mesh"} if kind == "mesh.glb" else {}
    written = splats.save(tmp_path / f"thing.{kind}", frames=2, size=32, triangles=200, **more)
    assert written.stat().st_size > 200
    if kind in kinds.READ:
        again = splatdistill.Splats.load(written)
        assert len(again) == len(splats) and isinstance(again, splatdistill.Splats)
        assert [p.name for p in tmp_path.iterdir()] == [written.name]


def test_a_ply_keeps_every_bit(splats: splatdistill.Splats, tmp_path: Path) -> None:
    again = splatdistill.Splats.load(splats.save(tmp_path / "x.ply"))
    assert torch.equal(again.means, splats.means) and torch.equal(again.sh0, splats.sh0)


def test_what_a_file_leaves_open_is_a_warning(splats: splatdistill.Splats, tmp_path: Path) -> None:
    written = splats.save(tmp_path / "x.splat")
    with pytest.warns(UserWarning, match=r"x\.splat: \.splat with .* up \(assumed"):
        splatdistill.Splats.load(written)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("x.doc", {}, r"save: 'x\.doc' is no kind of file; take one of ply,"),
        ("x.ply", {"kind": "doc"}, "save: 'doc' is no kind of file"),
        ("none/x.ply", {}, "save: there is no folder"),
        ("x.obj", {"texture": 64}, r"texture: an \.obj has colours"),
    ],
)
def test_what_cannot_be_saved_is_one_sentence(
    splats: splatdistill.Splats, name: str, given: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        splats.save(tmp_path / name, **given)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="load: there is no file"):
        splatdistill.Splats.load(tmp_path / name)


def test_renders_are_arrays_of_what_the_cameras_see(splats: splatdistill.Splats) -> None:
    drawn = splats.render(splatdistill.orbit([0, 90, 180], size=24), background=(0, 0, 1))
    shapes = {name: (value.shape, value.dtype) for name, value in drawn.items()}
    f = np.dtype(np.float32)
    assert shapes == {"rgb": ((3, 24, 24, 3), f), "alpha": ((3, 24, 24, 1), f), "depth": ((3, 24, 24, 1), f)}
    behind = drawn["alpha"][..., 0] == 0
    assert behind.any() and (drawn["rgb"][behind] == (0, 0, 1)).all()
    frames = splats.turntable(frames=4, size=24)
    assert frames.shape == (4, 24, 24, 3) and frames.dtype == np.uint8
    with pytest.raises(ValueError, match="background must be three numbers"):
        splats.render(background=(1.0,))


def test_a_camera_stands_where_it_was_put() -> None:
    """+y up, in front is +z, azimuths grow towards +x."""
    cameras = splatdistill.orbit([0, 90], [0, 0], radius=2.0, fovy_deg=90, size=10)
    centres = torch.linalg.inv(cameras.viewmats)[:, :3, 3]
    # A turn by 90 degrees in single precision: one unit in the last place of 2.
    torch.testing.assert_close(centres, torch.tensor([[0.0, 0, 2], [2, 0, 0]]), rtol=0, atol=2.4e-7)
    assert cameras.Ks[0, 0, 0] == pytest.approx(5.0)
    with pytest.raises(ValueError, match="2 azimuths and 3 elevations"):
        splatdistill.orbit([0, 1], [0, 1, 2])
    with pytest.raises(ValueError, match="fovy_deg must lie between"):
        splatdistill.orbit(fovy_deg=180)


def test_without_a_notebook_show_says_what_to_do(
    splats: splatdistill.Splats, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.warns(UserWarning, match=r"this is no notebook; save\('turntable\.gif'\)"):
        splats.show()
    assert capsys.readouterr() == ("", "")


def test_a_notebook_gets_a_picture_that_turns_or_the_page(
    splats: splatdistill.Splats, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown: list[str] = []
    shell = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(kernel=1))
    monkeypatch.setitem(notebook.sys.modules, "IPython", shell)  # type: ignore[arg-type]
    monkeypatch.setattr(notebook, "_display", shown.append)
    splats.show(frames=5, size=16)
    splats.show(page=True)
    found = re.search(r'src="data:image/gif;base64,([^"]+)"', shown[0])
    assert found
    (tmp_path / "x.gif").write_bytes(base64.b64decode(found[1]))
    with Image.open(tmp_path / "x.gif") as picture:
        assert (picture.size, picture.n_frames) == ((16, 16), 5)  # type: ignore[attr-defined]
    frame = re.fullmatch(r'<div><iframe srcdoc="([^"]+)" style="[^"]+"></iframe></div>', shown[1])
    assert frame and frame[1].isascii()  # the page's policy has hashes of its scripts, in any charset
    assert html.unescape(frame[1]) == splats.save(tmp_path / "splats.html").read_text("utf-8")


def test_splats_say_what_they_are(splats: splatdistill.Splats) -> None:
    assert repr(splats) == f"Splats({len(splats)} Gaussians, colour harmonics of degree 1, cpu)"
    assert repr(splats.to("cpu").detach()) == repr(splats) and isinstance(splats.to("cpu"), splatdistill.Splats)
    assert FIELDS == tuple(splats.tensors)
