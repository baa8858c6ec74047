"""Toys of things. The first colour is the whole's, the others those of the parts that the table at the end names; what
has no colour there keeps its own.
"""

from __future__ import annotations

import math
import random
from itertools import pairwise

from splatdistill.embedded.corpus.family import Family
from splatdistill.embedded.corpus.solids import Part, limb, solid

DARK, LIGHT, WOOD, METAL = (0.10, 0.10, 0.11), (0.93, 0.92, 0.90), (0.55, 0.36, 0.18), (0.58, 0.59, 0.62)
GLASS, WAFER = (0.70, 0.85, 0.93), (0.82, 0.60, 0.32)


def _around(num: int, radius: float, start: float = 0.0) -> list[tuple[float, float, float]]:
    """`num` points (x, z, degrees) evenly round the vertical axis."""
    angles = [start + 2 * math.pi * i / num for i in range(num)]
    return [(radius * math.sin(a), radius * math.cos(a), math.degrees(a)) for a in angles]


def _house(d: random.Random) -> list[Part]:
    w, h, depth, top = d.uniform(0.8, 1.2), d.uniform(0.6, 0.9), d.uniform(0.8, 1.3), d.uniform(0.4, 0.7)
    windows = [solid("box", (x * w, 0.1, depth), (0.18, 0.18, 0.03), GLASS) for x in (-0.6, 0.6)]
    sides = [solid("box", (s * w, 0.1, z * depth), (0.03, 0.18, 0.18), GLASS) for s in (-1, 1) for z in (-0.5, 0.5)]
    return [
        solid("box", (0, 0, 0), (w, h, depth), 0),
        solid("roof", (0, h + top, 0), (w * 1.2, top, depth * 1.1), 1),
        solid("box", (0, -h + 0.35, depth), (0.2, 0.35, 0.04), 2),
        solid("box", (0.5 * w, h + 1.3 * top, -0.3), (0.12, 0.7 * top, 0.12), WOOD),
        *windows,
        *sides,
    ]


def _castle(d: random.Random) -> list[Part]:
    wall, tall, wide = d.uniform(0.45, 0.65), d.uniform(0.8, 1.2), d.uniform(0.26, 0.36)
    parts = [solid("box", (0, wall - 1, 0), (0.9, wall, 0.9), 0)]
    for x in (-0.95, 0.95):
        for z in (-0.95, 0.95):
            parts.append(solid("frustum", (x, tall - 1, z), (wide, tall, wide), 0))
            parts.append(solid("frustum", (x, 2 * tall - 1 + 0.3, z), (wide * 1.25, 0.3, wide * 1.25), 1, ratio=0))
    if d.random() < 0.5:
        parts.append(solid("frustum", (0, tall - 0.6, 0), (0.4, tall, 0.4), 0))
        parts.append(solid("frustum", (0, 2 * tall - 0.6 + 0.35, 0), (0.5, 0.35, 0.5), 1, ratio=0))
    parts.append(solid("box", (0, -0.75, 0.9), (0.22, 0.27, 0.04), DARK))
    return parts


def _rocket(d: random.Random) -> list[Part]:
    h, r = d.uniform(1.0, 1.5), d.uniform(0.4, 0.55)
    fins = [
        solid("roof", (x, -h, z), (0.4, 0.5, 0.07), 1, turn=(0, angle - 90, 0))
        for x, z, angle in _around(d.choice((3, 4)), r, math.pi / 4)
    ]
    return [
        solid("frustum", (0, 0, 0), (r, h, r), 0),
        solid("frustum", (0, h + 0.45, 0), (r, 0.45, r), 2, ratio=0.05),
        solid("ball", (0, 0.4 * h, r), (0.2, 0.2, 0.08), GLASS),
        solid("frustum", (0, -h - 0.12, 0), (r * 0.8, 0.12, r * 0.8), DARK),
        *fins,
    ]


def _sailboat(d: random.Random) -> list[Part]:
    long, tall = d.uniform(1.0, 1.3), d.uniform(0.9, 1.2)
    return [
        solid("frustum", (0, -0.2, 0), (0.3, 0.28, long * 0.75), 0, ratio=1.35),
        limb((0, 0, 0.1), (0, 2 * tall, 0.1), 0.05, WOOD),
        solid("pyramid", (0, 0.35 + 0.8 * tall, -0.35), (0.04, 0.8 * tall, 0.5), 1),
        solid("pyramid", (0, 0.3 + 0.6 * tall, 0.5), (0.04, 0.6 * tall, 0.35), 1),
    ]


