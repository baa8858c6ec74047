"""Whether the pictures of a step fit into memory at all, before anything is made: Linux ends a process that takes too
much without a word, and without a checkpoint.
"""

from __future__ import annotations

import math

from splatdistill.config import settings
from splatdistill.config.schema import TrainConfig
from splatdistill.utils.memory import available

PIXEL = 32  # bytes of a pixel at the very least: colour, alpha, depth and the gradient of colour, in fp32
GB = 1e9


def refuse_too_large(config: TrainConfig, *, world: int) -> None:
    """ValueError, one sentence with what would fit, for a run on a CPU whose pictures are larger than what is free.
    world: processes that share the views of a step.
    """
    free = available()
    for _, stage in settings.stages(config):
        views = settings.particles(config) * stage.num_views / world
        if (need := PIXEL * views * stage.size**2) > free:
            most = int(math.sqrt(free / (PIXEL * views)))
            raise ValueError(
                f"size: the pictures of a step with {stage.num_views} views of {stage.size} pixels a side take at "
                f"least {need / GB:.3g} GB, and {free / GB:.3g} GB are free here; take a --size of at most {most}, or "
                "fewer --num-views."
            )
