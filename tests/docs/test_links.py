"""Links of every page lead somewhere, and a newcomer's questions are answered within two clicks of README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import README, anchors, links, markdown, name_of

QUESTIONS = {
    "how do I use Stable Diffusion": r"splatdistill train --prior sd15 --prompt",
    "what does VSD cost": r"\*\*Cost\.\*\* 4 network evaluations per view and step",
    "which way is up": r"\+y is up, and the front of the object faces \+z",
    "how do I add a method": r"## Adding a method",
    "does it run on my Mac": r"macOS, with Intel or Apple silicon \| not supported",
}


@pytest.mark.parametrize("page", markdown(), ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    broken = [f"{path.name}#{anchor}" for path, anchor in links(page) if not _is_there(path, anchor)]
    assert broken == []


def _is_there(path: Path, anchor: str) -> bool:
    return path.exists() and (not anchor or path.suffix != ".md" or anchor in anchors(path))


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_answered_within_two_clicks(question: str) -> None:
    answer, reached = re.compile(QUESTIONS[question]), {README}
    for _ in range(2):
        reached |= {path for page in reached for path, _ in links(page) if path.suffix == ".md" and path.exists()}
    assert any(answer.search(page.read_text()) for page in reached), question


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_site_answers_it_too(question: str) -> None:
    """From the first page of the documentation, of which the navigation on the left is no part."""
    answer, reached = re.compile(QUESTIONS[question]), {README.parent / "docs" / "index.md"}
    for _ in range(2):
        reached |= {path for page in reached for path, _ in links(page) if path.suffix == ".md" and path.exists()}
    assert any(answer.search(page.read_text()) for page in reached), question


def test_every_page_is_in_the_navigation() -> None:
    docs = README.parent / "docs"
    named = set(re.findall(r"^[\w/-]+$", (docs / "index.md").read_text(), flags=re.M))
    assert {str(page.relative_to(docs).with_suffix("")) for page in docs.rglob("*.md")} - {"index"} == named