def _robot(d: random.Random) -> list[Part]:
    w, h = d.uniform(0.45, 0.65), d.uniform(0.5, 0.7)
    head = d.uniform(0.3, 0.42)
    top = h + head + 0.12
    parts = [
        solid("box", (0, 0, 0), (w, h, 0.38), 0),
        solid("box", (0, top, 0), (head * 1.15, head, head), 1),
        limb((0, top + head, 0), (0, top + head + 0.3, 0), 0.04, METAL),
        solid("ball", (0, top + head + 0.33, 0), 0.1, DARK),
        solid("box", (0, 0.1, 0.38), (0.6 * w, 0.4 * h, 0.04), METAL),
    ]
    for s in (-1, 1):
        parts += [
            solid("ball", (s * 0.5 * head, top + 0.1, head), (0.11, 0.11, 0.06), DARK),
            limb((s * (w + 0.12), 0.7 * h, 0), (s * (w + 0.2), -0.7 * h, 0.1), 0.12, 2),
            limb((s * 0.5 * w, -h, 0), (s * 0.5 * w, -h - 0.6, 0), 0.15, 2),
            solid("box", (s * 0.5 * w, -h - 0.65, 0.1), (0.2, 0.1, 0.3), DARK),
        ]
    return parts


def _mushroom(d: random.Random) -> list[Part]:
    r, h = d.uniform(0.8, 1.1), d.uniform(0.5, 0.9)
    tall = d.uniform(0.45, 0.7)
    spots = [solid("ball", (0.75 * x, h + 0.72 * tall, 0.75 * z), 0.14, LIGHT) for x, z, _ in _around(5, r)]
    return [
        solid("frustum", (0, 0, 0), (0.35, h, 0.35), 1, ratio=0.75),
        solid("ball", (0, h, 0), (r, tall, r), 0),
        solid("ball", (0, h + tall, 0), 0.15, LIGHT),
        *spots,
    ]


def _flower(d: random.Random) -> list[Part]:
    num, petal, h = d.choice((5, 6, 8)), d.uniform(0.26, 0.34), d.uniform(0.9, 1.3)
    angles = [2 * math.pi * i / num for i in range(num)]
    petals = [solid("ball", (0.42 * math.sin(a), h + 0.42 * math.cos(a), 0), (petal, petal, 0.1), 0) for a in angles]
    return [
        *petals,
        solid("ball", (0, h, 0.05), (0.24, 0.24, 0.15), (0.9, 0.75, 0.1)),
        limb((0, -0.4, 0), (0, h, -0.05), 0.07, 1),
        solid("ball", (0.28, 0.3, 0), (0.28, 0.11, 0.14), 1, turn=(0, 0, 30)),
        solid("ball", (-0.28, 0.05, 0), (0.28, 0.11, 0.14), 1, turn=(0, 0, -30)),
        solid("frustum", (0, -0.65, 0), (0.35, 0.35, 0.35), WOOD, ratio=1.35),
    ]


def _lollipop(d: random.Random) -> list[Part]:
    r = d.uniform(0.5, 0.7)
    return [solid("ball", (0, 1, 0), (r, r, d.uniform(0.15, 0.5)), 0), limb((0, -1, 0), (0, 0.8, 0), 0.07, LIGHT)]


def _ice_cream(d: random.Random) -> list[Part]:
    r, num = d.uniform(0.5, 0.6), d.choice((1, 2))
    scoops = [solid("ball", (0, 0.25 + 0.7 * i, 0), r - 0.08 * i, i) for i in range(2)]
    return [
        solid("frustum", (0, -0.7, 0), (0.08, 0.85, 0.08), WAFER, ratio=6.0 + 0.3 * num),
        *scoops,
        solid("ball", (0, 0.95 + r, 0), 0.12, (0.75, 0.05, 0.08)),
    ]


