"""The command line in a process that has, as far as our code can tell, what Windows or macOS has and no more:

    python -m tests.portability.elsewhere win32 train --prompt "a red ball" ...

What other packages do there is not tried: they are loaded before. `modules` in place of a verb imports all of ours.
"""

from __future__ import annotations

import builtins
import ctypes
import importlib
import mmap
import os
import pkgutil
import select
import shutil
import signal
import sys
import types
from fcntl import LOCK_EX, LOCK_NB, flock
from typing import Any

import psutil

OTHERS = (
    "torch", "numpy", "tyro", "rich.console", "rich.progress", "rich.live", "PIL.Image", "PIL.ImageDraw", "yaml",
    "plyfile", "zstandard", "safetensors.torch", "diffusers", "transformers", "peft", "jinja2",
    "starlette.applications", "uvicorn", "uvicorn.protocols.http.h11_impl", "asyncio", "multiprocessing.connection",
    "tempfile", "imageio_ffmpeg", "psutil", "trimesh", "scipy.spatial", "scipy.ndimage", "skimage.measure",
    "webbrowser", "concurrent.futures.thread", "pydoc",
)  # fmt: skip
POSIX_MODULES = ("fcntl", "resource", "termios", "pwd", "grp", "pty", "tty")
POSIX_CALLS = ("fork", "setpgrp", "getpgid", "setsid", "killpg", "getuid", "geteuid", "uname", "mkfifo")
POSIX_FLAGS = ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_DIRECTORY")
POSIX_SIGNALS = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGALRM", "SIGQUIT")


def hide_proc() -> None:
    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.listdir") and str(arguments[0]).startswith("/proc"):
            if "psutil" in sys._getframe(2).f_code.co_filename:  # which asks otherwise there
                return
            raise FileNotFoundError(2, "No such file or directory", arguments[0])

    sys.addaudithook(audit)
    del os.sched_getaffinity


def be_macos() -> None:
    hide_proc()
    sys.platform = "darwin"
    del mmap.MADV_HUGEPAGE
    ctypes.CDLL = lambda name: types.SimpleNamespace()  # type: ignore[assignment,misc]  (an allocator without mallopt)


def be_windows() -> None:
    hide_proc()
    for name in POSIX_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for place, names in ((os, (*POSIX_CALLS, *POSIX_FLAGS)), (signal, POSIX_SIGNALS), (select, ("poll", "epoll"))):
        for name in names:
            delattr(place, name)
    signal.CTRL_BREAK_EVENT = 1  # type: ignore[attr-defined]
    sys.modules["msvcrt"] = msvcrt()
    sys.modules["imageio_ffmpeg"] = None  # type: ignore[assignment]  (it starts its program in the way of Windows)
    sys.platform = "win32"
    shutil._use_fd_functions = False  # type: ignore[attr-defined]  (as it is there: no folder can be opened)
    psutil.Process.memory_info = lambda self: types.SimpleNamespace(peak_wset=10**9)  # type: ignore[method-assign]
    os.kill = kill  # type: ignore[assignment]
    os.fsync, os.open = fsync_of(os.fsync), open_of(os.open)  # type: ignore[assignment]
    ctypes.CDLL = dll  # type: ignore[assignment,misc]


def kill(pid: int, number: int) -> None:
    raise AssertionError(f"os.kill({pid}, {number}) ends the process on Windows, whatever the signal")


def dll(name: str | None) -> object:
    if name is None:
        raise TypeError("argument of type 'NoneType' is not iterable")  # as Windows has it
    return types.SimpleNamespace()


def open_of(before: Any) -> Any:
    def opened(path: Any, flags: int, *arguments: Any, **words: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", path)
        return before(path, flags, *arguments, **words)

    return opened


def fsync_of(before: Any) -> Any:
    def synced(handle: int) -> None:
        os.write(handle, b"")  # a handle to read with is refused there
        before(handle)

    return synced


def msvcrt() -> types.ModuleType:
    """Locks that are refused at once and fall with the file, as those of Windows."""
    module = types.ModuleType("msvcrt")

    def locking(handle: int, mode: int, size: int) -> None:
        assert mode == module.LK_NBLCK and size == 1 and os.lseek(handle, 0, os.SEEK_CUR) > os.fstat(handle).st_size
        try:
            flock(handle, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise PermissionError(13, "Permission denied") from None

    module.LK_NBLCK, module.locking = 2, locking  # type: ignore[attr-defined]
    return module


def import_all() -> int:
    import splatdistill

    names = [module.name for module in pkgutil.walk_packages(splatdistill.__path__, "splatdistill.")]
    names = [name for name in names if not name.endswith("__main__")]
    for name in names:
        importlib.import_module(name)
    builtins.print(len(names))
    return 0


def main() -> int:
    for name in OTHERS:
        importlib.import_module(name)
    {"win32": be_windows, "darwin": be_macos}[sys.argv[1]]()
    if sys.argv[2:] == ["modules"]:
        return import_all()
    from splatdistill import cli

    return cli.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
