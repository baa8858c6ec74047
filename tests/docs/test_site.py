"""`make docs` builds static pages without a warning; their links work, and they load nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import PAGES
from tests.packaging.audit import ROOT

pytestmark = pytest.mark.xdist_group("site")  # built once


class Page(HTMLParser):
    """What an HTML page links, what it loads, and the places in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids.add(given.get("id", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("script", "img", "source", "iframe") and "src" in given:
            self.loads.append(given["src"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload", "modulepreload"):
            self.loads.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sphinx", reason="Sphinx comes with the development environment")
    out = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "docs", str(out)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text()) for path in site.rglob("*.html")}


def test_every_page_is_built(pages: dict[Path, Page], site: Path) -> None:
    names = {str(path.relative_to(site).with_suffix("")) for path in pages}
    assert {str(page.relative_to(ROOT / "docs").with_suffix("")) for page in PAGES} <= names
    assert {"contributing", "changelog", "security"} <= names


def test_links_lead_to_pages_files_and_places(pages: dict[Path, Page]) -> None:
    broken = [
        f"{path.name}: {link}" for path, page in pages.items() for link in page.links if not leads(path, link, pages)
    ]
    assert broken == []


def leads(path: Path, link: str, pages: dict[Path, Page]) -> bool:
    """Whether a link of the page at `path` is to another site, or to a file and place that are there."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return parts.scheme in ("https", "mailto")
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return False
    return target not in pages or not parts.fragment or unquote(parts.fragment) in pages[target].ids


def test_pages_load_nothing_from_elsewhere(pages: dict[Path, Page]) -> None:
    loaded = {(path, urlsplit(name)) for path, page in pages.items() for name in page.loads}
    assert loaded
    assert [name.geturl() for _, name in loaded if name.scheme not in ("", "data") or name.netloc] == []
    assert [
        name.path for path, name in loaded if not name.scheme and not (path.parent / unquote(name.path)).is_file()
    ] == []


def test_formulas_are_drawn_by_the_browser(site: Path) -> None:
    text = (site / "methods" / "sds.html").read_text()
    assert "<math" in text
    assert "mathjax.js" not in text.lower()
    assert "MathJax" not in text


def test_public_names_of_the_operators_and_settings_are_on_a_page(pages: dict[Path, Page], site: Path) -> None:
    extending, settings = (pages[site / "api" / f"{name}.html"].ids for name in ("extending", "settings"))
    assert "splatdistill.guidance.base.Guidance" in extending
    assert "splatdistill.priors.base.Prior" in extending
    assert "splatdistill.config.schema.TrainConfig" in settings
    assert "splatdistill.guidance.methods.sds.SDSConfig.guidance_scale" in settings


def figures_of(page: Path) -> Iterator[str]:
    yield from re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text())


def test_pictures_are_small() -> None:
    """A page with its pictures is read over a telephone: 1.5 MB for the turntables, 0.7 MB for any other."""
    sizes = {
        (page.parent / name).resolve(): (page.parent / name).stat().st_size
        for page in PAGES
        for name in figures_of(page)
    }
    assert sizes
    assert [
        path.name for path, size in sizes.items() if size > (1_500_000 if path.stem == "turntables" else 700_000)
    ] == []
