"""Randomness as a function of (seed, step, stream): nothing to store, so a resumed run draws what the first would
have drawn.
"""

from __future__ import annotations

import hashlib

import torch

STREAMS = ("init", "camera", "timestep", "noise", "background", "light", "split", "lora")


def generator(seed: int, step: int, stream: str) -> torch.Generator:
    """A CPU generator for one purpose at one step. Draw on the CPU and copy, so that every device sees the same
    numbers.
    """
    if stream not in STREAMS:
        raise KeyError(stream)
    return torch.Generator().manual_seed(key(seed, step, stream))


def key(seed: int, step: int, stream: str) -> int:
    """A 63-bit integer that differs for every (seed, step, stream); feeds generators and the counter-based Philox of
    densify.
    """
    digest = hashlib.blake2b(f"{seed}/{step}/{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
