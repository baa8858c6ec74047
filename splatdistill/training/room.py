"""Whether the pictures of a step fit into memory at all, before anything is made: Linux ends a process that takes too
much without a word, and without a checkpoint.
"""

from __future__ import annotations

import math

from splatdistill.utils.memory import available

PIXEL = 32  # bytes of a pixel at the very least: colour, alpha, depth and the gradient of colour, in fp32
GB = 1e9


def refuse_too_large(num_views: int, *, size: int, share: float) -> None:
    """ValueError, one sentence with what would fit, for pictures of a step on a CPU that are larger than what is free.
    size: of their sides, pixels. share: how many times this process draws the views: once for each object, and less
    where other processes draw some.
    """
    free, views = available(), share * num_views
    if (need := PIXEL * views * size**2) > free:
        most = int(math.sqrt(free / (PIXEL * views)))
        raise ValueError(
            f"size: the pictures of a step with {num_views} views of {size} pixels a side take at least "
            f"{need / GB:.3g} GB, and {free / GB:.3g} GB are free here; take a --size of at most {most}, or fewer "
            "--num-views."
        )
