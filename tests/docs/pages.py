"""The Markdown of the repository: README, the pages of docs, and their links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.packaging.audit import ROOT, tracked

README = ROOT / "README.md"
_LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
_ONE_LINK = re.compile(r"\[[^\]]*\]\([^)]+\)\s*")
_FENCE = re.compile(r"^ *(`{3,})[^\n]*\n(.*?)^ *\1 *$", re.M | re.S)
# Pages that are nothing but a link to a file outside docs, whose text the site shows, are left out.
PAGES = sorted(
    path for path in (ROOT / "docs").rglob("*.md") if not _ONE_LINK.fullmatch(path.read_text(encoding="utf-8"))
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def markdown() -> list[Path]:
    """Every page under version control."""
    return tracked(".md")


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Of each link to a file: the file, and the place in it or ""."""
    for target in _LINK.findall(_FENCE.sub("", page.read_text())):
        path, _, anchor = target.partition("#")
        if ":" not in path:
            yield ((page.parent / path).resolve() if path else page), anchor


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub and MyST name them."""
    headings = re.findall(r"^#+ +(.*)$", _FENCE.sub("", page.read_text()), flags=re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.strip().lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def blocks(page: Path) -> list[tuple[str, str]]:
    """Fenced code: its language and text."""
    return [
        (re.sub(r"^ *`+", "", found[0].splitlines()[0]).strip(), found[2])
        for found in re.finditer(_FENCE, page.read_text())
    ]
