"""Families of procedural objects: each is a function of a seed; its caption names the colours of painted parts."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from splatdistill.embedded.corpus.animals import ANIMALS
from splatdistill.embedded.corpus.family import Family
from splatdistill.embedded.corpus.objects import OBJECTS
from splatdistill.embedded.corpus.primitives import Kind, Part, fit, solid
from splatdistill.utils.rng import key

Make = Callable[[random.Random], list[Part]]
SHAPES: dict[str, tuple[Kind, float]] = {
    "cube": ("box", 1.0), "ball": ("ball", 1.0), "cone": ("frustum", 0.0), "cylinder": ("frustum", 1.0),
    "pyramid": ("pyramid", 1.0), "ring": ("ring", 0.35),
}  # fmt: skip
_FLAT_TOPS = ("cube", "cylinder")  # on which others can stand


@dataclass(frozen=True)
class ProceduralObject:
    """Primitives in the unit ball. relation: (word, lower shape) where two shapes stand together; the first
    colour is the upper one's.
    """

    noun: str
    extras: tuple[str, ...]
    parts: list[Part]
    relation: tuple[str, str] | None = None


def make_object(family: str, *, seed: int, number: int) -> ProceduralObject:
    """Object `number` of a family, or of RELATIONS."""
    draw = random.Random(key(seed, number, family))  # noqa: S311 (nothing secret here)
    if family in RELATIONS:
        upper, lower, parts = _pair(draw, family)
        return ProceduralObject(upper, (), fit(parts), (family, lower))
    kind = BY_NAME[family]
    return ProceduralObject(kind.name, kind.extras, fit(kind.make(draw)))


def _shape(name: str, at: tuple[float, float, float], size: float, paint: int, *, turn: float = 0.0) -> Part:
    kind, ratio = SHAPES[name]
    if name == "ring":
        size /= 1 + ratio
    return solid(kind, at, size, paint, ratio=ratio, turn=(0, turn, 0))


def _single(name: str) -> Make:
    def make(d: random.Random) -> list[Part]:
        kind, ratio = SHAPES[name]
        tall = {"cube": 1.0, "ring": 1.0, "ball": d.uniform(0.93, 1.0)}.get(name, d.uniform(0.7, 1.6))
        ratio = d.uniform(0.25, 0.45) if name == "ring" else ratio
        lying = (d.choice((0.0, 90.0)), 0.0, 0.0) if name == "ring" else (0.0, d.uniform(-40, 40), 0.0)
        return [solid(kind, (0, 0, 0), (1, tall, 1), 0, ratio=ratio, turn=lying)]

    return make


def _pair(d: random.Random, relation: str) -> tuple[str, str, list[Part]]:
    """Two shapes on or next to each other."""
    upper = d.choice(list(SHAPES))
    lower = d.choice(_FLAT_TOPS if relation == "on" else [s for s in SHAPES if s != upper])
    small, large = d.uniform(0.55, 0.95), 1.0
    half = SHAPES["ring"][1] / (1 + SHAPES["ring"][1]) if upper == "ring" else 1.0
    if relation == "on":
        return upper, lower, [
            _shape(upper, (0, large + small * half, 0), small, 0, turn=d.uniform(-40, 40)),
            _shape(lower, (0, 0, 0), large, 1, turn=d.uniform(-40, 40)),
        ]  # fmt: skip
    side = d.choice((-1, 1))
    gap = d.uniform(1.1, 1.3)
    ring = SHAPES["ring"][1] / (1 + SHAPES["ring"][1])
    return upper, lower, [
        _shape(upper, (side * gap, -1 + (ring if upper == "ring" else 1), 0), 1, 0, turn=d.uniform(-20, 20)),
        _shape(lower, (-side * gap, -1 + (ring if lower == "ring" else 1), 0), 1, 1, turn=d.uniform(-20, 20)),
    ]  # fmt: skip


RELATIONS = ("on", "next to")


FAMILIES: tuple[Family, ...] = (
    *(Family(name, _single(name)) for name in SHAPES),
    *OBJECTS,
    *ANIMALS,
)
BY_NAME = {family.name: family for family in FAMILIES}
