from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.photograph import Studio, studio
from tests.viewer.browser import chromium


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """Photographs of files in a folder of its own."""
    folder: Path = tmp_path_factory.mktemp("files")
    with chromium() as browser, studio(browser, folder) as opened:
        yield opened
