"""Procedural objects out of primitives, and the table of all of them. The first colour is the whole's, the others those
of the parts that the table at the end names; what has no colour there keeps its own.
"""

from __future__ import annotations

import math
import random
from itertools import pairwise

from splatdistill.embedded.corpus import buildings, vehicles
from splatdistill.embedded.corpus.family import Family
from splatdistill.embedded.corpus.primitives import DARK, GLASS, LIGHT, METAL, WAFER, WOOD, Part, around, limb, solid


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
    spots = [solid("ball", (0.75 * x, h + 0.72 * tall, 0.75 * z), 0.14, LIGHT) for x, z, _ in around(5, r)]
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
    candles = [limb((x, low + 2 * high, z), (x, low + 2 * high + 0.35, z), 0.05, 2) for x, z, _ in around(5, 0.35)]
    flames = [
        solid("ball", (x, low + 2 * high + 0.42, z), (0.05, 0.09, 0.05), (1, 0.8, 0.2)) for x, z, _ in around(5, 0.35)
    ]
    return [
        solid("frustum", (0, 0, 0), (1, low, 1), 0),
        solid("frustum", (0, low + high, 0), (0.62, high, 0.62), 1),
        *candles,
        *flames,
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
    for x, z, angle in around(num, 0.93):
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
    posts = [limb((x, -h, z), (x, h, z), 0.06, 0) for x, z, _ in around(3, r * 1.15)]
    return [
        solid("frustum", (0, h / 2, 0), (0.1 * r, h / 2, 0.1 * r), GLASS, ratio=9.5),
        solid("frustum", (0, -h / 2, 0), (0.95 * r, h / 2, 0.95 * r), 1, ratio=0.1),
        *plates,
        *posts,
    ]


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


OBJECTS = (
    Family("house", buildings.house, ("a {} roof", "a {} door"), ("cottage",)),
    Family("castle", buildings.castle, ("{} roofs",)),
    Family("rocket", vehicles.rocket, ("{} fins", "a {} tip"), ("spaceship",)),
    Family("sailboat", vehicles.sailboat, ("{} sails",), ("sailing boat",)),
    Family("robot", _robot, ("a {} head", "{} arms")),
    Family("mushroom", _mushroom, ("a {} stem",), ("toadstool",)),
    Family("flower", _flower, ("{} leaves",)),
    Family("lollipop", _lollipop),
    Family("ice cream", _ice_cream, ("a {} top",)),
    Family("layer cake", _layer_cake, ("a {} top", "{} candles")),
    Family("lighthouse", buildings.lighthouse, ("a {} roof",)),
    Family("windmill", buildings.windmill, ("{} blades", "a {} roof")),
    Family("flying saucer", vehicles.flying_saucer, ("a {} dome",), ("ufo",)),
    Family("hot air balloon", vehicles.balloon, ("a {} basket",)),
    Family("candle", _candle, ("a {} holder",)),
    Family("sword", _sword),
    Family("crown", _crown, ("{} jewels",)),
    Family("top hat", _top_hat, ("a {} band",)),
    Family("drum", _drum, ("{} rims",)),
    Family("toy car", vehicles.toy_car, ("{} wheels",)),
    Family("submarine", vehicles.submarine, ("a {} tower",)),
    Family("dumbbell", _dumbbell),
    Family("goblet", _goblet, ("a {} stem",), ("chalice",)),
    Family("planet", _planet, ("{} rings",)),
    Family("doughnut", _doughnut, (), ("donut",)),
    Family("hourglass", _hourglass, ("{} sand",)),
    Family("tank", vehicles.tank, ("{} tracks",)),
    Family("tractor", vehicles.tractor, ("{} rims",)),
    Family("bell", _bell, ("a {} handle",)),
    Family("spinning top", _spinning_top, ("a {} rim",)),
    Family("birdhouse", buildings.birdhouse, ("a {} roof",)),
)