def _layer_cake(d: random.Random) -> list[Part]:
    low, high = d.uniform(0.3, 0.45), d.uniform(0.25, 0.4)
    candles = [limb((x, low + 2 * high, z), (x, low + 2 * high + 0.35, z), 0.05, 2) for x, z, _ in _around(5, 0.35)]
    flames = [
        solid("ball", (x, low + 2 * high + 0.42, z), (0.05, 0.09, 0.05), (1, 0.8, 0.2)) for x, z, _ in _around(5, 0.35)
    ]
    return [
        solid("frustum", (0, 0, 0), (1, low, 1), 0),
        solid("frustum", (0, low + high, 0), (0.62, high, 0.62), 1),
        *candles,
        *flames,
    ]


def _lighthouse(d: random.Random) -> list[Part]:
    h, r = d.uniform(1.0, 1.4), d.uniform(0.38, 0.5)
    band = solid("frustum", (0, -0.1 * h, 0), (r * 0.89, 0.15 * h, r * 0.89), LIGHT, ratio=0.94)
    return [
        solid("frustum", (0, 0, 0), (r, h, r), 0, ratio=0.65),
        band,
        solid("frustum", (0, h + 0.05, 0), (r * 0.95, 0.05, r * 0.95), DARK),
        solid("frustum", (0, h + 0.28, 0), (r * 0.5, 0.2, r * 0.5), (0.95, 0.88, 0.55)),
        solid("frustum", (0, h + 0.62, 0), (r * 0.75, 0.18, r * 0.75), 1, ratio=0.05),
        solid("box", (0, -h + 0.22, 0.93 * r), (0.13, 0.22, 0.07), WOOD),
    ]


def _windmill(d: random.Random) -> list[Part]:
    h, start = d.uniform(0.9, 1.1), d.uniform(0, 90)
    blades = [
        solid(
            "box",
            (0.55 * math.sin(a), 0.75 * h + 0.55 * math.cos(a), 0.62),
            (0.13, 0.5, 0.03),
            1,
            turn=(0, 0, -math.degrees(a)),
        )
        for a in (math.radians(start + 90 * i) for i in range(4))
    ]
    return [
        solid("frustum", (0, 0, 0), (0.55, h, 0.55), 0, ratio=0.7),
        solid("frustum", (0, h + 0.22, 0), (0.45, 0.22, 0.45), 2, ratio=0.1),
        limb((0, 0.75 * h, 0.3), (0, 0.75 * h, 0.68), 0.09, DARK),
        solid("box", (0, -h + 0.28, 0.5), (0.16, 0.28, 0.06), WOOD),
        *blades,
    ]


def _flying_saucer(d: random.Random) -> list[Part]:
    flat, dome = d.uniform(0.2, 0.32), d.uniform(0.38, 0.5)
    lamps = [solid("ball", (x, -0.02, z), 0.09, (1, 0.85, 0.3)) for x, z, _ in _around(8, 0.95)]
    return [solid("ball", (0, 0, 0), (1, flat, 1), 0), solid("ball", (0, 0.15, 0), dome, 1), *lamps]


def _balloon(d: random.Random) -> list[Part]:
    r, drop = d.uniform(0.85, 1.0), d.uniform(0.5, 0.8)
    ropes = [
        limb((0.6 * x, -0.75 * r, 0.6 * z), (0.2 * x, -r - drop, 0.2 * z), 0.025, DARK)
        for x, z, _ in _around(4, 1, 0.785)
    ]
    return [
        solid("ball", (0, 0, 0), (r, 1.05 * r, r), 0),
        solid("frustum", (0, -0.95 * r, 0), (0.25, 0.25, 0.25), 0, ratio=2.2),
        solid("box", (0, -r - drop - 0.1, 0), (0.25, 0.2, 0.25), 1),
        *ropes,
    ]


def _candle(d: random.Random) -> list[Part]:
    h, r = d.uniform(0.6, 1.0), d.uniform(0.22, 0.34)
    return [
        solid("frustum", (0, 0, 0), (r, h, r), 0),
        solid("ball", (0, h + 0.2, 0), (0.1, 0.2, 0.1), (1, 0.75, 0.15)),
        solid("frustum", (0, -h - 0.08, 0), (0.75, 0.08, 0.75), 1, ratio=1.1),
        solid("ring", (0.85, -h, 0), 0.16, 1, ratio=0.3, turn=(90, 0, 0)),
    ]


