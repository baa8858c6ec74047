"""Whatever a wheel holds of others has its licence in THIRD_PARTY_LICENSES, and the file is what the script writes."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import PurePosixPath

import pytest
import third_party

from tests.packaging.audit import ROOT, tracked

OURS = (
    "splatdistill/priors/models.json",
    "splatdistill/evaluate/external_reference.json",
    "splatdistill/viewer/static/BUILD.json",
    "splatdistill/viewer/static/LICENSES.txt",
    "splatdistill/viewer/static/index.html",
    "splatdistill/viewer/static/viewer.css",
)
"""Data that was made here of nothing that is somebody else's, or is a notice itself."""
TEXT = (".py", ".pyi", ".typed", ".jinja", ".yaml", ".md")


def in_wheel() -> list[str]:
    """Paths in a wheel of the tracked files that are no source text of ours."""
    names = [path.relative_to(ROOT).as_posix() for path in tracked()]
    names = [f"splatdistill/{name}" if name.startswith("viewer/static/") else name for name in names]
    return [name for name in names if name.startswith("splatdistill/") and PurePosixPath(name).suffix not in TEXT]


def test_the_file_is_what_would_be_written() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/third_party.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_of_data_has_a_notice_or_is_ours() -> None:
    """A new file fails here until somebody has looked at where it comes from."""
    prefixes = tuple(prefix for notice in third_party.notices() for prefix in notice.files)
    data = in_wheel()
    assert len(data) > 20
    assert [name for name in data if not name.startswith((*prefixes, *OURS))] == []
    compiled = ("splatdistill/_C", "splatdistill/_build_info")
    assert [prefix for prefix in prefixes if not any(name.startswith(prefix) for name in (*data, *compiled))] == []
    assert [name for name in OURS if name not in data] == []


def test_every_notice_is_a_licence_in_full() -> None:
    found = list(third_party.notices())
    assert len({notice.name for notice in found}) == len(found)
    for notice in found:
        text = " ".join(notice.text.split()).lower()
        assert notice.text.strip() in third_party.FILE.read_text(encoding="utf-8") or "```" in notice.text
        assert any(words in text for words in ("permission is hereby granted", "redistribution", "permission to use",
                                               "apache license 2.0", "legalcode")), notice.name  # fmt: skip


def test_what_brings_no_licence_is_said() -> None:
    with pytest.raises(PackageNotFoundError):
        third_party.of_package("no-such-package")
    with pytest.raises(ValueError, match="has no section 'Nothing'"):
        third_party.of_attribution("Nothing")
