"""What the C library and Python do with freed memory: neither may cost a step, or the start, what it need not."""

from __future__ import annotations

import ctypes
import gc
import mmap
from collections.abc import Generator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST, _LARGEST_MMAP = 2**31 - 1, 2**25  # bytes, the most that it takes
_HEAP, _BLOCK = 2**29, 2**24  # bytes: what a run on a CPU needs, and pieces small enough to come from the heap


@contextmanager
def no_collections() -> Generator[None, None, None]:
    """No search for garbage in here. Imports make a million objects that stay, and Python looks at those it has again
    after every 700: a tenth of the time that torch takes to load.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def keep_freed_memory() -> bool:
    """For the whole process, so for programs to call and not for libraries; False where the allocator is not glibc's.

    By default glibc returns freed memory to the system and each step then pays for fresh pages: a tenth of a step of
    the rasteriser, some 8 % of a run with the embedded prior. Large pages save another 3 %.
    """
    try:
        libc = ctypes.CDLL(None)
        kept = libc.mallopt(_TRIM_THRESHOLD, _LARGEST) and libc.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP)
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    if kept:
        _prefer_large_pages(libc)
    return bool(kept)


def _prefer_large_pages(libc: ctypes.CDLL) -> None:
    """Grows the heap, of which nothing is used before something is written there, and asks for large pages in it."""
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    blocks = [block for block in (libc.malloc(_BLOCK) for _ in range(_HEAP // _BLOCK)) if block]
    for block in blocks:
        page = -(-block // mmap.PAGESIZE) * mmap.PAGESIZE
        libc.madvise(page, _BLOCK - mmap.PAGESIZE, mmap.MADV_HUGEPAGE)  # advice: a refusal changes nothing
        libc.free(block)
