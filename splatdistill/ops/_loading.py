"""Why the operators do not load, in one sentence with the command that mends it. Needs no torch."""

from __future__ import annotations

import platform
import re
from pathlib import Path

OLDEST_TORCH = "2.11"  # whose stable interface the operators are built on; pyproject.toml asks for it
BUILD = "`pip install --no-build-isolation .` in the sources builds them here"
EXTENSIONS = ("_C.*.so", "_C.*.pyd")
PROCESSORS = {3: "i686", 22: "s390x", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}  # e_machine of ELF


class CannotLoad(ImportError):
    """An installation that cannot work; `sentences` is what the command line says."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentences = [sentence]


def check_torch(version: str) -> None:
    """CannotLoad for a torch below OLDEST_TORCH."""
    if _numbers(version) < _numbers(OLDEST_TORCH):
        raise CannotLoad(
            f"torch {version} is too old, splatdistill needs {OLDEST_TORCH} or newer: "
            f"`pip install 'torch>={OLDEST_TORCH}'`."
        )


def _numbers(version: str) -> list[int]:
    """[2, 13] of "2.13.0+cpu"."""
    return [int(number) for number in re.findall(r"\d+", version)[:2]]


def reason(error: str, *, torch: str, package: Path) -> str:
    """One sentence for the message of an ImportError of the extension. package: the folder that holds it."""
    files = [found for pattern in EXTENSIONS for found in package.glob(pattern)]
    if not files:
        return (
            f"There are no operators of splatdistill for Python {platform.python_version()} on {platform.system()} "
            f"{platform.machine()} in {package}: {BUILD}."
        )
    other = _processor(files[0])
    if other not in (None, platform.machine()):
        return f"The operators of splatdistill are for {other}, and this processor is {platform.machine()}: {BUILD}."
    if newer := re.search(r"version [`']((?:GLIBC|GLIBCXX|CXXABI)_[\d.]+)'? not found", error):
        return f"The operators of splatdistill were built for a system with {newer[1]}, which this one lacks: {BUILD}."
    if symbol := re.search(r"undefined symbol: (\w+)", error):
        return (
            f"The operators of splatdistill do not fit torch {torch}, which has no {symbol[1]}: "
            f"`pip install --upgrade torch` brings the newest, and {BUILD}."
        )
    return f"The operators of splatdistill do not load ({error}): {BUILD}."


def _processor(library: Path) -> str | None:
    """Which processor a library of Linux is for, as `platform.machine` calls it; None for any other file.

    Of the library of another processor the loader only says that there is no such file.
    """
    head = library.read_bytes()[:20]
    return PROCESSORS.get(int.from_bytes(head[18:20], "little")) if head[:4] == b"\x7fELF" else None
