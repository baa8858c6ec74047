"""A fault at every call of a save that changes the disk, found by counting: what was there before still loads."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.audit import ROOT

SOURCE = Path(__file__).with_name("faults.c")


def preloaded(folder: Path) -> dict[str, str]:
    """Builds the library of faults.c; the environment in which it counts."""
    library = folder / "faults.so"
    flags = ["-x", "c", "-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    subprocess.run([os.environ.get("CXX", "c++"), *flags, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the faults are preloaded into glibc's calls")
def test_a_fault_at_any_place_of_a_save_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.injection", str(tmp_path)],
        env={**os.environ, **preloaded(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["bad"] == []
    # Of a checkpoint: folder, three files, their writes and syncs, renames, and what goes afterwards.
    assert all(count >= 20 for name, count in result["places"].items() if name.startswith("checkpoint, "))
    assert all(count >= 4 for count in result["places"].values())
