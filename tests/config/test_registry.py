"""Methods are found by themselves: a file of the package, or an entry point of another one that may be broken."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import splatdistill
from splatdistill.config import registry
from splatdistill.config.schema import GUIDANCE, METHODS, CameraConfig, TrainConfig
from splatdistill.guidance import group_of, make_guidance
from splatdistill.guidance.base import Guidance

FOLDER = Path(registry.__file__).parents[1] / "guidance" / "methods"

OUTSIDE = """
from dataclasses import dataclass

from splatdistill.config.base import AnnealedConfig, Fraction
from splatdistill.guidance.base import AnnealedGuidance


@dataclass(frozen=True)
class OutsideConfig(AnnealedConfig):
    \"\"\"A method of another package.\"\"\"

    foo: Fraction = 0.25
    \"\"\"How much foo.\"\"\"


class Outside(AnnealedGuidance[OutsideConfig]):
    Settings = OutsideConfig
    evaluations = 1

    def residual(self, batch, prior, *, step):
        raise NotImplementedError


class NoSettings(AnnealedGuidance[OutsideConfig]):
    pass
"""


def install(folder: Path, *points: str, group: str = "splatdistill.methods", name: str = "their-package") -> None:
    """A distribution in `folder` that offers these entry points, and the module `theirs`."""
    about = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{point}\n" for point in points))
    (folder / "theirs.py").write_text(OUTSIDE)


def run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """The command line with `folder` on the path of modules."""
    command = [sys.executable, "-m", "splatdistill", *args]
    return subprocess.run(command, capture_output=True, text=True, env=_environment(folder), cwd=folder)


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}


def test_every_file_of_the_folder_is_a_method() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert files == set(METHODS) == set(GUIDANCE)
    for name, method in GUIDANCE.items():
        assert method.__module__ == f"splatdistill.guidance.methods.{name}"
        assert isinstance(make_guidance(TrainConfig(prompt="x", method=name)), Guidance)
        assert method.evaluations > 0 and "arXiv" in method.paper
        assert group_of(name, CameraConfig()) == (1 if method.single_view else 4)


def test_no_other_module_knows_a_method() -> None:
    """Adding a method is adding a file."""
    classes = {x.__name__: name for name, method in GUIDANCE.items() for x in (method, method.Settings)}
    root = Path(splatdistill.__file__).parent
    for path in (*root.rglob("*.py"), *root.parent.glob("viewer/*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {classes[name] for name in names & set(classes)} <= {path.stem}, path
        assert not [name for name in imported if name.startswith(registry.PACKAGE)], path


def test_short_flags_are_those_of_the_fields() -> None:
    assert registry.aliases(GUIDANCE) == {"particles": ["vsd", "esd"], "lambda": ["esd"]}


def test_settings_and_help_come_without_torch(tmp_path: Path) -> None:
    install(tmp_path, "outside = theirs:Outside")
    code = (
        "import sys, splatdistill.cli\n"
        "try:\n    splatdistill.cli.main(['train', '--help'])\n"
        "finally:\n    assert 'torch' not in sys.modules and 'theirs' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment(tmp_path))
    assert done.returncode == 0, done.stderr


def test_a_method_of_another_package_has_settings_and_flags(tmp_path: Path) -> None:
    install(tmp_path, "outside = theirs:Outside")
    shown = run(tmp_path, "config", "--method", "outside", "--outside.foo", "0.5")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "method: outside  # default" in shown.stdout and "  foo: 0.5  # flag" in shown.stdout
    refused = run(tmp_path, "train", "--prompt", "x", "--method", "outside", "--outside.foo", "1.5")
    assert refused.returncode == 2
    assert refused.stderr == "splatdistill: outside.foo must be within 0 and 1; it is 1.5.\n"
    foreign = run(tmp_path, "config", "--outside.foo", "0.5")
    assert foreign.stderr.endswith("--method sample_fit does not read it; it is for --method outside.\n")


@pytest.mark.parametrize(
    ("point", "why"),
    [
        ("broken = nowhere:Thing", "ModuleNotFoundError: No module named 'nowhere'"),
        ("broken = theirs:Missing", "AttributeError: module 'theirs' has no attribute 'Missing'"),
        ("broken = theirs:OUTSIDE", "AttributeError"),
        ("broken = theirs:OutsideConfig", "it is not a class derived from splatdistill.guidance.base.Guidance"),
        ("broken = theirs:NoSettings", "its Settings are not a dataclass derived from splatdistill.config.base.Method"),
        ("two-words = theirs:Outside", "its name cannot be that of a section of settings"),
        ("sds = theirs:Outside", "the name is taken"),
        ("camera = theirs:Outside", "the name is taken"),
        ("output = theirs:Outside", "the name is taken"),
    ],
)
def test_a_broken_plug_in_is_named_and_the_others_work(tmp_path: Path, point: str, why: str) -> None:
    install(tmp_path, "outside = theirs:Outside", point)
    done = run(tmp_path, "config", "--method", "outside")
    assert done.returncode == 0 and "  foo: 0.25" in done.stdout
    name = point.partition(" ")[0]
    assert f"The method '{name}' of the package 'their-package' is left out: {why}" in done.stderr
    assert "Traceback" not in done.stderr
