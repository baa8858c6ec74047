"""Tests a part of the package with the lowest or the newest versions that pyproject.toml allows, in build/floor or
build/newest. The extension is that of the usual environment: it is built on torch's stable interface.

    python benchmarks/dependency_range.py floor
    python benchmarks/dependency_range.py newest                       # DEPRECATIONS are errors
    python benchmarks/dependency_range.py newest --python python3.13   # with another interpreter
    python benchmarks/dependency_range.py newest --debian testing      # with that of a Debian of debootstrap

--json FILE adds the figures to a record, under the version of Python, and writes the table of docs/install.md anew.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bare_install
import evidence
from common import ROOT, processor, with_section

PAGE = ROOT / "docs" / "install.md"
SECTION = {"name": "Pythons", "script": "dependency_range.py"}
TESTS = (
    "tests/ops/test_residual.py",
    "tests/ops/test_densify.py",
    "tests/priors/test_diffusion.py",
    "tests/priors/test_lora.py",
    "tests/priors/test_text_encoders.py",
    "tests/io/test_ply.py",
    "tests/io/test_video.py",
    "tests/cli/test_cli.py",
    "tests/viewer/test_server.py",
    "tests/training/test_trainer.py",
)
DEPRECATIONS = "\n".join(
    f"error::{kind}:splatdistill.*" for kind in ("DeprecationWarning", "FutureWarning", "PendingDeprecationWarning")
)
"""What other packages tell our modules of things that will go; what they tell each other is theirs."""
RUNNERS = ("pytest", "pytest-xdist", "hypothesis")


def requirements(which: str) -> list[str]:
    """The direct dependencies: at their lowest versions, or as they stand."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return [re.sub(r">=([\w.]+)[^;]*", r"==\1", line) for line in listed] if which == "floor" else listed


class Place:
    """Where commands run: on this machine, or in a Debian that sees the repository."""

    def __init__(self, system: bare_install.System | None = None) -> None:
        self.system = system

    def entering(self, words: Sequence[str]) -> tuple[Sequence[str], Mapping[str, str]]:
        """What runs `words` there, and its environment."""
        quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        if self.system is None:
            return words, os.environ | quiet
        settings = [f"{name}={value}" for name, value in quiet.items()]
        return self.system.entering(f"cd {shlex.quote(str(ROOT))} && exec {shlex.join(['env', *settings, *words])}")

    def run(self, *words: str, check: bool = True) -> int:
        command, environment = self.entering(words)
        return subprocess.run(command, cwd=ROOT, env=environment, check=check).returncode  # noqa: S603

    def read(self, *words: str) -> str:
        command, environment = self.entering(words)
        done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)  # noqa: S603
        return done.stdout.strip()


def counts(report: Path) -> dict[str, int]:
    """How many tests passed, failed and were skipped, from what pytest wrote for machines."""
    suites = list(ET.parse(report).iter("testsuite"))  # noqa: S314
    total = {key: sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")}
    failed = total["failures"] + total["errors"]
    return {"passed": total["tests"] - failed - total["skipped"], "failed": failed, "skipped": total["skipped"]}


def table(records: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each Python, oldest first."""
    lines = ["| Python | torch | tests passed | failed | skipped |", "| --- | --- | --- | --- | --- |"]
    for name in sorted(records, key=lambda name: int(name.split(".")[1])):
        columns = (str(records[name][key]) for key in ("python", "torch", "passed", "failed", "skipped"))
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines)


def tried(place: Place, which: str, wanted: Sequence[str], *, python: str, folder: Path) -> tuple[int, dict[str, Any]]:
    """Makes the environment in `folder` and runs the tests in it: their exit code, and what ran with which figures."""
    place.run(python, "-m", "venv", "--clear", str(folder))
    inside, report = str(folder / "bin" / "python"), folder / "tests.xml"
    place.run(inside, "-m", "pip", "install", "--quiet", *wanted, *RUNNERS)
    place.run(inside, "-m", "pip", "list")
    (site,) = folder.glob("lib/python*/site-packages")
    for item in Path(sysconfig.get_paths()["purelib"]).glob("*splatdistill*"):  # how the usual environment finds it
        (shutil.copytree if item.is_dir() else shutil.copy)(item, site / item.name)
    words = ["-n", "2", "-m", "not slow and not browser", "-p", "no:cacheprovider", f"--junitxml={report}", *TESTS]
    words += ["-o", f"filterwarnings={DEPRECATIONS}"] if which == "newest" else []
    code = place.run(inside, "-m", "pytest", *words, check=False)
    if not report.exists():
        raise SystemExit(f"pytest ended with code {code} before any test.")
    asked = "import json, platform, torch; print(json.dumps([platform.python_version(), torch.__version__]))"
    version, torch = json.loads(place.read(inside, "-c", asked))
    return code, {"python": version, "torch": torch, **counts(report)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("floor", "newest"))
    parser.add_argument("--torch", help="another version of torch than the range gives, as in 2.13.0")
    parser.add_argument("--python", default=sys.executable, help="another interpreter, as in python3.13")
    parser.add_argument("--debian", metavar="SUITE", help="the interpreter of this Debian; needs root and debootstrap")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the figures to this record")
    flags = parser.parse_args()
    wanted = requirements(flags.which)
    if flags.torch:
        wanted = [f"torch=={flags.torch}" if line.startswith("torch") else line for line in wanted]
    if flags.debian and (reason := bare_install.missing()):
        print(reason)
        return bare_install.NOTHING_DONE
    other = f"-{flags.debian or Path(flags.python).name}" if flags.debian or flags.python != sys.executable else ""
    folder = ROOT / "build" / f"{flags.which}{other}"
    with tempfile.TemporaryDirectory(prefix="splatdistill-python-") as name:
        place, python = Place(), flags.python
        if flags.debian:
            system = bare_install.System(Path(name))
            system.binds.append(ROOT)
            system.make(flags.debian)
            place, python = Place(system), "python3"
        code, found = tried(place, flags.which, wanted, python=python, folder=folder)
    if flags.json:
        minor = ".".join(found["python"].split(".")[:2])
        record = evidence.Record(flags.json)
        record.write(**{minor: {
            **found, "command": evidence.command(), "commit": evidence.commit(),
            "machine": f"{processor()}, {os.cpu_count()} cores",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        }})  # fmt: skip
        PAGE.write_text(with_section(PAGE.read_text(), table(record.found), **SECTION))
    return code


if __name__ == "__main__":
    sys.exit(main())
