"""The shortest run, as flags, and what a refusal looks like."""

from __future__ import annotations

import pytest

TINY = [
    "--config", "smoke", "--steps", "4", "--size", "32", "--splats.num-init", "50", "--output.size", "32",
    "--output.frames", "4", "--output.save-every", "2",
]  # fmt: skip


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence on stderr."""
    text = capsys.readouterr().err
    assert text.startswith("splatdistill: ")
    assert text.count("\n") == 1
    assert "Traceback" not in text
    return text.strip()
