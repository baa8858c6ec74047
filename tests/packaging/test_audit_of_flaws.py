"""The audit says that all is well only where the database answered for every package."""

import sys

import pytest

from tests.packaging.audit import ROOT

sys.path.insert(0, str(ROOT / ".ci"))
import audit

# As pip-audit 2.10.1 writes them.
FINE = '{"name": "other", "version": "1", "vulns": []}'
FLAWED = (
    '{"name": "tiny", "version": "2.0", "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["2.1"], '
    '"aliases": ["CVE-2026-0001"], "description": "A flaw."}]}'
)
UNKNOWN = '{"name": "third", "skip_reason": "Dependency not found and could not be audited: third (3)"}'


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([FINE, FINE], 0, "No known flaw in 2 packages."),
        ([FINE, FLAWED], 1, "tiny 2.0: PYSEC-2026-1, mended in 2.1."),
        ([UNKNOWN, FLAWED], 1, "tiny 2.0: PYSEC-2026-1, mended in 2.1."),
        ([FINE, UNKNOWN], 77, "Not run for 1 of 2 packages, so nothing is known."),
        ([FINE], 77, "Not run for 1 of 2 packages, so nothing is known."),
    ],
)
def test_what_a_report_means(packages, code, said):
    report = f'{{"dependencies": [{", ".join(packages)}], "fixes": []}}'
    assert audit.verdict(report, said="", asked=2) == (code, said)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "pip-audit gave no reason."),
        ("a stack\nConnectionError: no such host\n", "ConnectionError: no such host"),
        ("ERROR:pip_audit._cli:tiny: Dependency not found\n", "tiny: Dependency not found"),
    ],
)
def test_without_a_report_nothing_is_claimed(said, reason):
    assert audit.verdict("", said=said, asked=2) == (77, f"Not run, so nothing is known: {reason}")


def test_torch_and_all_of_the_lock_are_asked_about():
    entries = [line for line in (ROOT / "requirements-dev.lock").read_text().splitlines() if "==" in line]
    asked = audit.pins()
    assert asked[0].startswith("torch==") and asked[1:] == [entry.split()[0] for entry in entries]


def test_a_program_that_is_not_there_is_no_success(monkeypatch, capsys):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert audit.main() == 77 and capsys.readouterr().out.startswith("Not run")
