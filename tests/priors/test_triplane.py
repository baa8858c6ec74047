"""Tri-planes: rays, opacity in closed form, skipping of empty rays, and the folder of known objects."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from splatdistill.embedded.corpus.rays import camera_rays
from splatdistill.priors.gbuffer import CHANNELS
from splatdistill.priors.instances import Instance, Instances, quantise
from splatdistill.priors.triplane import TriPlanes, chord, pixel_rays
from splatdistill.scene.cameras import orbit
from tests.rounding import assert_quantised, assert_rounded, assert_same


def cameras(num: int = 2, size: int = 16):
    one = torch.ones(num)
    azimuth = torch.linspace(0.3, 2.0, num)
    return orbit(azimuth=azimuth, elevation=one * 0.4, radius=one * 3.3, fovy=one * 0.66, size=size)


def constant(density: float) -> TriPlanes:
    """Everything in the ball has one density and half of every other value."""
    model = TriPlanes(channels=2, side=4, hidden=4)
    with torch.no_grad():
        model.decoder[2].weight.zero_()
        model.decoder[2].bias.zero_()[5] = density
    return model.requires_grad_(False)


def test_rays_are_those_of_the_corpus():
    seen = cameras()
    references = [torch.from_numpy(np.vstack(camera_rays(seen, view, 1))) for view in range(2)]

    def rays() -> torch.Tensor:
        origins, directions = pixel_rays(seen, size=16)
        return torch.cat([origins[:, None], directions.flatten(1, 2)], 1)

    assert_rounded(rays, torch.stack(references))


def test_a_chord_begins_and_ends_on_the_ball_and_rays_beside_it_have_none():
    origins, directions = pixel_rays(cameras(), size=16)
    origins = origins[:, None, None].expand_as(directions)
    hit = chord(origins, directions)[1] > 1e-3
    assert hit.any() and not hit.all()

    def ends() -> torch.Tensor:
        near, length = chord(origins[hit], directions[hit])
        return torch.stack(
            [(origins[hit] + at[:, None] * directions[hit]).norm(dim=-1) for at in (near, near + length)]
        )

    assert_rounded(ends, torch.ones(2, int(hit.sum())))


@pytest.mark.parametrize("depth", [3, 16])
def test_opacity_of_one_density_is_known(depth):
    model = constant(-2.0)
    origins, directions = pixel_rays(cameras(), size=16)
    flat = directions.flatten(1, 2)
    start = origins[:, None].expand_as(flat)

    def seen() -> torch.Tensor:
        return model.render(torch.zeros(2, *model.shape), start, flat, depth=depth)

    density = 10 * math.log1p(math.exp(-2.0))
    expected = 1 - torch.exp(-density * chord(start.double(), flat.double())[1])
    assert_rounded(lambda: seen()[..., 5], expected)
    inside = expected > 0.1
    assert_rounded(lambda: seen()[..., 0][inside], torch.full((int(inside.sum()),), 0.5))


def test_rays_that_are_skipped_would_have_met_nothing():
    model = constant(3.0)
    planes = torch.zeros(model.shape)
    views = cameras(size=32)

    def pictures() -> tuple[torch.Tensor, torch.Tensor]:
        return model.picture(planes, views, size=32, skip=4), model.picture(planes, views, size=32, skip=1)

    quick, slow = pictures()
    assert_same(pictures)
    assert quick.shape == (2, 32, 32, CHANNELS) and (slow[..., 5] == 0).any()


def test_a_folder_of_volumes_is_read_as_it_was_written(tmp_path):
    torch.manual_seed(0)
    model = TriPlanes(channels=2, side=4, hidden=4)
    planes = torch.randn(3, *model.shape)
    known = [Instance(noun, f"test/{i}", [0.1, 0.2, 0.3], ["seat", "", ""]) for i, noun in enumerate(("a", "b", "a"))]
    Instances(model, quantise(planes, 0.1), step=0.1, known=known).save(tmp_path)
    read = Instances.load(tmp_path)
    assert read.known == known and read.of_noun == {"a": [0, 2], "b": [1]}
    assert_quantised(read.planes([2, 0]), planes[[2, 0]], step=0.1)  # values beyond 127 steps do not occur here
    assert torch.equal(read.model.mean, model.mean)


def test_missing_and_damaged_volumes_are_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"it has no instances\.json"):
        Instances.load(tmp_path)
    model = TriPlanes(channels=2, side=4, hidden=4)
    Instances(
        model, torch.zeros(1, *model.shape, dtype=torch.int8), step=0.1, known=[Instance("a", "k", [0, 0, 0])]
    ).save(tmp_path)
    (tmp_path / "planes.xz").write_bytes(b"no")
    with pytest.raises(ValueError, match="are damaged: copy the folder again"):
        Instances.load(tmp_path)
