"""A lock belongs to one process, says which, and is gone with it; on disks that know no locks too."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from splatdistill.io.lock import LOCK, Claim, Held, refuse_held
from splatdistill.utils.system import life


@pytest.fixture(params=["with locks", "without locks"])
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a disk that knows locks, or of a network disk that does not."""
    if request.param == "without locks":

        def refuse(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", refuse)
    return tmp_path


def ended() -> int:
    """The number of a process that is gone."""
    return int(subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True).stdout)


def test_a_second_claim_names_the_first(disk: Path) -> None:
    first = Claim(disk)
    found = json.loads((disk / LOCK).read_text())
    assert (found["host"], found["pid"]) == (platform.node(), os.getpid())
    for attempt in (Claim, refuse_held):
        with pytest.raises(Held, match=f"^{disk} is being written by process {os.getpid()} on .* since 2.*; wait"):
            attempt(disk)
    assert json.loads((disk / LOCK).read_text()) == found
    first.release()
    refuse_held(disk)
    with Claim(disk):
        first.release()  # twice does no harm
        with pytest.raises(Held):
            Claim(disk)
    Claim(disk).release()
    assert [path.name for path in disk.iterdir()] in ([LOCK], [])


@pytest.mark.parametrize("change", ["gone", "number taken anew", "another boot", "empty", "no JSON", "other JSON"])
def test_a_stale_lock_is_taken(disk: Path, change: str) -> None:
    mine = {"host": platform.node(), "pid": os.getpid(), "since": "2026-01-01 00:00:00", "life": "boot 17"}
    if change == "gone":
        mine["pid"] = ended()
    elif change == "number taken anew":
        mine["life"] = life(os.getpid()).rpartition(" ")[0] + " 17"
    texts = {"empty": "", "no JSON": "{", "other JSON": "[1]"}
    (disk / LOCK).write_text(texts.get(change, json.dumps(mine)))
    refuse_held(disk)
    claim = Claim(disk)
    assert json.loads((disk / LOCK).read_text())["life"] == life(os.getpid())
    with pytest.raises(Held):
        Claim(disk)
    claim.release()


def test_another_machine_is_believed_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"host": "elsewhere\x1b[2J", "pid": 7, "since": "2026-01-01 00:00:00", "life": ""}
    (tmp_path / LOCK).write_text(json.dumps(there))
    Claim(tmp_path).release()  # the system's lock is free, so that process is gone
    (tmp_path / LOCK).write_text(json.dumps(there))

    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for attempt in (Claim, refuse_held):
        with pytest.raises(Held, match=r"process 7 on elsewhere\?\[2J since 2026-01-01 00:00:00; wait"):
            attempt(tmp_path)
    assert json.loads((tmp_path / LOCK).read_text()) == there


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from splatdistill.io.lock import Claim; "
        "c = Claim(pathlib.Path(sys.argv[1])); print(1, flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.read(1) == b"1"
    with pytest.raises(Held, match=f"process {child.pid} on "):
        Claim(tmp_path)
    child.kill()
    child.communicate()
    Claim(tmp_path).release()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with pytest.raises(ValueError, match=f"^{tmp_path} cannot be written to: "):
        Claim(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / LOCK).symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match="it is a link that leads out of the folder"):
        Claim(other)
    assert not (tmp_path / "outside").exists()
