"""Every call that not all systems have, once: locks on files, processes, signals, limits, and what lies in /proc.

Linux is what all of it was run on. macOS has the same calls but for /proc; the branches for Windows were run against
stand-ins alone (tests/portability).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import subprocess

WINDOWS = sys.platform == "win32"
if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

POLL = 0.05  # s between two tries of a lock, where the system does not wait itself
_LOCKED_BYTE = 1 << 20  # behind any contents: Windows keeps others from reading what is locked
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGBREAK")
STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""What asks a program to end: Ctrl-C, its parent, the terminal that was closed, a scheduler, Ctrl-Break of Windows."""
NEW_SESSION: dict[str, Any] = {"creationflags": 0x200} if WINDOWS else {"start_new_session": True}
"""For subprocess: Ctrl-C of the terminal does not reach the process. 0x200 is CREATE_NEW_PROCESS_GROUP."""


def lock_file(file: IO[Any], *, shared: bool = False, wait: bool = False) -> None:
    """Locks an open file until it is closed or the process ends. shared: with others that share it, where the system
    knows that. BlockingIOError where another one has it and `wait` is false; OSError where the disk knows no locks.
    """
    if sys.platform == "win32":
        while not _try_lock(file):
            if not wait:
                raise BlockingIOError("another process has the lock")
            time.sleep(POLL)
        return
    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


def _try_lock(file: IO[Any]) -> bool:
    """On Windows."""
    place = file.tell()
    file.seek(_LOCKED_BYTE)
    try:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # pyright: ignore
    except PermissionError:
        return False
    finally:
        file.seek(place)
    return True


def sync(path: Path) -> None:
    """Asks the system to put a file's bytes, or a folder's entries, on the disk. Windows does not know the second."""
    if WINDOWS and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_running(pid: int) -> bool:
    """Whether this machine has a process of that number."""
    if WINDOWS:  # os.kill would end it there
        import psutil

        return psutil.pid_exists(pid)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


def life(pid: int) -> str:
    """Tells a process from an earlier one of the same number: the boot of this machine and the process's start in its
    ticks; empty where the system does not tell.
    """
    words = proc(f"{pid}/stat").rpartition(")")[2].split()
    boot = proc("sys/kernel/random/boot_id").strip()
    return f"{boot} {words[19]}" if boot and len(words) > 19 else ""


def proc(name: str) -> str:
    """A file of Linux's /proc; empty on other systems, or where it may not be read."""
    try:
        return Path("/proc", name).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def waiting_seconds() -> float | None:
    """Seconds in which threads of this process that are still there were ready to run, but without a core."""
    try:
        threads = os.listdir("/proc/self/task")
    except OSError:
        return None
    found = [proc(f"self/task/{thread}/schedstat").split() for thread in threads]  # nothing of one that has ended
    return 1e-9 * sum(int(words[1]) for words in found if words) if any(found) else None


def num_cores() -> int:
    """Cores that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def max_open_files() -> int:
    """Files and connections that this process may have open at once."""
    if sys.platform == "win32":
        return 512  # of its C library; the system itself sets no limit
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def max_address_space() -> float:
    """Bytes that this process may map, as `ulimit -v` sets it; infinite where there is no limit."""
    if sys.platform == "win32":
        return float("inf")
    import resource

    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return float("inf") if soft == resource.RLIM_INFINITY else soft


def unheard(streams: Sequence[TextIO]) -> list[TextIO]:
    """Those whose reader has gone, as after `| head`. Windows does not tell: there all that are no terminal."""
    import select

    if not hasattr(select, "poll"):
        return [stream for stream in streams if not stream.isatty()]
    poll = select.poll()
    for stream in streams:
        poll.register(stream, 0)  # the system adds POLLERR, which a pipe without a reader has
    broken = {number for number, _ in poll.poll(0)}
    return [stream for stream in streams if stream.fileno() in broken]


def ask_to_end(process: subprocess.Popen[str]) -> None:
    """One of STOP_SIGNALS for a process that was begun with NEW_SESSION."""
    process.send_signal(signal.CTRL_BREAK_EVENT if sys.platform == "win32" else signal.SIGTERM)


def interrupt(number: signal.Signals) -> None:
    """A signal to this process itself, from whichever thread."""
    if WINDOWS:  # os.kill would end it there
        signal.raise_signal(number)
    else:
        os.kill(os.getpid(), number)


def leave_session() -> None:
    """Ctrl-C of the terminal no longer reaches this process, where the system has groups of processes."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()


def is_orphan(parent: int) -> bool:
    """Whether the process of number `parent` that began this one is gone."""
    return os.getppid() != parent or (WINDOWS and not is_running(parent))
