"""A record of a long check holds for the files that it was made of, whatever git did to the commits."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import nightly
import pytest

from tests.packaging.audit import ROOT


@pytest.fixture
def repository(tmp_path):
    def git(*words):
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    (tmp_path / "covered").mkdir()
    (tmp_path / "covered" / "a.txt").write_text("a")
    (tmp_path / "other.txt").write_text("o")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    return tmp_path, git


def checks(*command):
    return {"it": nightly.Check(command, ("covered",))}


def test_a_record_holds_until_a_covered_file_changes(repository):
    root, git = repository
    table = checks("true")
    assert nightly.complaints(root, table, {}) == ["it: there is no record."]
    (root / "covered" / "a.txt").write_text("b")  # the change and its record go into one commit
    records = {"it": nightly.run(root, table["it"])}
    assert records["it"]["result"] == "passed"
    assert nightly.complaints(root, table, records) == []
    (root / "other.txt").write_text("p")
    git("commit", "-qam", "two")
    git("commit", "-q", "--amend", "-m", "squashed")
    assert nightly.complaints(root, table, records) == []
    (root / "covered" / "new.txt").write_text("")  # not yet added, but it will be
    assert "on other files than there are now in covered" in nightly.complaints(root, table, records)[0]
    (root / "covered" / "new.txt").unlink()
    (root / "covered" / "a.txt").rename(root / "covered" / "b.txt")
    assert len(nightly.complaints(root, table, records)) == 1


def test_a_record_needs_no_history(repository, tmp_path_factory):
    """As CI has it: a shallow clone. Without git there is nothing to compare with, and that is said."""
    root, git = repository
    table = checks("true")
    records = {"it": nightly.run(root, table["it"])}
    (root / "other.txt").write_text("p")
    git("commit", "-qam", "two")
    shallow = tmp_path_factory.mktemp("clone") / "shallow"
    git("clone", "-q", "--depth", "1", f"file:{'//'}{root}", str(shallow))
    assert nightly.is_checkout(shallow) and nightly.complaints(shallow, table, records) == []
    shutil.rmtree(shallow / ".git")
    assert not nightly.is_checkout(shallow)
    (root / "archive").mkdir()  # unpacked inside somebody else's tree
    assert not nightly.is_checkout(root / "archive")


def test_records_of_other_checks_are_kept(repository, monkeypatch, tmp_path_factory, capsys):
    root, _ = repository
    record = tmp_path_factory.mktemp("record") / "nightly.json"
    monkeypatch.setattr(nightly, "RECORD", record)
    monkeypatch.setattr(nightly.common, "ROOT", root)
    monkeypatch.setattr(nightly, "CHECKS", {name: nightly.Check(("true",), ("covered",)) for name in "ab"})
    for names, code in ((["b"], 1), (["a"], 0)):
        monkeypatch.setattr(sys, "argv", ["nightly.py", *(word for name in names for word in ("--only", name))])
        assert nightly.main() == 0
        monkeypatch.setattr(sys, "argv", ["nightly.py", "--check"])
        assert nightly.main() == code
    assert list(json.loads(record.read_text())) == ["a", "b"]
    assert capsys.readouterr().out.startswith("a: there is no record.\n")
    shutil.rmtree(root / ".git")
    assert nightly.main() == nightly.NOTHING_DONE
    assert capsys.readouterr().out.startswith("This folder is no git checkout")


def test_a_failed_check_is_recorded_as_failed(repository):
    root, _ = repository
    table = checks("false")
    records = {"it": nightly.run(root, table["it"])}
    assert nightly.complaints(root, table, records) == ["it: failed with code 1."]
    assert nightly.complaints(root, {}, records) == ["it: recorded, but there is no such check."]


def test_every_check_covers_files_and_runs_a_target():
    targets = set(re.findall(r"^([a-z][a-z0-9 -]*):", (ROOT / "Makefile").read_text(), flags=re.M))
    targets = {word for line in targets for word in line.split()}
    for name, check in nightly.CHECKS.items():
        assert check.command[0] == "make" and check.command[1] in targets, name
        assert all((ROOT / path).exists() for path in check.covers), name
