"""A build fetches nothing: it is done in a network of its own, which leads nowhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.audit import ROOT, tracked

ALONE = ["unshare", "--net", "--"]


def can_be_cut_off() -> bool:
    return shutil.which("unshare") is not None and subprocess.run([*ALONE, "true"], capture_output=True).returncode == 0


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for path in tracked():
        target = tmp_path / "source" / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    return tmp_path / "source"


@pytest.mark.skipif(not can_be_cut_off(), reason="needs the right to make a network namespace")
def test_metadata_and_sources_are_made_without_a_network(source: Path, tmp_path: Path) -> None:
    """What pip asks of the build before it compiles, and the sdist; compilers and ninja know no network."""
    code = (
        "import socket, setuptools.build_meta as backend\n"
        "try:\n    socket.create_connection(('192.0.2.1', 80), 3)\n"
        "except OSError as error:\n    assert error.errno == 101, error\n"  # ENETUNREACH: it is cut off
        f"print(backend.prepare_metadata_for_build_wheel({str(tmp_path)!r}))\n"
        f"print(backend.build_sdist({str(tmp_path)!r}))\n"
    )
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [*ALONE, sys.executable, "-c", code], cwd=source, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("*.dist-info/licenses/THIRD_PARTY_LICENSES")) and list(tmp_path.glob("*.tar.gz"))
