"""Videos and sheets: the right number of frames of the right size, whole or absent."""

from __future__ import annotations

import os
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from splatdistill.io import video
from splatdistill.io.files import NotWritten


def frames(count: int, *, size: int = 32) -> list[torch.Tensor]:
    return [torch.full((size, size, 3), i / count) for i in range(count)]


def test_to_uint8_rounds_and_clips() -> None:
    values = torch.tensor([[[-1.0, 0.5, 2.0], [float("nan"), 1 / 255, 254.4 / 255]]])
    assert video.to_uint8(values).tolist() == [[[0, 128, 255], [0, 1, 254]]]
    same = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert np.array_equal(video.to_uint8(same), same)


def test_the_turntable_holds_every_frame(tmp_path: Path) -> None:
    written = video.write_turntable(tmp_path / "t.mp4", iter(frames(7)), fps=10)
    assert written == tmp_path / "t.mp4"
    read = iio.imread(written, plugin="FFMPEG")
    assert read.shape == (7, 32, 32, 3)
    assert np.abs(read.mean((1, 2, 3)) - [255 * i / 7 for i in range(7)]).max() < 6
    assert list(tmp_path.iterdir()) == [written]


def test_a_turntable_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken():
        yield from frames(2)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        video.write_turntable(tmp_path / "t.mp4", broken())
    with pytest.raises(ValueError, match="even sides"):
        video.write_turntable(tmp_path / "t.mp4", frames(2, size=31))
    assert list(tmp_path.iterdir()) == []


def test_without_an_encoder_frames_become_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "has_encoder", lambda: False)
    written = video.write_turntable(tmp_path / "t.mp4", frames(3))
    assert written == tmp_path / "t_frames"
    assert sorted(p.name for p in written.iterdir()) == ["0000.png", "0001.png", "0002.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_frames_never_wait_for_a_pipe_of_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "has_encoder", lambda: False)
    os.mkfifo(tmp_path / "t_frames")
    with pytest.raises(NotWritten, match="t_frames was not written: "):
        video.write_turntable(tmp_path / "t.mp4", frames(3), fps=10)
    assert [path.name for path in tmp_path.iterdir()] == ["t_frames"]


def test_the_contact_sheet_keeps_the_order(tmp_path: Path) -> None:
    video.write_contact_sheet(tmp_path / "c.png", frames(8))
    sheet = np.asarray(Image.open(tmp_path / "c.png"))
    assert sheet.shape == (64, 128, 3)
    corners = [sheet[32 * (i // 4) + 31, 32 * (i % 4) + 31, 0] for i in range(8)]
    assert corners == [round(255 * i / 8) for i in range(8)]


def test_images_follow_the_suffix(tmp_path: Path) -> None:
    for name, kind in (("a.jpg", "JPEG"), ("a.png", "PNG")):
        video.write_image(tmp_path / name, frames(2)[1])
        assert Image.open(tmp_path / name).format == kind
