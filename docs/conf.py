"""Settings of Sphinx: `make docs` builds the pages below docs with furo, the theme that gsplat and viser have."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import splatdistill

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # mathml.py

project = "splatdistill"
author = "The splatdistill authors"
release = splatdistill.__version__
html_title = f"splatdistill {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "mathml"]
exclude_patterns = ["figures"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

default_role = "code"  # docstrings put names in single backticks
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

html_theme = "furo"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_baseurl = ""

LINK = re.compile(r"(\]\()([^)#:\s]+)(#[^)\s]*)?(\))")
ONE_LINK = re.compile(r"\[[^\]]*\]\(([^)]+)\)\s*")


def elsewhere(page: Path) -> Path | None:
    """The file that a page stands for: one outside docs, where the page is nothing but a link to it."""
    only = ONE_LINK.fullmatch(page.read_text())
    return (page.parent / only[1]).resolve() if only else None


STANDS_FOR = {file: page for page in HERE.rglob("*.md") if (file := elsewhere(page))}


def with_links(_app: Any, docname: str, source: list[str]) -> None:
    """Links that hold in the repository become links that hold on the site, and files outside docs become pages."""
    page = HERE / f"{docname}.md"
    origin = elsewhere(page) or page
    if origin != page:
        source[0] = origin.read_text()

    def moved(link: re.Match[str]) -> str:
        target = (origin.parent / link[2]).resolve()
        if not target.is_file():
            return link[0]
        return f"{link[1]}{os.path.relpath(STANDS_FOR.get(target, target), page.parent)}{link[3] or ''}{link[4]}"

    source[0] = LINK.sub(moved, source[0])


def as_plain_text(_app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with code in single backticks or indented: other markup of reST is escaped."""
    out: list[str] = []
    literal = False
    for line in lines:
        indented = line.startswith("    ")
        begins = indented and not literal and out[-1:] == [""] and not line.lstrip().startswith(">>>")
        literal = begins or (literal and (indented or not line))
        if begins:
            out += ["::", ""]
        if literal or line.lstrip().startswith(">>>"):
            out.append(line)
        else:
            parts = line.split("`")
            parts[::2] = [re.sub(r"[|*]|(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
            out.append("`".join(parts))
    lines[:] = out


def setup(app: Any) -> None:
    app.connect("source-read", with_links)
    app.connect("autodoc-process-docstring", as_plain_text)
