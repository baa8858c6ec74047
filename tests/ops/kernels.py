"""Which kernels the programs without torch check, by the names in their cases."""

from __future__ import annotations

import re

from tests.packaging.audit import ROOT


def _names(folder: str, pattern: str) -> set[str]:
    text = "".join(path.read_text() for path in sorted((ROOT / "csrc" / folder / "check").glob("*.[ch]*")))
    return set(re.findall(pattern, text))


def on_cpu() -> list[str]:
    """Of csrc/cpu/check."""
    return sorted(_names("cpu", r'check\.begin\([^,]+, "(\w+)"\)'))


def on_cuda() -> set[str]:
    """Of csrc/cuda/check."""
    return _names("cuda", r'(?:Verdict |, )\w+\("(\w+)"\)') | _names("cuda", r'Registered \w+\("(\w+)"')
