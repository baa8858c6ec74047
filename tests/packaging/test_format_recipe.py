"""CONTRIBUTING's recipe for a format works as it stands there, from a package outside of this one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from splatdistill.io import formats
from splatdistill.scene.gaussians import FIELDS
from tests.io.scenes import axes
from tests.packaging.test_recipes import blocks, install, run
from tests.rounding import UNIT

RECIPE = blocks("Adding a format")


def test_a_format_of_another_package_is_written_and_read(tmp_path: Path) -> None:
    assert install(tmp_path, RECIPE) == ("splatdistill.formats", "gstxt", "gstxt:FORMAT")
    formats.write(tmp_path / "object.ply", axes())
    for command in RECIPE["sh"].splitlines():
        done = run(command, tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    assert len((tmp_path / "object.gstxt").read_text().splitlines()) == len(axes())
    before, after = (formats.read(tmp_path / name) for name in ("object.ply", "again.ply"))
    for name in FIELDS:
        # Nine digits are a float32; opacities and quaternions went through a function and back.
        torch.testing.assert_close(after.tensors[name], before.tensors[name], rtol=64 * UNIT, atol=64 * UNIT)
    shown = run("splatdistill export --help", tmp_path)
    assert "gstxt" in shown.stdout
    refused = run("splatdistill compose object.ply --output x.obj", tmp_path)
    assert ".usdz, .gstxt." in refused.stderr


def test_a_damaged_file_of_it_is_refused_in_one_sentence(tmp_path: Path) -> None:
    install(tmp_path, RECIPE)
    for text, why in (("1 2 3", "it has 3 numbers a line where 14 are wanted."), ("a b", "not a table of numbers")):
        (tmp_path / "bad.gstxt").write_text(text)
        done = run("splatdistill export bad.gstxt --format ply --output x.ply", tmp_path)
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert "bad.gstxt cannot be read as .gstxt: it" in done.stderr and why in done.stderr


@pytest.mark.parametrize("code", ['raise RuntimeError("not today")\n', "FORMAT = 3\n"])
def test_a_broken_format_is_named_when_it_is_asked_for_and_hinders_no_other(tmp_path: Path, code: str) -> None:
    install(tmp_path, RECIPE, code=code)
    formats.write(tmp_path / "object.ply", axes())
    done = run("splatdistill export object.ply --format gstxt --output x.gstxt", tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "splatdistill: format: .gstxt of the package 'theirs' cannot be loaded." in done.stderr
    assert not (tmp_path / "x.gstxt").exists()
    done = run("splatdistill export object.ply --format spz --output x.spz", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
