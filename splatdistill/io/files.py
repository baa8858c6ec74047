"""Files that are whole or absent."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from splatdistill.utils.system import sync


class NotWritten(OSError):
    """A file could not be written whole, and is as it was; says why in one sentence."""

    @classmethod
    def because(cls, path: Path, error: OSError) -> NotWritten:
        """What was to be written, and what the system said."""
        return cls(f"{path} was not written: {_REASONS.get(error.errno or 0) or error.strerror or error}.")


_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "it would be too large",
    errno.EISDIR: "a folder has that name",
}


@contextmanager
def replacing(path: Path) -> Generator[Path, None, None]:
    """A temporary path beside `path`, with its suffix, for the caller to write.

    When the block ends well, that file takes the place of `path`, synced to disk; when it raises, `path` is as it was.
    Where the system does not let it be written there, that is a NotWritten.
    """
    # Opened by the caller in the usual way, so it gets the usual permissions (mkstemp's are the owner's alone).
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")  # `sweep` knows the shape of this name
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        if error.errno in _REASONS or error.filename in (str(temporary), temporary, str(path.parent), path.parent):
            raise NotWritten.because(path, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def is_full(folder: Path) -> bool:
    """Whether the disk that `folder` lies on has no room left."""
    return shutil.disk_usage(folder).free < 1 << 16


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def remove_folder(path: Path) -> None:
    """Removes a folder and all in it, as far as the system lets. Anything else of that name stays: shutil.rmtree alone
    would open a pipe, and wait for ever.
    """
    with suppress(OSError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Removes what killed processes left half written anywhere below `folder`."""
    for path in list(folder.rglob(".*.[0-9]*.tmp*")):
        if path.is_dir() and not path.is_symlink():
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)
