"""The examples run as their docstrings say, each in an empty folder, with a few steps in the place of hundreds."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.audit import ROOT
from tests.priors import families

FOLDER = ROOT / "examples"
SCRIPTS = sorted(FOLDER.glob("[0-9]*.py"))
WRITES = {
    "01": {"armchair.ply", "armchair.gif"},
    "02": {"six_methods.png"},
    "03": {"chair-0.ply", "chair-1.ply"},
    "05": {"vase.ply"},
    "06": {"corgi.ply"},
    "07": {"before.ply", "after.ply"},
    "08": {
        f"car.{kind}" for kind in ("ply", "compressed.ply", "splat", "spz", "sog", "glb", "usdz", "html", "png", "mp4")
    },
    "09": {"playground.png"},
    "10": {"batch", "prompts.txt"},
}


def test_there_are_ten_of_at_most_forty_lines_that_say_what_they_show() -> None:
    assert [script.name[:2] for script in SCRIPTS] == [f"{number:02}" for number in range(1, 11)]
    for script in SCRIPTS:
        text = script.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 40, script.name
        said = ast.get_docstring(ast.parse(text)) or ""
        assert len(said.splitlines()[0]) > 40 and f"python examples/{script.name}" in said, script.name


def run(script: Path, folder: Path, *args: str, more: Path | None = None) -> str:
    """What a script prints. more: a folder with a package of its own."""
    environment = {
        **os.environ,
        "SPLATDISTILL_SMOKE": "1",
        "MPLBACKEND": "agg",
        "PYTHONWARNINGS": "error::FutureWarning",
    }
    environment |= {"PYTHONPATH": str(more)} if more else {}
    done = subprocess.run(
        [sys.executable, str(script), *args], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_runs_in_an_empty_folder(script: Path, tmp_path: Path) -> None:
    folder, number = tmp_path / "here", script.name[:2]
    folder.mkdir()
    args: list[str] = []
    more = None
    if number == "05":  # as pip installs it
        more = tmp_path / "installed"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        source = tmp_path / "own_method"
        source.mkdir()
        for file in (FOLDER / "own_method").glob("*.*"):
            (source / file.name).write_bytes(file.read_bytes())
        subprocess.run([*pip, "--target", str(more), str(source)], check=True)
    if number == "06":
        args = [str(families.sd21(tmp_path / "tiny"))]
    if number == "10":
        pytest.importorskip("ray")
    run(script, folder, *args, more=more)
    assert {path.name for path in folder.iterdir()} == WRITES.get(number, set())
