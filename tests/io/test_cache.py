"""The cache says what it holds, gives it back on demand and nothing else, and a run does without it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from splatdistill import cli
from splatdistill.io import cache
from splatdistill.io.cache import KINDS, clear, contents, read_cache, size, write_cache, writing
from tests.cli.smoke import TINY


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPLATDISTILL_CACHE", str(tmp_path / "cache"))
    cache._say_once.cache_clear()
    return tmp_path / "cache"


def fill(folder: Path) -> int:
    """Something of every kind; the bytes in all."""
    total = 0
    for number, name in enumerate(KINDS, 1):
        with writing(f"{name}/{number}.bin" if "." not in name else name) as path:
            path.write_bytes(b"x" * number)
            total += number
    return total


def test_it_is_sized_and_cleared_by_kind(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    total = fill(folder)
    assert {held.what: (held.num_files, held.num_bytes) for held in contents()} == {
        what: (1, number) for number, what in enumerate(KINDS.values(), 1)
    }
    assert sum(held.num_bytes for held in contents()) == total
    assert cli.main(["cache", "clear"]) == cli.DONE
    assert capsys.readouterr().out == f"{folder}: 0.00 MB removed.\n"
    assert not folder.exists()
    assert cli.main(["cache", "clear"]) == cli.DONE  # there is nothing, and that is no mistake


def test_nothing_is_kept_that_clear_would_leave(folder: Path) -> None:
    with pytest.raises(AssertionError, match="would leave"):
        write_cache("other.json", {})


def test_what_is_of_others_stays(folder: Path, tmp_path: Path) -> None:
    """The folder may be one that holds more, and a link in it may lead out of it."""
    fill(folder)
    (folder / "mine.txt").write_text("keep")
    (folder / ".precision.123.tmp.json").write_text("half")
    (folder / "text" / "1.bin").unlink()
    (folder / "text").rmdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept.bin").write_bytes(b"12345")
    (folder / "text").symlink_to(outside, target_is_directory=True)
    clear()
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    assert (outside / "kept.bin").read_bytes() == b"12345"


def test_links_are_not_counted(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert size(tmp_path) == (1, 3)
    assert size(tmp_path / "none") == (0, 0)


@pytest.mark.parametrize("kind", ["a file in its place", "a full disk"])
def test_where_it_cannot_be_written_one_note_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    if kind == "a full disk":

        def full(self: Path, *args: object, **kwargs: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_text", full)
        reason = f"{folder / 'precision.json'} was not written: the disk is full"
    else:
        folder.write_text("")
        reason = "Not a directory"
    for name in ("precision.json", "precision.json"):
        write_cache(name, {"a": 1})
    assert read_cache("precision.json") == {}
    note = (
        f"Note: the cache folder {folder} cannot be written ({reason}), so each run makes anew what would be kept "
        "there; SPLATDISTILL_CACHE=FOLDER names another one.\n"
    )
    assert capsys.readouterr().err == note


def test_a_run_goes_on_without_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The embedded prior times the processor, and would keep the answer."""
    folder.write_text("")
    arguments = [*TINY, "--prompt", "a red ball", "--prior", "embedded", "--steps", "1", "--out", str(tmp_path)]
    assert cli.main(["train", *arguments, "--name", "run"]) == cli.DONE
    said = capsys.readouterr().err
    assert said.count("SPLATDISTILL_CACHE=FOLDER") == 1 and "Traceback" not in said
    assert (tmp_path / "run" / "splats.ply").is_file()


def test_what_cannot_be_removed_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(folder)

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    assert cli.main(["cache", "clear"]) == cli.USAGE
    assert f"cache: {folder / 'precision.json'} cannot be removed: Permission denied." in capsys.readouterr().err


def test_info_names_and_sizes_each(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder)
    kernels = tmp_path / "extensions" / "gsplat_cuda"
    kernels.mkdir(parents=True)
    (kernels / "gsplat_cuda.so").write_bytes(bytes(20_000))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    assert cli.main(["info"]) == cli.DONE
    lines = [line.split("  ", 1) for line in capsys.readouterr().out.splitlines()]
    printed = {key.strip(): rest.strip() for key, rest in lines}
    assert printed["cache"] == str(folder)
    assert [printed[f"cache {what}"].partition(",")[0] for what in KINDS.values()] == ["1 file"] * len(KINDS)
    assert printed["gsplat kernels, extensions"] == f"{kernels} (0.02 MB; torch's)"
