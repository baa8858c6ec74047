"""Procedural vehicles out of primitives; `objects.py` says which colour is which part's."""

from __future__ import annotations

import math
import random

from splatdistill.embedded.corpus.primitives import DARK, GLASS, WOOD, Part, around, limb, solid


def rocket(d: random.Random) -> list[Part]:
    h, r = d.uniform(1.0, 1.5), d.uniform(0.4, 0.55)
    fins = [
        solid("roof", (x, -h, z), (0.4, 0.5, 0.07), 1, turn=(0, angle - 90, 0))
        for x, z, angle in around(d.choice((3, 4)), r, math.pi / 4)
    ]
    return [
        solid("frustum", (0, 0, 0), (r, h, r), 0),
        solid("frustum", (0, h + 0.45, 0), (r, 0.45, r), 2, ratio=0.05),
        solid("ball", (0, 0.4 * h, r), (0.2, 0.2, 0.08), GLASS),
        solid("frustum", (0, -h - 0.12, 0), (r * 0.8, 0.12, r * 0.8), DARK),
        *fins,
    ]


def sailboat(d: random.Random) -> list[Part]:
    long, tall = d.uniform(1.0, 1.3), d.uniform(0.9, 1.2)
    return [
        solid("frustum", (0, -0.2, 0), (0.3, 0.28, long * 0.75), 0, ratio=1.35),
        limb((0, 0, 0.1), (0, 2 * tall, 0.1), 0.05, WOOD),
        solid("pyramid", (0, 0.35 + 0.8 * tall, -0.35), (0.04, 0.8 * tall, 0.5), 1),
        solid("pyramid", (0, 0.3 + 0.6 * tall, 0.5), (0.04, 0.6 * tall, 0.35), 1),
    ]


def flying_saucer(d: random.Random) -> list[Part]:
    flat, dome = d.uniform(0.2, 0.32), d.uniform(0.38, 0.5)
    lamps = [solid("ball", (x, -0.02, z), 0.09, (1, 0.85, 0.3)) for x, z, _ in around(8, 0.95)]
    return [solid("ball", (0, 0, 0), (1, flat, 1), 0), solid("ball", (0, 0.15, 0), dome, 1), *lamps]


def balloon(d: random.Random) -> list[Part]:
    r, drop = d.uniform(0.85, 1.0), d.uniform(0.5, 0.8)
    ropes = [
        limb((0.6 * x, -0.75 * r, 0.6 * z), (0.2 * x, -r - drop, 0.2 * z), 0.025, DARK)
        for x, z, _ in around(4, 1, 0.785)
    ]
    return [
        solid("ball", (0, 0, 0), (r, 1.05 * r, r), 0),
        solid("frustum", (0, -0.95 * r, 0), (0.25, 0.25, 0.25), 0, ratio=2.2),
        solid("box", (0, -r - drop - 0.1, 0), (0.25, 0.2, 0.25), 1),
        *ropes,
    ]


def toy_car(d: random.Random) -> list[Part]:
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


def submarine(d: random.Random) -> list[Part]:
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


def tank(d: random.Random) -> list[Part]:
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


def tractor(d: random.Random) -> list[Part]:
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
