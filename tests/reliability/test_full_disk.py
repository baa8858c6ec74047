"""On a disk that fills up every export is whole, or refused with exit code 1 and a sentence that names the file."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from splatdistill import cli
from splatdistill.io import kinds, ply, video
from tests.io.scenes import knot

DISK = 8 << 20  # bytes
PAGE = 4096  # bytes: what a tmpfs gives away at once
KINDS = (*kinds.kinds(), *kinds.MEDIA, kinds.MESH)
SHARES = (0.0, 0.2, 0.5, 0.8, 0.97, 3.0)  # of the bytes of the whole file that there is room for


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("disk")
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "knot.ply"
    ply.write(path, knot(400))
    return path


def export(source: Path, output: Path, kind: str) -> int:
    words = ["--frames", "24", "--size", "128", "--triangles", "500"]
    return cli.main(["export", str(source), "--format", kind, "--output", str(output), "--force", *words])


def check(disk: Path, source: Path, folder: Path, kind: str, shares: tuple[float, ...], capsys: object) -> None:
    whole = folder / f"whole.{kind}"
    assert export(source, whole, kind) == cli.DONE
    size = whole.stat().st_size
    for share in shares:
        for path in disk.iterdir():
            path.unlink()
        room = -(-int(share * size) // PAGE) * PAGE
        (disk / "ballast").write_bytes(bytes(max(0, DISK - room)))
        output = disk / f"made.{kind}"
        capsys.readouterr()  # type: ignore[attr-defined]
        code = export(source, output, kind)
        said = capsys.readouterr().err  # type: ignore[attr-defined]
        if code == cli.DONE:
            assert output.stat().st_size == size or kind in kinds.MEDIA, (kind, share)
            assert kind != "mp4" or video._frames_of(output) == 24
        else:
            assert code == cli.FAILED and share < 1, (kind, share, said)
            assert f"splatdistill: {output} was not written: the disk is full." in said, (kind, share, said)
            assert [path.name for path in disk.iterdir()] == ["ballast"], (kind, share)


@pytest.mark.parametrize("kind", ["mp4", "html"])
def test_a_film_and_a_page_are_whole_or_refused(
    disk: Path, source: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check(disk, source, tmp_path, kind, SHARES[2:4], capsys)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_export_is_whole_or_refused(
    disk: Path, source: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check(disk, source, tmp_path, kind, SHARES, capsys)
