from __future__ import annotations

from pathlib import Path

import pytest

from splatdistill import cli
from tests.cli.smoke import TINY


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 4 steps; tests that change it take a copy."""
    out = tmp_path_factory.mktemp("runs")
    assert cli.main(["train", *TINY, "--prompt", "a red ball", "--out", str(out), "--name", "ball"]) == cli.DONE
    return out / "ball"
