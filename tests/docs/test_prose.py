"""README and the pages of docs are short, in plain English, and use the words of the field."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import prose
from tests.docs.pages import PAGES, README, name_of

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
