"""The one way to open what lies in a folder that may be a stranger's: files that are files, and no link out of it.

A pipe would wait for ever, a device would never end, and a link could name any file of the user's.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedRandom
from pathlib import Path
from typing import cast

_NAMES = ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY")  # as far as the system has them
_FLAGS = sum(getattr(os, name, 0) for name in _NAMES)


def open_inside(folder: Path, name: str, *, flags: int = os.O_RDONLY) -> BufferedRandom:
    """Opens a file of `folder`, to read unless `flags` (of os.open) say otherwise.

    OSError for one that is missing, is no regular file (a pipe, a device, a folder), or lies outside by a link.
    """
    path = Path(os.path.realpath(folder / name))
    if not path.is_relative_to(os.path.realpath(folder)):
        raise OSError(errno.EPERM, "it is a link that leads out of the folder", str(folder / name))
    handle = os.open(path, flags | _FLAGS, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EPERM, "it is not a regular file", str(folder / name))
    mode = "ab" if flags & os.O_APPEND else "rb" if flags == os.O_RDONLY else "r+b"
    return cast("BufferedRandom", os.fdopen(handle, mode))  # which has all that the others have


def file_inside(folder: Path, name: str) -> Path | None:
    """The path of a regular file of `folder`; None for anything that `open_inside` refuses."""
    try:
        open_inside(folder, name).close()
    except (OSError, ValueError):  # ValueError: a name with a null byte
        return None
    return folder / name


def may_change(folder: Path) -> bool:
    """Whether this user may list a folder and make files in it."""
    return os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def subfolder(folder: Path, name: str) -> Path | None:
    """The path of a folder of `folder` that is no link; None for anything else."""
    try:
        return folder / name if stat.S_ISDIR((folder / name).lstat().st_mode) else None
    except (OSError, ValueError):
        return None
