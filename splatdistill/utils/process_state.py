"""What a training borrows of its process and gives back: the number of threads and torch's random numbers."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def num_threads(count: int) -> Generator[None, None, None]:
    """Computes with `count` CPU threads, 0 for as many as the caller has, whose number comes back at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def random_numbers() -> Generator[None, None, None]:
    """Puts the state of torch's global generators back at the end: networks draw from these when they are built, though
    no run depends on what they draw.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):  # pyright: ignore[reportUnknownMemberType]
        yield
