"""Cartoon animals out of balls and limbs. The first colour is the animal's, the second a thing that it wears or a part
of it; eyes, hooves and beaks keep their own.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import partial

from splatdistill.embedded.corpus.family import Family
from splatdistill.embedded.corpus.primitives import Part, limb, solid

_EYE, _WHITE, _BEAK, _SNOUT = (0.07, 0.07, 0.08), (0.95, 0.95, 0.94), (0.95, 0.60, 0.10), (0.93, 0.62, 0.62)


@dataclass(frozen=True)
class Shape:
    """Of a quadruped; lengths in body widths. ears: pointed, round, long, floppy or fan."""

    long: float = 1.0
    legs: float = 0.55
    leg_width: float = 0.17
    neck: float = 0.25
    head: float = 0.5
    ears: str = "pointed"
    snout: float = 0.22
    nose: tuple[float, float, float] = _EYE
    tail: float = 0.6
    fluffy: bool = False
    mane: bool = False
    trunk: bool = False


def _eyes(at: tuple[float, float, float], size: float) -> list[Part]:
    """Two eyes on the front of a round head of radius `size` in the middle `at`."""
    x, y, z = at
    return [solid("ball", (x + s * 0.42 * size, y + 0.25 * size, z + 0.84 * size), 0.15 * size, _EYE) for s in (-1, 1)]


def _ears(kind: str, head: tuple[float, float, float], size: float) -> list[Part]:
    x, y, z = head
    parts = []
    for s in (-1, 1):
        match kind:
            case "pointed":
                parts.append(
                    solid(
                        "pyramid", (x + s * 0.55 * size, y + 0.95 * size, z), (0.28 * size, 0.4 * size, 0.12 * size), 0
                    )
                )
            case "round":
                parts.append(
                    solid("ball", (x + s * 0.72 * size, y + 0.75 * size, z), (0.35 * size, 0.35 * size, 0.15 * size), 0)
                )
            case "long":
                parts.append(
                    solid(
                        "ball",
                        (x + s * 0.4 * size, y + 1.6 * size, z),
                        (0.2 * size, 0.8 * size, 0.14 * size),
                        0,
                        turn=(0, 0, -8 * s),
                    )
                )
            case "floppy":
                parts.append(
                    solid(
                        "ball",
                        (x + s * 0.95 * size, y + 0.05 * size, z),
                        (0.16 * size, 0.6 * size, 0.3 * size),
                        0,
                        turn=(0, 0, 12 * s),
                    )
                )
            case _:
                parts.append(
                    solid(
                        "ball", (x + s * 1.2 * size, y + 0.1 * size, z - 0.1), (0.65 * size, 0.8 * size, 0.1 * size), 0
                    )
                )
    return parts


def _quadruped(d: random.Random, *, shape: Shape) -> list[Part]:
    body = d.uniform(0.5, 0.58)
    long, legs = shape.long * d.uniform(0.9, 1.1), shape.legs * d.uniform(0.85, 1.15)
    top = (0.0, shape.neck * 2 + 0.35, long * 0.75 + 0.25)
    head = (top[0], top[1] + 0.1, top[2] + 0.15)
    size = shape.head * d.uniform(0.9, 1.1)
    parts = [
        solid("ball", (0, 0, 0), (body, body * 0.95, long * 0.85), 0),
        limb((0, 0.1, long * 0.55), head, 0.3 if shape.neck > 0.5 else 0.36, 0, end=0.24),
        solid("ball", head, size, 0),
        solid(
            "ball",
            (0, head[1] - 0.2 * size, head[2] + 0.8 * size),
            (0.5 * size, 0.4 * size, shape.snout + 0.3 * size),
            0,
        ),
        *_eyes(head, size),
        *_ears(shape.ears, head, size),
    ]
    reach = head[2] + 0.8 * size + shape.snout + 0.3 * size
    if not shape.trunk:
        parts.append(solid("ball", (0, head[1] - 0.12 * size, reach), (0.2 * size, 0.15 * size, 0.08), shape.nose))
    else:
        bends = [(0, head[1] - 0.2, reach - 0.3), (0, head[1] - 0.75, reach - 0.02), (0, head[1] - 1.15, reach + 0.2)]
        parts += [limb(bends[0], bends[1], 0.2, 0, end=0.15), limb(bends[1], bends[2], 0.15, 0, end=0.1)]
    for s in (-1, 1):
        for z in (-0.55, 0.5):
            at = (s * 0.62 * body, -0.25, z * long)
            parts.append(limb(at, (at[0], -0.35 - legs, at[2]), shape.leg_width, 0))
            parts.append(
                solid(
                    "ball",
                    (at[0], -0.35 - legs, at[2] + 0.04),
                    (shape.leg_width * 1.1, 0.09, shape.leg_width * 1.3),
                    _EYE,
                )
            )
    if shape.tail:
        swing = d.uniform(-0.3, 0.3)
        parts.append(
            limb(
                (0, 0.1, -0.75 * long),
                (swing, 0.1 + 0.6 * shape.tail, -0.75 * long - 0.8 * shape.tail),
                0.12,
                0,
                end=0.07,
            )
        )
    if shape.fluffy:
        parts += [
            solid("ball", (x * body, y, z * long), 0.3, 0)
            for x, y, z in (
                (-0.6, 0.3, -0.5),
                (0.6, 0.3, -0.5),
                (-0.6, 0.3, 0.1),
                (0.6, 0.3, 0.1),
                (0, 0.5, -0.2),
                (0, 0.4, -0.7),
                (0, 0.4, 0.4),
            )
        ]
    if shape.mane:
        parts.append(solid("ball", (0, head[1], head[2] - 0.25), (size * 1.45, size * 1.45, 0.3), 1))
    else:
        # The collar sits on the neck: halfway from the body to the head, square to it.
        at = tuple(0.45 * a + 0.55 * b for a, b in zip((0, 0.1, long * 0.55), head, strict=True))
        step = tuple(0.07 * (b - a) for a, b in zip((0, 0.1, long * 0.55), head, strict=True))
        low, high = ([a + s * b for a, b in zip(at, step, strict=True)] for s in (-1, 1))
        parts.append(limb(low, high, 0.42 if shape.neck < 0.5 else 0.34, 1))
    return parts


def _bird(
    d: random.Random,
    *,
    tall: float,
    neck: float,
    head: float,
    beak: tuple[float, float, float],
    belly: bool,
    tufts: bool = False,
) -> list[Part]:
    """beak: half its width, height and length."""
    wide = d.uniform(0.52, 0.62)
    long = 0.95 if tall < 0.8 else wide
    at = (0.0, tall * 0.85 + neck, 0.35 * (long - wide) + (0.35 if tall < 0.8 else 0.05))
    size = head * d.uniform(0.92, 1.08)
    parts = [
        solid("ball", (0, 0, 0), (wide, tall, long), 0),
        limb((0, 0.3 * tall, 0.3 * at[2]), at, 0.3, 0, end=0.22),
        solid("ball", at, size, 0),
        *_eyes(at, size),
        solid("ball", (0, at[1] - 0.1 * size, at[2] + size), beak, _BEAK),
    ]
    for s in (-1, 1):
        parts += [
            solid(
                "ball",
                (s * wide, 0.05, -0.05),
                (0.12, 0.6 * tall, 0.6 * long if tall < 0.8 else 0.28),
                1,
                turn=(0, 0, 12 * s),
            ),
            solid("ball", (s * 0.28, -tall - 0.05, 0.2), (0.18, 0.07, 0.28), _BEAK),
        ]
        if tufts:
            parts.append(solid("pyramid", (s * 0.55 * size, at[1] + size, at[2]), (0.15, 0.2, 0.08), 0))
    if belly:
        parts.append(solid("ball", (0, -0.05, 0.14 * long), (wide * 0.82, tall * 0.85, long * 0.92), _WHITE))
    return parts


def _fish(d: random.Random) -> list[Part]:
    long, high = d.uniform(0.8, 1.0), d.uniform(0.45, 0.6)
    sides = [solid("ball", (s * 0.3, 0, 0.1), (0.25, 0.08, 0.2), 1, turn=(0, 0, -25 * s)) for s in (-1, 1)]
    return [
        solid("ball", (0, 0, 0), (0.35, high, long), 0),
        solid("pyramid", (0, 0, -long - 0.15), (0.06, 0.42, 0.5), 1, turn=(90, 0, 0)),
        solid("ball", (0, high, -0.1), (0.06, 0.28, 0.4), 1),
        *sides,
        *[solid("ball", (s * 0.24, 0.12, 0.7 * long), 0.1, _EYE) for s in (-1, 1)],
        solid("ball", (0, -0.1, 0.97 * long), (0.13, 0.07, 0.06), _SNOUT),
    ]


def _turtle(d: random.Random) -> list[Part]:
    r, high = d.uniform(0.8, 0.95), d.uniform(0.45, 0.6)
    head = (0.0, 0.22, r + 0.35)
    legs = [solid("ball", (s * 0.65, -0.2, z), (0.25, 0.18, 0.28), 0) for s in (-1, 1) for z in (-0.6, 0.6)]
    return [
        solid("ball", (0, 0.05, 0), (r, high, r * 1.05), 1),
        solid("frustum", (0, -0.1, 0), (r, 0.1, r * 1.05), 0),
        limb((0, 0, 0.6 * r), head, 0.2, 0),
        solid("ball", head, 0.32, 0),
        *_eyes(head, 0.32),
        *legs,
        limb((0, -0.1, -r), (0, -0.15, -r - 0.3), 0.1, 0, end=0.02),
    ]


def _snail(d: random.Random) -> list[Part]:
    r = d.uniform(0.55, 0.7)
    head = (0.0, 0.15, 0.95)
    stalks = [limb((s * 0.1, 0.3, 0.95), (s * 0.22, 0.7, 1.05), 0.05, 0) for s in (-1, 1)]
    eyes = [solid("ball", (s * 0.22, 0.74, 1.06), 0.1, _EYE) for s in (-1, 1)]
    coils = [solid("ring", (s * 0.22, 0.35, -0.1), 0.5 * r, 1, ratio=0.35, turn=(0, 0, 90)) for s in (-1, 1)]
    return [
        solid("ball", (0, -0.25, 0.05), (0.32, 0.2, 1.15), 0),
        solid("ball", head, (0.27, 0.32, 0.27), 0),
        solid("ball", (0, 0.35, -0.1), (0.36, r, r), 1),
        *coils,
        *stalks,
        *eyes,
    ]


def _caterpillar(d: random.Random) -> list[Part]:
    num, wave = d.choice((5, 6)), d.uniform(0.08, 0.2)
    body = [solid("ball", (0, wave * (1 if i % 2 else -1), -0.5 * i), 0.36, 1 if i % 2 else 0) for i in range(1, num)]
    head = (0.0, 0.15, 0.05)
    feelers = [limb((s * 0.12, 0.5, 0.05), (s * 0.25, 0.85, 0.1), 0.035, _EYE) for s in (-1, 1)]
    return [*body, solid("ball", head, 0.45, 0), *_eyes(head, 0.45), *feelers]


def _octopus(d: random.Random) -> list[Part]:
    head = (0.0, 0.4, 0.0)
    size = d.uniform(0.58, 0.7)
    parts = [solid("ball", head, (size, size * 1.15, size), 0), *_eyes(head, size)]
    for i in range(8):
        angle = (i + 0.5) * 45
        x, z = math.sin(math.radians(angle)), math.cos(math.radians(angle))
        knee, tip = (0.75 * x, -0.45, 0.75 * z), (1.15 * x, -0.55, 1.15 * z)
        parts += [limb((0.3 * x, 0.1, 0.3 * z), knee, 0.19, 0, end=0.14), limb(knee, tip, 0.14, 1, end=0.05)]
    return parts


def _bee(d: random.Random) -> list[Part]:
    long = d.uniform(0.85, 1.0)
    head = (0.0, 0.1, long + 0.1)
    wings = [
        solid("ball", (s * 0.55, 0.6, -0.05), (0.5, 0.05, 0.3), (0.85, 0.92, 0.97), turn=(0, 0, 25 * s))
        for s in (-1, 1)
    ]
    stripes = [solid("frustum", (0, 0, z), (0.555, 0.1, 0.555), 1, turn=(90, 0, 0)) for z in (-0.3, 0.1)]
    return [
        solid("ball", (0, 0, 0), (0.55, 0.55, long), 0),
        *stripes,
        solid("ball", head, 0.4, 0),
        *_eyes(head, 0.4),
        *wings,
        limb((0, 0, -long), (0, 0, -long - 0.25), 0.07, _EYE, end=0.01),
    ]


def _frog(d: random.Random) -> list[Part]:
    wide = d.uniform(0.6, 0.75)
    parts = [
        solid("ball", (0, 0, 0), (wide, 0.5, 0.75), 0),
        solid("ball", (0, 0.4, 0.5), (wide * 0.9, 0.38, 0.45), 0),
        solid("ball", (0, -0.05, 0.22), (wide * 0.8, 0.42, 0.6), 1),
        solid("box", (0, 0.28, 0.92), (0.35, 0.03, 0.03), _EYE),
    ]
    for s in (-1, 1):
        parts += [
            solid("ball", (s * 0.36, 0.82, 0.55), 0.21, 0),
            solid("ball", (s * 0.38, 0.86, 0.7), 0.12, _EYE),
            solid("ball", (s * wide, -0.25, -0.25), (0.25, 0.3, 0.5), 0),
            solid("ball", (s * wide, -0.5, 0.25), (0.22, 0.08, 0.35), 0),
            limb((s * 0.4, -0.1, 0.6), (s * 0.45, -0.5, 0.75), 0.13, 0),
        ]
    return parts


def _four_legs(
    name: str, *, synonyms: tuple[str, ...] = (), extras: tuple[str, ...] = ("a {} collar",), **shape: object
) -> Family:
    return Family(name, partial(_quadruped, shape=Shape(**shape)), extras, synonyms)  # type: ignore[arg-type]


def _feathered(name: str, *, synonyms: tuple[str, ...] = (), **shape: object) -> Family:
    return Family(name, partial(_bird, **shape), ("{} wings",), synonyms)  # type: ignore[arg-type]


ANIMALS: tuple[Family, ...] = (
    _four_legs("cartoon cat", long=0.85, legs=0.5, head=0.5, snout=0.1, tail=0.95, nose=_SNOUT),
    _four_legs("cartoon dog", long=0.95, ears="floppy", head=0.46, snout=0.32, tail=0.6),
    _four_legs("cartoon horse", long=1.1, legs=0.95, neck=0.6, head=0.36, snout=0.4, tail=0.55, leg_width=0.13),
    _four_legs("cartoon rabbit", long=0.7, legs=0.3, ears="long", head=0.46, snout=0.1, tail=0.15, nose=_SNOUT),
    _four_legs(
        "pig", long=0.95, legs=0.35, ears="pointed", head=0.48, snout=0.25, nose=_SNOUT, tail=0.2, synonyms=("piglet",)
    ),
    _four_legs("cartoon bear", long=0.9, legs=0.4, ears="round", head=0.52, snout=0.22, tail=0.1, leg_width=0.22),
    _four_legs("cow", long=1.15, legs=0.6, ears="floppy", head=0.44, snout=0.32, nose=_SNOUT, tail=0.5),
    _four_legs(
        "sheep", long=0.85, legs=0.45, ears="floppy", head=0.4, snout=0.2, tail=0.1, fluffy=True, synonyms=("lamb",)
    ),
    _four_legs("elephant", long=1.0, legs=0.55, leg_width=0.24, ears="fan", head=0.55, tail=0.35, trunk=True),
    _four_legs(
        "giraffe", long=0.8, legs=1.15, leg_width=0.11, neck=1.25, head=0.32, snout=0.28, ears="round", tail=0.4
    ),
    _four_legs(
        "mouse", long=0.75, legs=0.2, ears="round", head=0.46, snout=0.22, nose=_SNOUT, tail=0.9, synonyms=("rat",)
    ),
    _four_legs("fox", long=0.95, legs=0.5, head=0.42, snout=0.38, tail=0.85),
    _four_legs(
        "lion", long=1.05, legs=0.5, ears="round", head=0.48, snout=0.2, tail=0.7, mane=True, extras=("a {} mane",)
    ),
    _feathered("duck", tall=0.55, neck=0.45, head=0.36, beak=(0.2, 0.07, 0.26), belly=False, synonyms=("duckling",)),
    _feathered("penguin", tall=0.95, neck=0.15, head=0.4, beak=(0.1, 0.09, 0.22), belly=True),
    _feathered("owl", tall=0.85, neck=0.1, head=0.5, beak=(0.1, 0.14, 0.1), belly=False, tufts=True),
    Family("fish", _fish, ("{} fins",)),
    Family("turtle", _turtle, ("a {} shell",), ("tortoise",)),
    Family("snail", _snail, ("a {} shell",)),
    Family("caterpillar", _caterpillar, ("{} stripes",)),
    Family("octopus", _octopus, ("{} tips",)),
    Family("bee", _bee, ("{} stripes",)),
    Family("frog", _frog, ("a {} belly",)),
)
