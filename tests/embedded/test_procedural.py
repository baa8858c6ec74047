"""Toys and the closed-form ray caster under them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from splatdistill.embedded.corpus.primitives import Part, fit, gbuffer, limb, solid
from splatdistill.embedded.corpus.procedural import FAMILIES, RELATIONS, SHAPES, make_object
from splatdistill.embedded.corpus.rays import enclosing_ball
from splatdistill.priors.gbuffer import ALBEDO, ALPHA, PAINTS, SHADING
from splatdistill.scene.cameras import orbit
from tests.rounding import DOUBLE, assert_quantised


def cameras(*azimuths, elevation=0.3, size=32):
    one = torch.ones(len(azimuths))
    return orbit(azimuth=torch.tensor(azimuths), elevation=elevation * one, radius=4 * one, fovy=0.6 * one, size=size)


def silhouette(part: Part, points, view):
    """Share of the pixels at which the ray caster and a projection of many inner points agree."""
    picture = gbuffer([part], view, rays=8)[0, ..., ALPHA] > 0
    local = points @ part.matrix[:, :3].T + part.matrix[:, 3]
    camera = local @ view.viewmats[0, :3, :3].double().numpy().T + view.viewmats[0, :3, 3].double().numpy()
    pixel = camera @ view.Ks[0].double().numpy().T
    column, row = (pixel[:, :2] / pixel[:, 2:]).astype(int).T
    drawn = np.zeros_like(picture)
    drawn[row, column] = True
    return (drawn == picture).mean()


INSIDE = {
    "ball": lambda p, _: (p**2).sum(1) <= 1,
    "frustum": lambda p, ratio: np.hypot(p[:, 0], p[:, 2]) <= (ratio + 1) / 2 + (ratio - 1) / 2 * p[:, 1],
    "ring": lambda p, ratio: (np.hypot(p[:, 0], p[:, 2]) - 1) ** 2 + p[:, 1] ** 2 <= ratio**2,
    "box": lambda p, _: np.full(len(p), True),
    "pyramid": lambda p, _: np.maximum(abs(p[:, 0]), abs(p[:, 2])) <= (1 - p[:, 1]) / 2,
    "roof": lambda p, _: abs(p[:, 0]) <= (1 - p[:, 1]) / 2,
}


@pytest.mark.parametrize(
    ("kind", "ratio"), [*((kind, 0.4) for kind in INSIDE), ("frustum", 0.0), ("frustum", 1.0), ("frustum", 2.5)]
)
def test_silhouettes_are_those_of_the_solids(kind, ratio):
    spread = {"ring": 1 + ratio, "frustum": max(1, ratio)}.get(kind, 1.0)
    size = (0.8 / spread, 0.45, 0.7 / spread)
    part = solid(kind, (0.1, -0.05, 0.1), size, 0, ratio=ratio, turn=(20, 30, 10))
    points = np.random.default_rng(0).uniform(-spread, spread, (400_000, 3))
    points = points[INSIDE[kind](points, ratio) & (abs(points[:, 1]) <= 1)]
    assert silhouette(part, points, cameras(0.4, size=48)) > 0.985


def test_normals_are_those_of_the_surface():
    """A light from the key's direction alone is brightest there: compare shading with that of exact normals."""
    from splatdistill.embedded.corpus.rays import camera_rays, shade

    view = cameras(0.0, elevation=0.0, size=33)
    picture = gbuffer([solid("ball", (0, 0, 0), 1.0, 0)], view, rays=1)[0]
    origin, directions = camera_rays(view, 0, 1)
    middle = directions[33 * 16 + 16]
    t = -origin @ middle - math.sqrt((origin @ middle) ** 2 - origin @ origin + 1)
    exact = shade(origin + t * middle)
    assert_quantised(picture[16, 16, SHADING] / 255, exact)
    box = gbuffer([solid("box", (0, 0, 0), 0.5, 0)], view, rays=1)[0]
    assert_quantised(box[16, 16, SHADING] / 255, shade(np.array([0.0, 0, 1])))


