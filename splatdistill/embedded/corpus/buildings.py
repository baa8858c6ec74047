"""Procedural buildings out of primitives; `objects.py` says which colour is which part's."""

from __future__ import annotations

import math
import random

from splatdistill.embedded.corpus.primitives import DARK, GLASS, LIGHT, WOOD, Part, limb, solid


def house(d: random.Random) -> list[Part]:
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


def castle(d: random.Random) -> list[Part]:
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


def lighthouse(d: random.Random) -> list[Part]:
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


def windmill(d: random.Random) -> list[Part]:
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


def birdhouse(d: random.Random) -> list[Part]:
    w, h = d.uniform(0.42, 0.55), d.uniform(0.5, 0.65)
    return [
        solid("box", (0, 0.6, 0), (w, h, w), 0),
        solid("roof", (0, 0.6 + h + 0.25, 0), (w * 1.35, 0.25, w * 1.25), 1),
        solid("ball", (0, 0.7, w), (0.19, 0.19, 0.05), DARK),
        limb((0, 0.4, w), (0, 0.4, w + 0.25), 0.05, WOOD),
        limb((0, 0.6 - h, 0), (0, -1.2, 0), 0.1, WOOD),
    ]
