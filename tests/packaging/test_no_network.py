"""A build fetches nothing: it is done in a network of its own, which leads nowhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.audit import ROOT, tracked

sys.path.insert(0, str(ROOT / ".ci"))
import wheels

pytestmark = pytest.mark.skipif(not wheels.alone(), reason="needs the right to make a network namespace")
ASKS = (
    "import socket\n"
    "try:\n    socket.create_connection(('192.0.2.1', 80), 3)\n"
    "except OSError as error:\n    assert error.errno == 101, error\n"  # ENETUNREACH: it is cut off
    "else:\n    raise SystemExit('there is a network')\n"
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for path in tracked():
        target = tmp_path / "source" / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    return tmp_path / "source"


def test_metadata_and_sources_are_made_without_a_network(source: Path, tmp_path: Path) -> None:
    """What pip asks of the build before it compiles, and the sdist. `make wheels` compiles so, too."""
    code = (
        f"{ASKS}import setuptools.build_meta as backend\n"
        f"print(backend.prepare_metadata_for_build_wheel({str(tmp_path)!r}))\n"
        f"print(backend.build_sdist({str(tmp_path)!r}))\n"
    )
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [*wheels.alone(), sys.executable, "-c", code], cwd=source, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("*.dist-info/licenses/THIRD_PARTY_LICENSES")) and list(tmp_path.glob("*.tar.gz"))


def test_what_builds_a_wheel_has_no_network(tmp_path: Path) -> None:
    """The setup.py of this project asks for one in the middle of its build."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "setup.py").write_text(f"{ASKS}import setuptools\nsetuptools.setup(name='x')\n")
    assert wheels.build("build_wheel", tmp_path / "source", tmp_path / "out", epoch=1_700_000_000).suffix == ".whl"
