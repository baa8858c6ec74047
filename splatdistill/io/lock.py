"""One writer a run folder: a lock that a process holds until it ends, and that says who it is.

The system drops the lock with the process, however that ends. Where a network disk knows no locks, the file alone
counts: what it says of a dead process of this machine is stale, and of another machine it is believed.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Any, cast

from splatdistill.io.inside import open_inside
from splatdistill.utils.system import is_running, life, lock_file

LOCK = "lock.json"
MAX_BYTES = 1 << 12
_TRIES, _PAUSE = 40, 0.05  # while another one writes who it is, or lets go
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


@dataclass(frozen=True)
class Holder:
    """A process. since: when it took the lock; life: tells it from an earlier one with its number, where known."""

    host: str
    pid: int
    since: str
    life: str


class Held(ValueError):
    """Another process writes into the folder; says in one sentence which."""


class Claim:
    """The right to write into a folder that is there, until `release` or the end of the process.

    Held, a ValueError of one sentence, where another process has it; ValueError where no file can be made there.
    """

    def __init__(self, folder: Path) -> None:
        self._file: BufferedRandom | None = None
        self._by_name = False  # without the system's lock
        self.folder = folder
        me = json.dumps(asdict(_this_process())).encode()
        try:
            self._file = _locked(folder)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise ValueError(f"{folder} cannot be written to: {error.strerror}.") from error
            _take_file(folder, me)
            self._by_name = True
            return
        self._file.truncate(0)
        self._file.seek(0)
        self._file.write(me)
        self._file.flush()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        """Lets another process write; once, however often it is called."""
        file, self._file = self._file, None
        if file is not None:
            with file, suppress(OSError):
                file.truncate(0)
        elif self._by_name:
            (self.folder / LOCK).unlink(missing_ok=True)
        self._by_name = False


def refuse_held(folder: Path) -> None:
    """Held, where another process writes into the folder now. Changes nothing."""
    try:
        file = open_inside(folder, LOCK)
    except OSError:
        return
    with file:
        try:
            lock_file(file, shared=True)
        except BlockingIOError:
            raise Held(_sentence(folder, _holder(folder))) from None
        except OSError:
            if (holder := _holder(folder)) and _alive(holder):
                raise Held(_sentence(folder, holder)) from None


def _locked(folder: Path) -> BufferedRandom:
    """The lock's file, locked for this process. OSError of `_NO_LOCKS` where the disk knows no locks."""
    for _ in range(_TRIES):
        file = open_inside(folder, LOCK, flags=os.O_RDWR | os.O_CREAT)
        try:
            lock_file(file)
            return file
        except BlockingIOError:
            file.close()
            if holder := _holder(folder):
                raise Held(_sentence(folder, holder)) from None
            time.sleep(_PAUSE)
        except OSError:
            file.close()
            raise
    raise Held(_sentence(folder, None))


def _take_file(folder: Path, me: bytes) -> None:
    """Makes the file this process's by names alone, which network disks keep apart: a link is made once."""
    path, mine = folder / LOCK, folder / f".{LOCK}.{os.getpid()}.tmp"
    stale = mine.with_suffix(".tmp-stale")
    holder = _holder(folder)
    if holder and _alive(holder):
        raise Held(_sentence(folder, holder))
    try:
        mine.write_bytes(me)
        with suppress(FileNotFoundError):
            path.rename(stale)  # empty, or of a process that is gone: one alone takes it away
        if stale.exists() and _holder(folder, stale.name) != holder:  # another one was faster
            with suppress(FileExistsError):
                os.link(stale, path)
        os.link(mine, path)
    except FileExistsError:
        raise Held(_sentence(folder, _holder(folder))) from None
    finally:
        mine.unlink(missing_ok=True)
        stale.unlink(missing_ok=True)


def _holder(folder: Path, name: str = LOCK) -> Holder | None:
    """Who the file says that it is; None where it says nothing."""
    try:
        with open_inside(folder, name) as file:
            found = json.loads(file.read(MAX_BYTES))
        values = cast("dict[str, Any]", found)
        return Holder(str(values["host"]), int(values["pid"]), str(values["since"]), str(values["life"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _this_process() -> Holder:
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime())
    return Holder(platform.node(), os.getpid(), now, life(os.getpid()))


def _alive(holder: Holder) -> bool:
    """Whether the process may still be there: of another machine nobody here can tell."""
    if holder.host != platform.node():
        return True
    return is_running(holder.pid) and (not holder.life or life(holder.pid) in ("", holder.life))


def _sentence(folder: Path, holder: Holder | None) -> str:
    if holder is None:
        return f"{folder} is being written by another process; wait for its end, or stop it."
    who = f"process {holder.pid} on {holder.host}"
    shown = "".join(char if char.isprintable() else "?" for char in f"{who} since {holder.since}")[:200]
    return f"{folder} is being written by {shown}; wait for its end, or stop it."
