"""Files for other programs: format, axes and padding, and what is said about how they stand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from splatdistill import cli
from splatdistill.export.clients import CLIENTS
from splatdistill.io import formats, ply
from tests.io.scenes import asymmetric


@pytest.mark.parametrize("program", CLIENTS)
def test_each_program_gets_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str) -> None:
    client = CLIENTS[program]
    ply.write(tmp_path / "object.ply", asymmetric(20))
    output = tmp_path / "made"
    assert cli.main(["export", str(tmp_path / "object.ply"), "--for", program, "--output", str(output)]) == cli.DONE
    printed = capsys.readouterr()
    assert printed.out == f"{output}\n" and printed.err == f"Note: {client.stands}.\n"
    found = formats.open_file(output)
    assert (found.kind, found.splats.sh_degree, found.assumed) == (client.kind, 0, False)
    if client.kind == "ply":
        header = output.read_bytes().partition(b"end_header")[0]
        assert header.count(b"property float f_rest_") == 45 and b"up=-y" in header
    if program == "spark":
        assert output.read_bytes()[:2] == b"\x1f\x8b"  # Spark 2.2 does not read version 4


def test_flags_that_do_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ply.write(tmp_path / "object.ply", asymmetric(5))
    base = ["export", str(tmp_path / "object.ply"), "--output", str(tmp_path / "made")]
    for flags, sentence in (
        (["--for", "spark", "--format", "ply"], "for: spark is given .spz; leave out --format, or --for."),
        (["--spz-version", "3"], "spz_version: .ply has no versions; only .spz has."),
    ):
        assert cli.main([*base, *flags]) == cli.USAGE and sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["object.ply"]


@pytest.mark.parametrize("version", [2, 3, 4])
def test_spz_of_every_version_is_written(tmp_path: Path, version: int) -> None:
    ply.write(tmp_path / "object.ply", asymmetric(5, degree=1))
    flags = ["--format", "spz", "--spz-version", str(version), "--output", str(tmp_path / "made.spz")]
    assert cli.main(["export", str(tmp_path / "object.ply"), *flags]) == cli.DONE
    found = formats.open_file(tmp_path / "made.spz")
    assert (found.up, found.assumed, found.splats.sh_degree) == ("+y", False, 1)


def test_the_short_ply_has_the_degree_that_is_asked_for(tmp_path: Path) -> None:
    splats = asymmetric(5, degree=2)
    ply.write(tmp_path / "object.ply", splats)
    for degree, columns in ((0, 0), (1, 9), (3, 45)):
        flags = ["--sh-degree", str(degree), "--output", str(tmp_path / "made.ply"), "--force"]
        assert cli.main(["export", str(tmp_path / "object.ply"), *flags]) == cli.DONE
        assert (tmp_path / "made.ply").read_bytes().partition(b"end_header")[0].count(b"f_rest_") == columns
        assert torch.equal(formats.read(tmp_path / "made.ply").means, splats.means)
