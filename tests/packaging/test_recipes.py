"""CONTRIBUTING's recipes for a method and a prior work as they stand there: their blocks are taken out and executed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

import splatdistill
from tests.packaging.audit import ROOT

PACKAGE = Path(splatdistill.__file__).parent
BROKEN = 'raise RuntimeError("not today")\n'


def blocks(heading: str) -> dict[str, str]:
    """The code of a section of CONTRIBUTING by its language, one block each."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"^ *```(\w+)\n(.*?)^ *```", section, flags=re.M | re.S)
    assert len(found) == len(dict(found)) == 3
    return {language: textwrap.dedent(code) for language, code in found}


def install(folder: Path, recipe: dict[str, str], *, code: str = "") -> tuple[str, str, str]:
    """What pip would make of the recipe's package, in `folder`; group, name and target of the entry point."""
    ((group, points),) = tomllib.loads(recipe["toml"])["project"]["entry-points"].items()
    ((name, target),) = points.items()
    about = folder / "theirs-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    (folder / f"{target.partition(':')[0]}.py").write_text(code or recipe["python"])
    return group, name, target


def run(command: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """A command line of the recipe, with `folder` in front of the path of modules."""
    program, *args = shlex.split(command)
    assert program == "splatdistill"
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    words = [sys.executable, "-m", "splatdistill", *args, *more]
    return subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment)


def make(recipe: dict[str, str], folder: Path) -> None:
    """Runs the recipe's commands, the training with few steps."""
    for command in recipe["sh"].splitlines():
        short = ["--steps", "4", "--out", str(folder / "runs")] if " train " in command else []
        done = run(command, folder, *short)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr and "Traceback" not in done.stderr
    (splats,) = (folder / "runs").rglob("splats.ply")
    assert splats.stat().st_size > 1000


def test_a_method_of_another_package_trains(tmp_path: Path) -> None:
    recipe = blocks("Adding a method")
    assert install(tmp_path, recipe) == ("splatdistill.methods", "sjc", "sjc:SJC")
    make(recipe, tmp_path)
    (settings,) = (tmp_path / "runs").rglob("config.yaml")
    assert "method: sjc" in settings.read_text() and "guidance_scale: 1.0" in settings.read_text()


def test_a_method_in_the_package_is_one_file(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, copy_function=os.symlink, ignore=shutil.ignore_patterns("__pyc*"))
    for name in ("configs", "viewer"):
        (tmp_path / PACKAGE.name / name).symlink_to(ROOT / name)
    recipe = blocks("Adding a method")
    (tmp_path / PACKAGE.name / "guidance" / "methods" / "sjc.py").write_text(recipe["python"])
    shown = run("splatdistill config --method sjc --sjc.guidance-scale 3", tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "  guidance_scale: 3.0  # flag" in shown.stdout
    make(recipe, tmp_path)


def test_a_prior_of_another_package_is_listed_checked_and_teaches(tmp_path: Path) -> None:
    recipe = blocks("Adding a prior")
    assert install(tmp_path, recipe) == ("splatdistill.priors", "flat", "flat:load")
    make(recipe, tmp_path)
    listed = run("splatdistill prior list", tmp_path)
    assert re.search(r"^flat +a prior of another package +theirs$", listed.stdout, flags=re.M)
    refused = run("splatdistill prior check flat --encoder x", tmp_path)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert refused.stderr.startswith("splatdistill: encoder: flat has no VAE")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (BROKEN, "prior: flat of the package 'theirs' cannot be loaded."),
        ("load = 3\n", "prior: flat of the package 'theirs' cannot be loaded."),
        ("def load(name, **_): return 3\n", "prior: flat of the package 'theirs' is none: it has no alphas_cumprod,"),
    ],
)
def test_a_broken_prior_is_named_when_it_is_asked_for(tmp_path: Path, code: str, why: str) -> None:
    install(tmp_path, blocks("Adding a prior"), code=code)
    done = run("splatdistill prior check flat", tmp_path)
    assert done.returncode == 2 and f"splatdistill: {why}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_prior_hinders_no_other(tmp_path: Path) -> None:
    install(tmp_path, blocks("Adding a prior"), code=BROKEN)
    done = run("splatdistill prior check analytic", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
