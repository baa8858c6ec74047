"""The cache: one folder for what can be made anew. What cannot be written there is done without, after a note."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from splatdistill.io.files import write_text

VARIABLE = "SPLATDISTILL_CACHE"
PRECISION, ENGINES, TEXTS = "precision.json", "engines.json", "text"
KINDS = {
    TEXTS: "encoded prompts",
    PRECISION: "speeds of fp32 and bf16",
    ENGINES: "differences of onnxruntime from torch",
}
"""Everything that is ever kept in the folder, a file or a folder each, and what it is."""


@dataclass(frozen=True)
class Kept:
    """What the cache holds of one kind. num_bytes: of all its files."""

    what: str
    num_files: int
    num_bytes: int

    def __str__(self) -> str:
        return f"{self.num_files} file{'s' * (self.num_files != 1)}, {self.num_bytes / 1e6:.2f} MB"


def cache_folder() -> Path:
    """Where what can be made anew is kept: SPLATDISTILL_CACHE, or the user's cache folder."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "splatdistill"
    except RuntimeError:  # a user without a home
        return Path(os.devnull)  # where nothing can be written


def read_cache(name: str) -> dict[str, Any]:
    """A file of the cache folder; empty where there is none, or it cannot be read."""
    try:
        held = json.loads((cache_folder() / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", held) if isinstance(held, dict) else {}


def write_cache(name: str, held: dict[str, Any]) -> None:
    """Writes it, or does without where that cannot be."""
    with writing(name) as path:
        write_text(path, json.dumps(held, indent=1) + "\n")


@contextmanager
def writing(name: str) -> Generator[Path, None, None]:
    """A path in the cache for the caller to write whole. An OSError in the block, as of a full or read-only disk,
    becomes a note on stderr, once in a process.
    """
    assert name.partition("/")[0] in KINDS, "`clear` would leave it"
    path = cache_folder() / name
    with suppress(OSError):  # the block then has one of its own
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield path
    except OSError as error:
        _say_once(cache_folder(), error.strerror or str(error).rstrip("."))


def contents() -> list[Kept]:
    """What is kept of each of KINDS, in their order."""
    return [Kept(what, *size(cache_folder() / name)) for name, what in KINDS.items()]


def size(*places: Path) -> tuple[int, int]:
    """Number of the files below `places`, which may be files themselves or absent, and their bytes. Links are not
    followed; what cannot be read counts for nothing.
    """
    count = total = 0
    for place in places:
        for path in place.rglob("*") if place.is_dir() and not place.is_symlink() else (place,):
            with suppress(OSError):
                if path.is_file() and not path.is_symlink():
                    count, total = count + 1, total + path.lstat().st_size
    return count, total


def clear() -> None:
    """Removes what is of KINDS, and the folder if nothing else is in it. ValueError, one sentence, where it cannot."""
    folder = cache_folder()
    try:
        for name in KINDS:
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.exists() or path.is_symlink():
                path.unlink()
            for left in folder.glob(f".{path.stem}.[0-9]*.tmp{path.suffix}"):  # of processes that were killed
                left.unlink(missing_ok=True)
        with suppress(OSError):  # it holds files of others, or is not there
            folder.rmdir()
    except OSError as error:
        raise ValueError(f"cache: {error.filename or folder} cannot be removed: {error.strerror}.") from error


@functools.cache
def _say_once(folder: Path, reason: str) -> None:
    if folder == Path(os.devnull):
        where = "there is no home folder to keep a cache in"
    else:
        where = f"the cache folder {folder} cannot be written ({reason})"
    print(
        f"Note: {where}, so each run makes anew what would be kept there; {VARIABLE}=FOLDER names another one.",
        file=sys.stderr,
    )
