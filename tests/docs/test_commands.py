"""Commands and flags of README and the pages are those of the program, and the Python of README runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from splatdistill.cli import VERBS
from splatdistill.commands.common import parse
from splatdistill.commands.train import parse_settings
from splatdistill.config.schema import METHODS, TrainConfig
from tests.docs import prose
from tests.docs.pages import PAGES, README, blocks, name_of
from tests.packaging.audit import ROOT

FLAGS = (ROOT / "tests" / "cli" / "flags.txt").read_text()
OF_EVERY_VERB = {"--help", "--help-all", "--debug", "--version"}
OTHERS = ("pip ", "python ", "ray ", "torchrun ", "pytest ", "ssh ", "make ", "benchmarks/", ".[")
"""What code in a line begins with where its flags are not ours."""
OF_OTHERS = {"--no-build-isolation", "--latency-us", "--gb-per-s", "--carry", "--only"}


def commands() -> Iterator[str]:
    """The lines of code blocks that begin with our command, without what is said about them."""
    for page in [README, *PAGES]:
        for language, text in blocks(page):
            if language in ("", "sh"):
                for line in text.replace("\\\n", " ").splitlines():
                    if line.startswith("splatdistill ") and " VERB" not in line:
                        yield re.split(r" {3,}", line)[0]


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_a_command_is_understood(command: str) -> None:
    verb, *args = shlex.split(command)[1:]
    kind, _ = VERBS[verb]
    if issubclass(kind, TrainConfig):
        flags = kind() if "--resume" in args else parse_settings(kind, args, verb=verb)[0]  # resume reads the run
    else:
        flags = parse(kind, args, verb=verb)
    assert isinstance(flags, kind)


def test_there_are_commands_of_every_verb() -> None:
    assert {command.split()[1] for command in commands()} == set(VERBS)


@pytest.mark.parametrize("page", [README, *PAGES], ids=name_of)
def test_flags_exist(page: Path) -> None:
    spans = [
        span for span in re.findall(r"`([^`]*)`", prose.without_code(page.read_text())) if not span.startswith(OTHERS)
    ]
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z.0-9-]*", " ".join(spans))) - OF_EVERY_VERB - OF_OTHERS
    assert {flag for flag in named if not re.search(rf"(?<![\w-]){flag}(?![\w.-])", FLAGS)} == set()


def test_the_python_of_readme_runs(tmp_path: Path) -> None:
    """With two steps in place of 200; what it shows of it is names and numbers that are there."""
    code = next(text for language, text in blocks(README) if language == "python")
    assert len([line for line in code.splitlines() if line]) <= 8
    short = code.replace("steps=200", "steps=2")
    assert short != code
    done = subprocess.run([sys.executable, "-c", short], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Splats(" in done.stdout
    assert all(name in done.stdout for name in (*METHODS, "embedded", "sd15"))
    assert [path.name for path in tmp_path.iterdir()] == ["armchair.ply"]
