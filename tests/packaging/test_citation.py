"""CITATION.cff, issue templates and badges say what the package says."""

from __future__ import annotations

import re
import tomllib

import yaml

import splatdistill
from splatdistill.config.schema import GUIDANCE
from tests.packaging.audit import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_the_citation_is_of_this_version_and_licence() -> None:
    """Fields that version 1.2.0 of the format asks for, and each method's paper."""
    assert {"cff-version", "message", "title", "authors"} <= set(CITATION)
    assert str(CITATION["version"]) == splatdistill.__version__
    assert CITATION["license"] == PROJECT["license"]
    papers = {reference["notes"]: reference["url"].rpartition("/")[2] for reference in CITATION["references"]}
    assert papers == {name: kind.paper.rpartition(" ")[2] for name, kind in GUIDANCE.items()}


def test_badges_of_readme_are_true() -> None:
    import doc_figures

    named = set(re.findall(r"figures/badge-(\w+)\.svg", (ROOT / "README.md").read_text()))
    assert named == set(doc_figures.badges())
    for name, (label, value) in doc_figures.badges().items():
        text = (ROOT / "docs" / "figures" / f"badge-{name}.svg").read_text()
        assert text == doc_figures.badge(label, value)


def test_issue_forms_are_whole() -> None:
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"]
    assert len(forms) == 2
    for path in forms:
        form = yaml.safe_load(path.read_text())
        assert {"name", "description", "body"} <= set(form)
        ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
        assert len(ids) == len(set(ids)) > 0
