"""What training never sees, so that a figure on it means something. Every answer is a hash of the thing's name: nothing
is drawn, stored or changed later. `tests/embedded/test_splits.py` holds the answers.

The first prior was trained before there were splits: it saw all colours on its own 40 nouns. Models that it saw are
never held out, but colours on its nouns are; these are unseen only by a prior that is trained from scratch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

PAIR_SHARE, INSTANCE_SHARE, RELATION_SHARE = 0.1, 0.2, 0.1
MIN_INSTANCES = 4


def held_out_pair(colour: str, noun: str) -> bool:
    """Whether no training picture shows the noun in this colour; both by their first names."""
    return _fraction(f"pair/{colour}/{noun}") < PAIR_SHARE


def held_out_relation(upper: tuple[str, str], word: str, lower: tuple[str, str]) -> bool:
    """Whether (colour, shape) `upper` never stands `word` ("on", "next to") the (colour, shape) `lower`."""
    return _fraction(f"relation/{' '.join(upper)} {word} {' '.join(lower)}") < RELATION_SHARE


def held_out_instances(models: Iterable[str], *, seen: Collection[str] = ()) -> frozenset[str]:
    """Of a noun's models a fifth, at least one, those of lowest hash; none of fewer than four. `seen`: never these."""
    everyone = list(models)
    if len(everyone) < MIN_INSTANCES:
        return frozenset()
    free = sorted((m for m in everyone if m not in seen), key=lambda m: _fraction(f"instance/{m}"))
    return frozenset(free[: max(1, round(INSTANCE_SHARE * len(everyone)))])


def _fraction(name: str) -> float:
    """A number in 0..1 that only the name decides."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
