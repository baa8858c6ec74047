"""Boxes and cameras of the page: our own readers find what it exports, and files in another frame are turned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from splatdistill.io import camera_files, formats, ply
from tests.io.scenes import knot
from tests.viewer.serving import Served, make_run, serving

FP32 = torch.finfo(torch.float32).eps
# Camera to world from +z, and from +x: x right, y up, z backwards.
PLACES = [
    [[1.0, 0, 0, 0], [0, 1, 0, 0.5], [0, 0, 1, 3], [0, 0, 0, 1]],
    [[0.0, 0, 1, 3], [0, 1, 0, 0.5], [-1, 0, 0, 0], [0, 0, 0, 1]],
]
LIST = {"places": PLACES, "fovy": 40.0, "width": 64, "height": 48}


def sent(served: Served, address: str, data: bytes) -> tuple[int, bytes]:
    headers = {
        "origin": served.url.rstrip("/"),
        "content-type": "application/octet-stream",
        "x-splatdistill-token": served.token,
    }
    status, _, body = served.ask(address, method="POST", headers=headers, body=data)
    return status, body


@pytest.mark.parametrize("kind", ["run", "ply", "glb"])
def test_cameras_come_back_as_they_were_and_lie_in_the_frame_of_the_file(tmp_path: Path, kind: str) -> None:
    shown = tmp_path / ("run" if kind == "run" else f"k.{kind}")
    make_run(shown, knot(20)) if kind == "run" else formats.write(shown, knot(20))
    with serving(shown) as served:
        status, body = served.post("/api/runs/0/transforms", LIST)
        assert status == 200
        (tmp_path / "transforms.json").write_bytes(body)
        found = camera_files.read(tmp_path / "transforms.json").cameras
        eyes = -torch.einsum("vji,vj->vi", found.viewmats[:, :3, :3], found.viewmats[:, :3, 3])
        turned = -1.0 if kind == "ply" else 1.0  # our .ply is turned by half a turn about z
        ours = torch.tensor([[row[3] for row in place[:3]] for place in PLACES])
        wanted = ours * torch.tensor([turned, turned, 1.0])
        assert (eyes - wanted).abs().max() <= 32 * FP32  # a few sums of products of numbers up to 3, as below
        status, body = sent(served, "/api/runs/0/cameras?name=transforms.json", body)
        back = json.loads(body)["cameras"]
        assert status == 200 and len(back) == 2
        for camera, place in zip(back, PLACES, strict=True):
            assert camera["eye"] == pytest.approx([row[3] for row in place[:3]], abs=32 * FP32)
            assert camera["forward"] == pytest.approx([-row[2] for row in place[:3]], abs=32 * FP32)
            assert camera["up"] == pytest.approx([row[1] for row in place[:3]], abs=32 * FP32)
            assert camera["fovy"] == pytest.approx(40.0, rel=32 * FP32)


def test_what_is_no_list_of_cameras_is_told(tmp_path: Path) -> None:
    make_run(tmp_path / "run", knot(20))
    with serving(tmp_path / "run") as served:
        status, body = sent(served, "/api/runs/0/cameras?name=transforms.json", b"[]")
        assert status == 400 and b"transforms.json is no transforms.json with cameras" in body
        for wrong in ({}, [], LIST | {"places": []}, LIST | {"fovy": 0}, LIST | {"width": 1e9}, LIST | {"more": 1}):
            status, body = served.post("/api/runs/0/transforms", wrong)
            assert status == 400 and body.count(b"\n") == 1, wrong


def test_a_box_cuts_what_is_shown_and_what_is_exported(tmp_path: Path) -> None:
    splats = knot(500)
    make_run(tmp_path / "run", splats)
    inside = int((splats.means[:, 0] >= 0).sum())
    assert 0 < inside < 500
    with serving(tmp_path / "run") as served:
        box = "?box=0,-9,-9,9,9,9"
        (tmp_path / "a.ply").write_bytes(served.ask(f"/api/runs/0/splats{box}")[2])
        assert len(ply.read(tmp_path / "a.ply")) == inside
        assert len(served.ask(f"/api/runs/0/export/splat{box}")[2]) == 32 * inside
        assert b"embedded-splats" in served.ask(f"/api/runs/0/export/html{box}")[2]
        for wrong, why in (("1,2", b"six numbers"), ("a,b,c,d,e,f", b"six numbers"), ("8,8,8,9,9,9", b"no splat lies")):
            status, _, body = served.ask(f"/api/runs/0/export/splat?box={wrong}")
            assert status == 400 and why in body
