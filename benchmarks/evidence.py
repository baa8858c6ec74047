"""What makes a figure evidence: the commit and the command line behind it, in a record that is never half written.

The standard library alone, so that a record can be kept where torch does not load. No tool is needed: the commit is
that of the environment variable COMMIT, for copies of a tree without its history, else what git says, else "unknown".
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# What decides what a benchmark runs. Results and prose are no part of it.
SOURCES = ("benchmarks", "configs", "csrc", "pyproject.toml", "setup.py", "splatdistill", "tests")
NOT_SOURCES = ("results", "__pycache__")


def commit() -> str:
    """The commit of this working tree, with -dirty when more than results and prose differ from it."""
    if known := os.environ.get("COMMIT"):
        return known
    if shutil.which("git") is None or not (ROOT / ".git").exists():  # a folder above may be another repository
        return "unknown"

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)  # noqa: S603, S607
        return done.stdout.strip()

    described = git("describe", "--always")
    if not described:
        return "unknown"
    changed = git("status", "--porcelain", "--", ".", ":!benchmarks/results", ":!README.md", ":!docs")
    return described + ("-dirty" if changed else "")


def command() -> str:
    """The command line of this process, as typed in the repository; where its results went is left out."""
    words = ["OUT" if before == "--out" else word for before, word in zip(sys.argv, sys.argv[1:], strict=False)]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def write_json(result: Mapping[str, Any], path: Path) -> None:
    """Writes the whole file or nothing: a process that is killed leaves what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(result, indent=1) + "\n")
    part.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """The record of that name, {} where there is none."""
    return json.loads(path.read_text()) if path.exists() else {}


def slug(name: str) -> str:
    """'NVIDIA H200' as 'h200'."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower().removeprefix("nvidia ")).strip("-")


def path_of(bench: str, device_name: str, out: Path) -> Path:
    """OUT/gpu_<device>_<bench>.json."""
    return out / f"gpu_{slug(device_name)}_{bench}.json"


class Record:
    """A record that is written anew with everything added to it, so that what was measured outlives what comes next.

    What the file already holds stays: a stage has its ending added by another process, and several may share a file.
    """

    def __init__(self, path: Path, **known: Any) -> None:
        self.path, self.found = path, {**read_json(path), **known}
        self.write()

    def write(self, **found: Any) -> None:
        """Adds or replaces fields."""
        self.found |= found
        write_json(self.found, self.path)


def source_files() -> Iterator[Path]:
    """The files of SOURCES, in order of their names; nothing that was built."""
    for name in SOURCES:
        top = ROOT / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and path.suffix not in (".so", ".pyc") and not set(path.parts) & set(NOT_SOURCES):
                yield path


def fingerprint() -> str:
    """Of the sources of this tree, which needs no git: equal trees have equal ones."""
    digest = hashlib.sha256()
    for path in source_files():
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
