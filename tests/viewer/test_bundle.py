"""The committed bundle is that of the sources, is small, and says whose work is in it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tests.packaging.audit import ROOT, tracked

STATIC, WEB = ROOT / "viewer" / "static", ROOT / "viewer" / "web"
MAX_BYTES = 3_500_000
MAX_PAGE = 300_000  # of what comes before the first picture: all but the drawing


def digest(web: Path, names: list[str]) -> str:
    """What vite.config.ts writes into BUILD.json."""
    found = hashlib.sha256()
    for name in sorted(names):
        found.update(f"{name}\0".encode() + (web / name).read_bytes() + b"\0")
    return found.hexdigest()


def test_the_bundle_is_built_from_these_sources() -> None:
    names = [path.relative_to(WEB).as_posix() for path in tracked() if path.is_relative_to(WEB)]
    recorded = json.loads((STATIC / "BUILD.json").read_text())["sources"]
    assert recorded == digest(WEB, names), "viewer/static is stale: run `make viewer` and commit it"


def test_a_changed_source_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_text("1")
    before = digest(tmp_path, ["a.ts"])
    (tmp_path / "a.ts").write_text("2")
    assert digest(tmp_path, ["a.ts"]) != before


def test_the_bundle_is_small_and_complete() -> None:
    files = {path.name for path in STATIC.iterdir()}
    assert files == {"index.html", "viewer.js", "stage.js", "viewer.css", "BUILD.json", "LICENSES.txt"}
    assert sum((STATIC / name).stat().st_size for name in ("index.html", "viewer.js", "viewer.css")) <= MAX_PAGE
    assert sum(path.stat().st_size for path in STATIC.iterdir()) <= MAX_BYTES
    licences = (STATIC / "LICENSES.txt").read_text()
    assert all(name in licences for name in ("three", "@sparkjsdev/spark", "fflate"))
    assert licences.count("Permission is hereby granted") == 3