def _sword(d: random.Random) -> list[Part]:
    long, guard = d.uniform(1.2, 1.6), d.uniform(0.3, 0.45)
    return [
        solid("box", (0, 0.2 + long, 0), (0.13, long, 0.04), METAL),
        solid("pyramid", (0, 0.2 + 2 * long + 0.15, 0), (0.13, 0.15, 0.04), METAL),
        solid("box", (0, 0.15, 0), (guard, 0.08, 0.1), 0),
        limb((0, -0.4, 0), (0, 0.15, 0), 0.09, 0),
        solid("ball", (0, -0.48, 0), 0.14, 0),
    ]


def _crown(d: random.Random) -> list[Part]:
    h, num = d.uniform(0.25, 0.4), d.choice((6, 8))
    parts = [
        solid("frustum", (0, 0, 0), (0.9, h, 0.9), 0, ratio=1.1),
        solid("frustum", (0, h, 0), (0.85, 0.02, 0.85), DARK),
    ]
    for x, z, angle in _around(num, 0.93):
        parts.append(solid("pyramid", (x, h + 0.28, z), (0.3, 0.3, 0.08), 0, turn=(0, angle, 0)))
        parts.append(solid("ball", (1.02 * x, 0.02, 1.02 * z), 0.12, 1))
    return parts


def _top_hat(d: random.Random) -> list[Part]:
    h, r = d.uniform(0.55, 0.85), d.uniform(0.55, 0.65)
    return [
        solid("frustum", (0, 0, 0), (r, h, r), 0, ratio=d.uniform(1.0, 1.15)),
        solid("frustum", (0, -h, 0), (1.0, 0.06, 1.0), 0),
        solid("frustum", (0, -h + 0.2, 0), (r * 1.04, 0.14, r * 1.04), 1),
    ]


def _drum(d: random.Random) -> list[Part]:
    h, r = d.uniform(0.5, 0.8), d.uniform(0.8, 1.0)
    rims = [solid("frustum", (0, s * h, 0), (1.06 * r, 0.1, 1.06 * r), 1) for s in (-1, 1)]
    sticks = [limb((s * 0.6, h + 0.18, 0.5), (s * 0.1, h + 0.2, -0.6), 0.05, WOOD) for s in (-1, 1)]
    return [
        solid("frustum", (0, 0, 0), (r, h, r), 0),
        *rims,
        solid("frustum", (0, h + 0.06, 0), (0.95 * r, 0.06, 0.95 * r), LIGHT),
        *sticks,
    ]


def _toy_car(d: random.Random) -> list[Part]:
    w, long, cabin, r = d.uniform(0.45, 0.6), d.uniform(0.95, 1.25), d.uniform(0.25, 0.4), d.uniform(0.24, 0.32)
    back = d.uniform(-0.3, 0.0)
    wheels = [
        limb((s * (w - 0.05), -0.3, z * long), (s * (w + 0.12), -0.3, z * long), r, 1)
        for s in (-1, 1)
        for z in (-0.62, 0.62)
    ]
    lamps = [solid("ball", (s * 0.6 * w, -0.02, long), (0.1, 0.1, 0.06), (1, 0.95, 0.7)) for s in (-1, 1)]
    return [
        solid("box", (0, 0, 0), (w, 0.28, long), 0),
        solid("box", (0, 0.28 + cabin, back), (0.85 * w, cabin, 0.55 * long), 0),
        solid("box", (0, 0.3 + cabin, back), (0.87 * w, 0.65 * cabin, 0.45 * long), GLASS),
        solid("box", (0, 0.3 + cabin, back), (0.72 * w, 0.65 * cabin, 0.57 * long), GLASS),
        *wheels,
        *lamps,
    ]


def _submarine(d: random.Random) -> list[Part]:
    long, r = d.uniform(1.1, 1.4), d.uniform(0.42, 0.52)
    ports = [solid("ball", (s * 0.93 * r, 0.05, z), 0.11, GLASS) for s in (-1, 1) for z in (-0.45, 0.0, 0.45)]
    return [
        solid("ball", (0, 0, 0), (r, r, long), 0),
        solid("box", (0, r + 0.1, 0.1), (0.16, 0.22, 0.3), 1),
        limb((0, r + 0.2, 0.1), (0, r + 0.65, 0.1), 0.05, DARK),
        limb((0, r + 0.62, 0.08), (0, r + 0.62, 0.3), 0.05, DARK),
        solid("box", (0, 0, -long), (0.05, 0.35, 0.14), 1),
        solid("box", (0, 0, -long), (0.35, 0.05, 0.14), 1),
        *ports,
    ]


