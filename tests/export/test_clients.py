"""Files for other programs: format, axes and padding, and what is said about how they stand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from splatdistill import cli
from splatdistill.export.clients import CLIENTS
from splatdistill.io import formats, ply
from tests.io.scenes import asymmetric
from tests.rounding import UNIT


@pytest.mark.parametrize(
    ("program", "kind"), [(name, kind) for name, client in CLIENTS.items() for kind in client.axes]
)
def test_each_program_gets_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str, kind: str
) -> None:
    client, splats = CLIENTS[program], asymmetric(20)
    ply.write(tmp_path / "object.ply", splats)
    output = tmp_path / "made"
    flags = [] if kind == client.kind else ["--format", kind]
    assert cli.main(["export", str(tmp_path / "object.ply"), "--for", program, *flags, "--output", str(output)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{output}\n" and printed.err == f"Note: {client.stands}.\n"
    found = formats.open_file(output)
    assert (found.kind, found.up, found.splats.sh_degree) == (kind, client.axes[kind], 0)
    assert found.assumed == (kind == "glb")  # of that the standard says it, not the file
    if kind == "ply":
        header = output.read_bytes().partition(b"end_header")[0]
        assert header.count(b"property float f_rest_") == 45
        torch.testing.assert_close(found.splats.means, splats.means)
    if kind == "spz":
        assert output.read_bytes()[:2] == b"\x1f\x8b"  # Spark 2.2 does not read version 4


# What a program makes of the numbers of a .ply, as its documents or source say, and which way is up there and towards
# whom the object looks. From the .ply to the world of the program: rows are its axes.
SUPERSPLAT = np.diag([-1.0, -1, 1])  # half a turn about z
PLACED = {
    "supersplat": (SUPERSPLAT, "+y", "+z"),
    "playcanvas": (np.eye(3), "+y", "+z"),
    "spark": (np.eye(3), "+y", "+z"),
    "unity": (np.diag([1.0, 1, -1]), "+y", "-z"),  # with the scale that the note asks for
    "blender": (np.eye(3), "+z", "-y"),
    "inria": (np.eye(3), "-y", "+z"),
}


@pytest.mark.parametrize("program", PLACED)
def test_it_stands_as_the_note_says(tmp_path: Path, program: str) -> None:
    place, up, front = PLACED[program]
    splats = asymmetric(20)
    formats.write(tmp_path / "a.ply", splats, how=formats.Written(up=CLIENTS[program].axes["ply"]))
    there = ply.read(tmp_path / "a.ply").means.double().numpy() @ place.T
    for name, ours in ((up, splats.means[:, 1]), (front, splats.means[:, 2])):
        along = there[:, "xyz".index(name[1])] * (1 if name[0] == "+" else -1)
        np.testing.assert_allclose(along, ours.double().numpy(), rtol=0, atol=4 * UNIT)  # sums of two, below 2
    # Unity's world is left-handed: a mirrored file is the right hand there.
    assert np.sign(np.linalg.det(place)) == (-1 if program == "unity" else 1)
    said = CLIENTS[program].stands
    assert f"its front towards {front}" in said and ("upright" in said) == (up in ("+y", "+z"))


def test_a_degree_that_is_asked_for_is_filled_up_again(tmp_path: Path) -> None:
    ply.write(tmp_path / "object.ply", asymmetric(5, degree=2))
    flags = ["--for", "unity", "--sh-degree", "1", "--output", str(tmp_path / "made.ply")]
    assert cli.main(["export", str(tmp_path / "object.ply"), *flags]) == cli.DONE
    assert (tmp_path / "made.ply").read_bytes().partition(b"end_header")[0].count(b"f_rest_") == 45
    assert formats.read(tmp_path / "made.ply").sh_degree == 1


def test_flags_that_do_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ply.write(tmp_path / "object.ply", asymmetric(5))
    base = ["export", str(tmp_path / "object.ply"), "--output", str(tmp_path / "made")]
    for flags, sentence in (
        (
            ["--for", "spark", "--format", "glb"],
            "for: spark is given .spz, .ply, .compressed.ply, .sog, not .glb; leave",
        ),
        (["--for", "spark", "--spz-version", "4"], "spz_version: spark reads versions 2 and 3; leave out"),
        (["--for", "unity", "--spz-version", "2"], "spz_version: .ply has no versions; only .spz has."),
        (["--spz-version", "4"], "spz_version: .ply has no versions; only .spz has."),
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
