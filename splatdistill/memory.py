"""The C library's allocator, told to keep what a step frees: the next step asks for the same again."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST, _LARGEST_MMAP = 2**31 - 1, 2**25  # bytes, the most that it takes


def keep_freed_memory() -> bool:
    """For the whole process, so for programs to call and not for libraries; False where the allocator is not glibc's.

    By default glibc returns freed memory to the system and each step then pays for fresh pages: a tenth of a step of
    the rasteriser, some 8 % of a run with the embedded prior.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _LARGEST) and mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP))