def _dumbbell(d: random.Random) -> list[Part]:
    half, r = d.uniform(0.6, 0.9), d.uniform(0.35, 0.55)
    ends = [solid("ball", (s * half, 0, 0), r, 0) for s in (-1, 1)]
    if d.random() < 0.5:
        ends = [limb((s * half, 0, 0), (s * (half + 0.35), 0, 0), r, 0) for s in (-1, 1)]
    return [limb((-half, 0, 0), (half, 0, 0), 0.13, METAL), *ends]


def _goblet(d: random.Random) -> list[Part]:
    r, h = d.uniform(0.45, 0.6), d.uniform(0.3, 0.5)
    return [
        solid("frustum", (0, 0.6 + h, 0), (0.75 * r, h, 0.75 * r), 0, ratio=1.3),
        solid("ball", (0, 0.62, 0), (0.75 * r, 0.3, 0.75 * r), 0),
        solid("frustum", (0, 0.6 + 2 * h + 0.005, 0), (0.87 * r, 0.005, 0.87 * r), DARK),
        limb((0, -0.2, 0), (0, 0.6, 0), 0.09, 1),
        solid("frustum", (0, -0.24, 0), (0.45, 0.07, 0.45), 1, ratio=0.6),
    ]


def _planet(d: random.Random) -> list[Part]:
    tilt = (d.uniform(10, 25), 0.0, d.uniform(-25, 25))
    hoops = [solid("ring", (0, 0, 0), (r, 0.35 * r, r), 1, ratio=0.09, turn=tilt) for r in (1.35, 1.6)]
    return [solid("ball", (0, 0, 0), 1.0, 0), *hoops]


def _doughnut(d: random.Random) -> list[Part]:
    thick = d.uniform(0.38, 0.5)
    turn = (d.choice((0.0, 60.0)), 0.0, 0.0)
    lift = (0.0, 0.07, 0.0) if turn[0] == 0 else (0.0, 0.035, 0.06)
    return [
        solid("ring", (0, 0, 0), 1.0, WAFER, ratio=thick, turn=turn),
        solid("ring", lift, 1.0, 0, ratio=thick * 0.97, turn=turn),
    ]


def _hourglass(d: random.Random) -> list[Part]:
    r, h = d.uniform(0.45, 0.6), d.uniform(0.6, 0.8)
    plates = [solid("frustum", (0, s * (h + 0.07), 0), (r * 1.3, 0.08, r * 1.3), 0) for s in (-1, 1)]
    posts = [limb((x, -h, z), (x, h, z), 0.06, 0) for x, z, _ in _around(3, r * 1.15)]
    return [
        solid("frustum", (0, h / 2, 0), (0.1 * r, h / 2, 0.1 * r), GLASS, ratio=9.5),
        solid("frustum", (0, -h / 2, 0), (0.95 * r, h / 2, 0.95 * r), 1, ratio=0.1),
        *plates,
        *posts,
    ]


def _tank(d: random.Random) -> list[Part]:
    long, gun = d.uniform(0.9, 1.1), d.uniform(0.9, 1.3)
    parts = [
        solid("box", (0, 0, 0), (0.55, 0.25, long), 0),
        solid("frustum", (0, 0.42, -0.1), (0.45, 0.2, 0.45), 0, ratio=0.8),
        limb((0, 0.45, 0.2), (0, 0.5, 0.2 + gun), 0.09, DARK),
    ]
    for s in (-1, 1):
        parts.append(solid("box", (s * 0.65, -0.2, 0), (0.2, 0.22, 0.85 * long), 1))
        parts += [limb((s * 0.45, -0.2, z * long), (s * 0.85, -0.2, z * long), 0.22, 1) for z in (-0.85, 0.85)]
    return parts


def _tractor(d: random.Random) -> list[Part]:
    big, long = d.uniform(0.5, 0.62), d.uniform(0.6, 0.75)
    parts = [
        solid("box", (0, 0.1, 0.55), (0.32, 0.28, long), 0),
        solid("box", (0, 0.45, -0.45), (0.42, 0.62, 0.42), 0),
        solid("box", (0, 0.72, -0.45), (0.44, 0.22, 0.34), GLASS),
        solid("box", (0, 0.72, -0.45), (0.34, 0.22, 0.44), GLASS),
        limb((0.15, 0.35, 0.75), (0.15, 0.85, 0.75), 0.06, DARK),
    ]
    for s in (-1, 1):
        parts += [
            limb((s * 0.45, -0.1, -0.5), (s * 0.75, -0.1, -0.5), big, DARK),
            limb((s * 0.7, -0.1, -0.5), (s * 0.8, -0.1, -0.5), 0.5 * big, 1),
            limb((s * 0.35, -0.35, 0.8), (s * 0.55, -0.35, 0.8), 0.32, DARK),
            limb((s * 0.5, -0.35, 0.8), (s * 0.6, -0.35, 0.8), 0.16, 1),
        ]
    return parts