def test_the_nearer_part_hides_the_other_and_keeps_its_paint():
    parts = [solid("ball", (0, 0, -0.5), 0.5, 1), solid("box", (0, 0, 0.5), 0.4, (0.2, 0.4, 0.6))]
    front, back = gbuffer(parts, cameras(0.0, math.pi, elevation=0.0), rays=2)
    assert_quantised(front[16, 16, ALBEDO] / 255, (0.2, 0.4, 0.6))
    assert front[16, 16, list(PAINTS)].tolist() == [0, 0, 0] and back[16, 16, list(PAINTS)].tolist() == [0, 255, 0]
    assert front[0, 0].sum() == 0


def test_limbs_reach_from_point_to_point():
    for a, b in (((0, 0, 0), (0, 1, 0)), ((0.2, -0.3, 0.1), (-0.5, 0.4, 0.8)), ((0, 0, 0), (1, 0, 0))):
        part = limb(a, b, 0.1, 0)
        ends = part.matrix[:, :3] @ np.array([[0, 0], [-1, 1], [0, 0]]) + part.matrix[:, 3:]
        # A dozen operations on numbers up to 1 for each of the axes, and three such products here.
        np.testing.assert_allclose(ends.T, [a, b], rtol=0, atol=3 * 12 * DOUBLE)
        axes = part.matrix[:, :3]
        np.testing.assert_allclose(axes.T @ axes, np.diag(np.diag(axes.T @ axes)), rtol=0, atol=3 * 12 * DOUBLE)


@pytest.mark.parametrize("family", [*(f.name for f in FAMILIES), *RELATIONS])
def test_every_family_fits_shows_its_colours_and_comes_from_its_seed(family):
    toys = [make_object(family, seed=0, number=n) for n in range(3)]
    again = make_object(family, seed=0, number=0)
    views = [gbuffer(t.parts, cameras(0.0, 1.6, 3.1, 4.7), rays=2) for t in toys]
    assert gbuffer(again.parts, cameras(0.0, 1.6, 3.1, 4.7), rays=2).tobytes() == views[0].tobytes()
    assert views[0].tobytes() != views[1].tobytes()
    for toy, view in zip(toys, views, strict=True):
        points = np.concatenate([p.points() for p in toy.parts])
        assert np.linalg.norm(points, axis=1).max() < 1.0001
        num_colours = 2 if toy.relation else 1 + len(toy.extras)
        assert {p.paint for p in toy.parts if isinstance(p.paint, int)} == set(range(num_colours))
        share = (view[..., list(PAINTS)] > 127).sum((0, 1, 2)) / (view[..., ALPHA] > 127).sum()
        assert (share[:num_colours] > 0.004).all(), (family, share)
        assert view[..., ALPHA].mean() > 8


def test_relations_name_two_shapes_and_the_upper_one_is_above():
    for number in range(20):
        on = make_object("on", seed=0, number=number)
        assert on.relation is not None and on.noun in SHAPES and on.relation[1] in SHAPES
        upper, lower = on.parts
        assert upper.matrix[1, 3] > lower.matrix[1, 3]
        beside = make_object("next to", seed=0, number=number)
        assert beside.relation is not None and beside.noun != beside.relation[1]


def test_fit_puts_the_toy_in_the_unit_ball():
    parts = fit([solid("ball", (5, 0, 0), 2.0, 0), solid("ball", (9, 0, 0), 1.0, 1)])
    centre, radius = enclosing_ball(np.concatenate([p.points() for p in parts]))
    # The same steps on the moved points, and a last one that may or may not be taken.
    np.testing.assert_allclose(centre, 0, rtol=0, atol=1e-6)
    assert radius == pytest.approx(1, abs=1e-6)  # alike
