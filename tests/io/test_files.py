"""A disk without room is one sentence that names the file, and leaves what was there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from splatdistill.io import formats
from splatdistill.io.files import NotWritten, remove_folder, replacing
from tests.io.scenes import asymmetric

SMALL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
from splatdistill import cli
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("kind", ["ply", "spz", "glb", "png"])
def test_a_file_without_room_is_named(tmp_path: Path, kind: str) -> None:
    """Bounded by the system itself, which tells it as a file that would be too large."""
    formats.write(tmp_path / "a.spz", asymmetric(2000))
    output = tmp_path / f"b.{kind}"
    arguments = ["export", str(tmp_path / "a.spz"), "--format", kind, "--output", str(output), "--size", "512"]
    done = subprocess.run([sys.executable, "-c", SMALL, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"splatdistill: {output} was not written: it would be too large.\n" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.spz"]


def test_a_full_disk_is_told_and_the_old_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.spz"
    formats.write(path, asymmetric(3))
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NotWritten, match=r"a\.spz was not written: the disk is full\.$"):
        formats.write(path, asymmetric(4))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_other_faults_are_handed_on(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), replacing(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "no")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_folder_is_removed_and_nothing_else_of_its_name(tmp_path: Path) -> None:
    """Whoever opens a pipe waits for the other end."""
    full, pipe, file, link = (tmp_path / name for name in ("full", "pipe", "file", "link"))
    (full / "inside").mkdir(parents=True)
    os.mkfifo(full / "inside" / "pipe")
    os.mkfifo(pipe)
    file.touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link.symlink_to(elsewhere)
    for path in (full, pipe, file, link, tmp_path / "absent"):
        remove_folder(path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "file", "link", "pipe"]
