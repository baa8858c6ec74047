"""The comparison of digests: equal ones pass, others are named, and records of other runs are refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import digests
import pytest

from splatdistill.config.schema import METHODS


def run(monkeypatch: pytest.MonkeyPatch, *words: str, **changed: str) -> None:
    monkeypatch.setattr(digests, "digest_of", lambda method, **_: changed.get(method, method))
    monkeypatch.setattr(sys, "argv", ["digests.py", *words])
    digests.main()


def test_a_change_is_named_and_another_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = str(tmp_path / "before.json")
    run(monkeypatch, "--json", before)
    assert set(json.loads(Path(before).read_text())["sha256"]) == set(METHODS)
    run(monkeypatch, "--against", before)
    with pytest.raises(SystemExit, match=r"differ from .*: vsd\."):
        run(monkeypatch, "--against", before, vsd="other")
    with pytest.raises(SystemExit, match="another machine, torch, prompt or number of steps"):
        run(monkeypatch, "--against", before, "--steps", "61")


@pytest.mark.slow
def test_the_digest_is_of_the_splats_and_repeats() -> None:
    first, again = (digests.digest_of("sds", prompt="a red armchair", steps=1) for _ in range(2))
    assert first == again != digests.digest_of("sds", prompt="a red armchair", steps=2)
