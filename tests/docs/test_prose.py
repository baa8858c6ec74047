"""README and the pages of docs are short, in plain English, and use the words of the field."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import prose
from tests.docs.pages import PAGES, README, name_of
from tests.packaging.audit import ROOT

LINES, WORDS = 180, 1400  # of README, as `wc` counts
MEAN, LONGEST = 16, 25  # words of a sentence


def test_readme_is_short() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= LINES
    assert len(text.split()) <= WORDS


@pytest.mark.parametrize("page", [README, *PAGES], ids=name_of)
def test_sentences_are_short(page: Path) -> None:
    found = prose.sentences(page.read_text())
    lengths = [prose.words(sentence) for sentence in found]
    assert [sentence for sentence, length in zip(found, lengths, strict=True) if length > LONGEST] == []
    assert sum(lengths) <= MEAN * len(lengths)


@pytest.mark.parametrize("page", [README, *PAGES], ids=name_of)
def test_no_page_has_words_of_our_own_making(page: Path) -> None:
    assert prose.banned(page.read_text()) == []


def public_modules() -> Iterator[Path]:
    """Those of the public API, those whose docstrings the site prints, and those whose docstrings are help."""
    yield from (ROOT / "splatdistill").glob("__init__.py")
    for folder in ("api", "commands", "guidance/methods"):
        yield from (ROOT / "splatdistill" / folder).glob("*.py")
    for page in (ROOT / "docs" / "api").glob("*.md"):
        for name in re.findall(r"^\.\. auto(?:module|class):: splatdistill\.([a-z_.]+)", page.read_text(), flags=re.M):
            path = ROOT / "splatdistill" / name.rstrip(".").replace(".", "/")
            yield from [path.with_suffix(".py")] if path.with_suffix(".py").is_file() else path.glob("*.py")


def test_no_docstring_of_the_public_api_has_words_of_our_own_making() -> None:
    paths = sorted(set(public_modules()))
    assert {"distilling.py", "train.py", "sds.py", "schema.py", "kinds.py", "residual.py"} <= {
        path.name for path in paths
    }
    found: list[tuple[str, int, list[str]]] = []
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                if words := prose.banned(node.value.value):
                    found.append((path.name, node.lineno, words))
    assert found == []


def test_what_is_counted() -> None:
    """The counter sees planted faults, and neither code, tables nor links."""
    text = """# A heading of many words that is no sentence

One two [three four](page.md). Five `a b c` six!
- an item
  of five words
```
code is not read
```
| a | table that was told |
"""
    assert prose.sentences(text) == ["One two three four.", "Five Code six!", "an item of five words"]
    assert [prose.words(s) for s in prose.sentences(text)] == [4, 3, 5]
    assert prose.banned(text) == ["told"]
    assert prose.banned("It said `told` and [a link](told.md).") == []
    assert prose.banned("Every film, pictures through\nthe network.") == ["films?", "pictures? through the networks?"]


def test_readme_shows_first_what_a_newcomer_asks() -> None:
    """Within the first screen, about 60 lines: picture, what the prior knows, GPU, install and Python."""
    screen = "\n".join(README.read_text().splitlines()[:60])
    order = ["turntables.webp", "1,906 models of 697 nouns; 351 nouns", "**GPU.**", "## Install", "```python"]
    assert [screen.find(text) for text in order] == sorted(screen.find(text) for text in order)
    assert all(text in screen for text in order)