def _bell(d: random.Random) -> list[Part]:
    wide = d.uniform(0.75, 0.95)
    profile = [(-0.7, wide), (-0.5, 0.8 * wide), (0.1, 0.55 * wide), (0.45, 0.42 * wide), (0.62, 0.2 * wide)]
    walls = [limb((0, a, 0), (0, b, 0), r, 0, end=q) for (a, r), (b, q) in pairwise(profile)]
    return [
        *walls,
        solid("ring", (0, 0.78, 0), 0.16, 1, ratio=0.3, turn=(90, 0, 0)),
        solid("ball", (0, -0.75, 0), 0.2, 1),
    ]


def _spinning_top(d: random.Random) -> list[Part]:
    r, h = d.uniform(0.75, 0.95), d.uniform(0.5, 0.75)
    return [
        solid("frustum", (0, -h, 0), (0.06, h, 0.06), 0, ratio=r / 0.06),
        solid("frustum", (0, 0.18, 0), (r, 0.18, r), 1, ratio=0.35),
        limb((0, 0.3, 0), (0, 0.9, 0), 0.09, WOOD),
    ]


def _birdhouse(d: random.Random) -> list[Part]:
    w, h = d.uniform(0.42, 0.55), d.uniform(0.5, 0.65)
    return [
        solid("box", (0, 0.6, 0), (w, h, w), 0),
        solid("roof", (0, 0.6 + h + 0.25, 0), (w * 1.35, 0.25, w * 1.25), 1),
        solid("ball", (0, 0.7, w), (0.19, 0.19, 0.05), DARK),
        limb((0, 0.4, w), (0, 0.4, w + 0.25), 0.05, WOOD),
        limb((0, 0.6 - h, 0), (0, -1.2, 0), 0.1, WOOD),
    ]


THINGS = (
    Family("house", _house, ("a {} roof", "a {} door"), ("cottage",)),
    Family("castle", _castle, ("{} roofs",)),
    Family("rocket", _rocket, ("{} fins", "a {} tip"), ("spaceship",)),
    Family("sailboat", _sailboat, ("{} sails",), ("sailing boat",)),
    Family("robot", _robot, ("a {} head", "{} arms")),
    Family("mushroom", _mushroom, ("a {} stem",), ("toadstool",)),
    Family("flower", _flower, ("{} leaves",)),
    Family("lollipop", _lollipop),
    Family("ice cream", _ice_cream, ("a {} top",)),
    Family("layer cake", _layer_cake, ("a {} top", "{} candles")),
    Family("lighthouse", _lighthouse, ("a {} roof",)),
    Family("windmill", _windmill, ("{} blades", "a {} roof")),
    Family("flying saucer", _flying_saucer, ("a {} dome",), ("ufo",)),
    Family("hot air balloon", _balloon, ("a {} basket",)),
    Family("candle", _candle, ("a {} holder",)),
    Family("sword", _sword),
    Family("crown", _crown, ("{} jewels",)),
    Family("top hat", _top_hat, ("a {} band",)),
    Family("drum", _drum, ("{} rims",)),
    Family("toy car", _toy_car, ("{} wheels",)),
    Family("submarine", _submarine, ("a {} tower",)),
    Family("dumbbell", _dumbbell),
    Family("goblet", _goblet, ("a {} stem",), ("chalice",)),
    Family("planet", _planet, ("{} rings",)),
    Family("doughnut", _doughnut, (), ("donut",)),
    Family("hourglass", _hourglass, ("{} sand",)),
    Family("tank", _tank, ("{} tracks",)),
    Family("tractor", _tractor, ("{} rims",)),
    Family("bell", _bell, ("a {} handle",)),
    Family("spinning top", _spinning_top, ("a {} rim",)),
    Family("birdhouse", _birdhouse, ("a {} roof",)),
)
