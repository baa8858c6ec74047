"""Which versions are tried, where, and what the page says of it."""

import os
import subprocess
import sys

import dependency_range
import evidence

from tests.packaging.audit import ROOT

RECORD = evidence.read_json(ROOT / "benchmarks" / "results" / "pythons.json")


def test_the_floor_has_a_version_of_each_dependency_and_the_newest_are_free():
    floor, newest = (dependency_range.requirements(which) for which in ("floor", "newest"))
    assert [line.split(">=")[0] for line in newest] == [line.split("==")[0] for line in floor]
    assert all("==" in line and ">" not in line for line in floor)


def test_figures_are_those_of_pytest(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "def test_passes(): pass\n"
        "def test_passes_too(): pass\n"
        "def test_passes_again(): pass\n"
        "def test_fails(): assert 0\n"
        "def test_fails_early(absent): pass\n"
        "def test_skips(): pytest.skip('so')\n"
    )
    report = tmp_path / "tests.xml"
    words = ["-p", "no:cacheprovider", f"--rootdir={tmp_path}", f"--junitxml={report}", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pytest", *words], cwd=tmp_path, capture_output=True, check=False)
    assert dependency_range.counts(report) == {"passed": 3, "failed": 2, "skipped": 1}


def test_words_reach_a_debian_as_they_are():
    """Its shell is this machine's: what it takes apart must be what was put together."""

    class Shell:
        def entering(self, line):
            return ["sh", "-ec", 'eval "$LINE"'], os.environ | {"LINE": line}

    place = dependency_range.Place(Shell())
    words = ["a b", "it's", "two\nlines", "$HOME", ">=1"]
    code = "import os, sys; print(ascii(sys.argv[1:]), os.getcwd(), os.environ['HF_HUB_OFFLINE'])"
    assert place.read(sys.executable, "-c", code, *words) == f"{words!a} {ROOT} 1"


def test_the_page_has_the_recorded_figures():
    assert {"3.12", "3.13"} <= RECORD.keys()
    page = (ROOT / "docs" / "install.md").read_text()
    assert f"-->\n{dependency_range.table(RECORD)}\n<!--" in page
    assert [name for name, found in RECORD.items() if not found["python"].startswith(f"{name}.")] == []
