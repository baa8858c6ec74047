"""What a kind of procedural object is."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from splatdistill.embedded.corpus.primitives import Part


@dataclass(frozen=True)
class Family:
    """One kind of procedural object. extras: how a caption names the second and the third colour, as in "a {} hat"."""

    name: str
    make: Callable[[random.Random], list[Part]]
    extras: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()
