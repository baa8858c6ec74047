"""Records of figures: whole or not at all, and without any tool."""

from __future__ import annotations

import json
from pathlib import Path

import evidence
import pytest


def test_without_git_the_commit_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("COMMIT", raising=False)
    assert evidence.commit() == "unknown"
    monkeypatch.setenv("COMMIT", "abc1234")
    assert evidence.commit() == "abc1234"


def test_a_folder_inside_another_repository_is_not_of_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMMIT", "abc1234")
    monkeypatch.setattr(evidence, "ROOT", evidence.ROOT / "benchmarks")
    assert evidence.commit() == "abc1234"


def test_a_record_keeps_what_it_had_when_a_write_fails(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.json"
    record = evidence.Record(path, bench="x", cells=[1])
    with pytest.raises(TypeError):
        record.write(cells=[1, object()])
    assert json.loads(path.read_text()) == {"bench": "x", "cells": [1]}
    evidence.Record(path).write(outcome="passed")
    assert json.loads(path.read_text()) == {"bench": "x", "cells": [1], "outcome": "passed"}


def test_sources_that_differ_in_a_byte_have_another_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "ROOT", tmp_path)
    (tmp_path / "csrc").mkdir()
    (tmp_path / "setup.py").write_text("a")
    (tmp_path / "csrc" / "x.h").write_text("b")
    first = evidence.fingerprint()
    (tmp_path / "csrc" / "built.so").write_text("c")
    (tmp_path / "README.md").write_text("d")
    assert evidence.fingerprint() == first
    (tmp_path / "csrc" / "x.h").write_text("e")
    assert evidence.fingerprint() != first
