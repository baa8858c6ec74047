"""What lies in a stranger's folder is opened only where it is a file, and of that folder."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from splatdistill.io.inside import file_inside, open_inside, subfolder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "outside").write_text("secret")
    (tmp_path / "outside folder").mkdir()
    (tmp_path / "outside folder" / "file").write_text("secret")
    (folder / "file").write_text("text")
    (folder / "inner").symlink_to("file")
    (folder / "sub").mkdir()
    (folder / "sub" / "file").write_text("text")
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "circle").symlink_to("circle")
    (folder / "there").symlink_to(tmp_path / "outside folder")
    (folder / "device").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize("name", ["file", "inner", "sub/file"])
def test_files_are_opened(folder: Path, name: str) -> None:
    with open_inside(folder, name) as file:
        assert file.read() == b"text"
    assert file_inside(folder, name) == folder / name
    link = folder.with_name("named by the user")
    link.symlink_to(folder)
    assert file_inside(link, name) == link / name


@pytest.mark.parametrize(
    "name", ["link", "there/file", "device", "pipe", "sub", "circle", "missing", "../outside", "a\0b", "x" * 300]
)
def test_nothing_else_is(folder: Path, name: str) -> None:
    signal.alarm(10)  # a pipe would wait for ever
    try:
        with pytest.raises((OSError, ValueError)):
            open_inside(folder, name)
        assert file_inside(folder, name) is None
    finally:
        signal.alarm(0)


def test_folders_are_no_links(folder: Path) -> None:
    assert subfolder(folder, "sub") == folder / "sub"
    for name in ("there", "file", "pipe", "missing", "a\0b"):
        assert subfolder(folder, name) is None


def test_a_link_is_not_written_through(folder: Path) -> None:
    for name in ("link", "device", "there/file"):
        with pytest.raises(OSError, match="out of the folder"):
            open_inside(folder, name, flags=os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    assert folder.with_name("outside").read_text() == "secret"
    with open_inside(folder, "new", flags=os.O_WRONLY | os.O_APPEND | os.O_CREAT) as file:
        file.write(b"one")
    assert (folder / "new").read_bytes() == b"one"
