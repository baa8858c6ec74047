"""The ranks of torchrun, each of which makes its share of the prompts."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from dataclasses import dataclass

_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")


@dataclass(frozen=True)
class Rank:
    """This process among `world`, the `local`-th on its machine. joined: they can reach each other."""

    rank: int = 0
    world: int = 1
    local: int = 0
    joined: bool = False

    @staticmethod
    def here() -> Rank:
        rank, world, local = (int(os.environ.get(name) or 0) for name in _NAMES[:3])
        return Rank(rank, world or 1, local, world > 1 and "MASTER_ADDR" in os.environ)

    @property
    def is_first(self) -> bool:
        """Whether it speaks for all; where they cannot reach each other, each speaks for itself."""
        return self.rank == 0 or not self.joined

    def any(self, failed: bool) -> bool:
        """Whether one of the ranks says so, once all are here: torchrun ends them all when one ends with an error."""
        if not self.joined:
            return failed
        import torch

        from splatdistill.utils.distributed import Ranks

        ranks = Ranks.join(torch.device("cpu"))
        found = ranks.any(failed)
        ranks.leave()
        return found


def alone(environment: MutableMapping[str, str]) -> None:
    """Takes torchrun out of the environment of a worker, whose runs are not shared with other ranks."""
    for name in _NAMES:
        environment.pop(name, None)
