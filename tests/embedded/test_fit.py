"""Fitting tri-planes to a small corpus of toys, packing them, adding a model, and the rings for the denoiser."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from splatdistill.embedded.corpus import fit
from splatdistill.embedded.corpus.__main__ import main as corpus_main
from splatdistill.embedded.corpus.fit import FitConfig, Target, add, order, pack, read_corpus, run
from splatdistill.embedded.corpus.layout import BUFFERS, INDEX, write_index
from splatdistill.embedded.corpus.pack import render_procedural
from splatdistill.embedded.prior.rings import Rings, render
from splatdistill.priors.gbuffer import ALPHA, PAINTS, rgba_white
from splatdistill.priors.instances import Instances
from splatdistill.priors.triplane import TriPlanes
from tests.rounding import assert_same

TINY = FitConfig(objects=3, rays=64, depth=8, decoder_objects=4, decoder_steps=30, steps=30)


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """Two toys of six families and shapes on each other, 5 rings of 16 pixels."""
    folder = tmp_path_factory.mktemp("toys")
    records, views = render_procedural(number=2, rings=3, seed=0, size=16, first=0, processes=1)
    kept = [r for r in records if r.noun in ("cube", "ball", "house") or r.relation]
    np.save(folder / BUFFERS, views)
    made_of = {"number": 2, "rings": 3, "seed": 0}
    (folder / INDEX).write_text(json.dumps(write_index(kept, size=16, seed=0, toys=made_of)))
    return folder


@pytest.fixture(scope="module")
def fitted(toys, tmp_path_factory):
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("fit")
    run(toys, out, TINY)
    return out


@pytest.fixture(scope="module")
def packed(toys, fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    pack(toys, fitted, folder, step=0.05)
    return folder


def test_toys_of_a_family_share_their_cameras_and_pairs_are_no_objects(toys):
    records, _ = read_corpus(toys)
    assert sorted({r.noun for r in records}) == ["ball", "cube", "house"] and len(records) == 6
    assert not any(r.relation for r in records)
    a, b = (r for r in records if r.noun == "cube")
    assert a.azimuth == b.azimuth and a.fovy == b.fovy and a.first != b.first


def test_rounds_of_four_models_a_noun():
    class Row:
        relation = None

        def __init__(self, noun, number):
            self.noun, self.key = noun, f"{noun}/{number}"

    rows = [Row("chair", i) for i in range(6)] + [Row("yak", 0)]
    assert [r.key for r in order(rows)] == [*(f"chair/{i}" for i in range(4)), "yak/0", "chair/4", "chair/5"]  # type: ignore[arg-type]


def test_a_run_goes_on_where_it_was_stopped(toys, fitted):
    shards = sorted(fitted.glob("shard-*"))
    before = [path.read_bytes() for path in shards]
    run(toys, fitted, TINY)  # has nothing to do
    assert [path.read_bytes() for path in sorted(fitted.glob("shard-*"))] == before
    shards[-1].unlink()
    run(toys, fitted, TINY)
    assert [path.read_bytes() for path in sorted(fitted.glob("shard-*"))] == before
    assert len(fit.fitted(fitted)) == 6


def test_fitting_lowers_the_error_of_the_object_itself(toys):
    records, buffers = read_corpus(toys)
    torch.manual_seed(0)
    model = TriPlanes(channels=4, side=8, hidden=16)
    targets = [Target.read(r, buffers) for r in records[:2]]
    planes = fit.fit_decoder(model, targets, FitConfig(objects=2, rays=128, depth=8, decoder_steps=150))
    draw = torch.Generator().manual_seed(5)
    drawn = [t.draw(512, near=0.5, generator=draw) for t in targets]
    origins, directions, truth = (torch.stack(part) for part in zip(*drawn, strict=True))
    ground = torch.ones(2, 1, 3)
    empty = fit.loss(torch.zeros_like(truth), truth, ground=ground)
    with torch.no_grad():
        fine = fit.loss(model.render(planes, origins, directions, depth=8), truth, ground=ground)
        mixed = fit.loss(model.render(planes.flip(0), origins, directions, depth=8), truth, ground=ground)
    assert fine < 0.5 * empty and fine < mixed


def test_more_rays_look_into_the_empty_space_about_thin_objects(toys):
    records, buffers = read_corpus(toys)
    target = Target.read(records[0], buffers)
    row = torch.zeros(len(target.directions), dtype=torch.bool)
    for kept, expected in ((len(row) // 20, 0.4), (len(row) // 2, 0.85), (3 * len(row) // 4, 0.9)):
        row[:kept] = True
        mine = dataclasses.replace(target, near=row.nonzero()[:, 0].int())
        mine.buffers[..., 0] = row.to(torch.uint8) * 255  # marks what is near
        _, _, seen = mine.draw(2000, near=0.9, generator=torch.Generator().manual_seed(0))
        empty = 1 - kept / len(row)
        # The others are drawn from everywhere: expected share, and five standard deviations of it.
        found, share = float(seen[:, 0].mean()), expected + (1 - expected) * (1 - empty)
        assert abs(found - share) < 5 * (share * (1 - share) / 2000) ** 0.5


def test_a_roof_is_above_a_door_and_the_toy_says_so(packed):
    houses = [known for known in Instances.load(packed).known if known.noun == "house"]
    assert all(list(house.parts) == ["whole", "roof", "door"] and house.bare for house in houses)
    assert all(house.heights[1] > house.heights[0] > house.heights[2] for house in houses)


def test_heights_are_shares_of_the_object_s_own_height():
    views = np.zeros((2, 16, 16, 8), np.uint8)
    views[:, 4:12, 4:12, ALPHA] = 255
    for slot, rows in zip(PAINTS, (slice(4, 12), slice(10, 12), slice(0, 0)), strict=True):
        views[:, rows, 4:12, slot] = 255
    # Middles of pixels 7/8 apart; the lowest two of eight rows have a mean of 1/14 of that.
    assert fit.heights(views) == [0.5, round(0.5 / 7, 3), 0.5]


def test_the_last_ring_is_kept_from_the_fit(toys):
    records, buffers = read_corpus(toys)
    target = Target.read(records[0], buffers)
    assert len(target.origins) == len(records[0].azimuth) - 4
    assert len(target.buffers) == len(target.directions) == 8 * 16 * 16


def test_a_model_of_ones_own_is_added(packed, tmp_path, capsys):
    pytest.importorskip("embreex")
    import trimesh

    part = trimesh.creation.box()
    part.visual = trimesh.visual.TextureVisuals(
        material=trimesh.visual.material.PBRMaterial(baseColorFactor=[20, 200, 20, 255])
    )
    (tmp_path / "mine.glb").write_bytes(part.export(file_type="glb"))
    add(tmp_path / "mine.glb", noun="cube", front_deg=0, instances=packed, out=tmp_path / "more", config=TINY)
    more = Instances.load(tmp_path / "more")
    assert len(more.known) == 7 and len(more.of_noun["cube"]) == 3 and more.known[-1].key == "own/mine.glb"
    assert torch.equal(more.codes[:6], Instances.load(packed).codes)
    again = ["fit", str(tmp_path / "mine.glb"), "--noun", "cube", "--instances", str(tmp_path / "more")]
    assert corpus_main([*again, "--out", str(tmp_path / "twice")]) == 1
    assert "already holds own/mine.glb" in capsys.readouterr().err and not (tmp_path / "twice").exists()


def test_rings_show_all_candidates_in_the_same_paint_from_the_same_cameras(toys, packed, tmp_path):
    from splatdistill.priors.instances import Instances

    render(toys, Instances.load(packed), tmp_path, rings=2)
    rings = Rings.open(toys, tmp_path, seed=0)
    assert rings.rings == [0, 1, 2]
    first, again = rings.plan(3, 2), rings.plan(3, 2)
    for name, one in vars(first).items():
        assert torch.equal(one.nan_to_num(-1), getattr(again, name).nan_to_num(-1)), name
    all_of_them = rings.truth(first, torch.arange(4))
    assert all_of_them.shape == rings.known_pictures(first).shape == (4, 4, 4, 16, 16)
    assert rings.cameras(first).shape == (2, 4, 16)
    # The picture on white and its alpha: where there is nothing, white and -1.
    corner = all_of_them[:, :, :, 0, 0]
    assert torch.equal(corner, torch.tensor([1.0, 1, 1, -1]).expand_as(corner))

    def bare() -> tuple[torch.Tensor, torch.Tensor]:
        plan = rings.ring([0, 1], ring=2, tints=torch.full((3, 3), torch.nan), logits=torch.zeros(2), target=0)
        g = rings.buffers[rings.records[0].first + 8].float() / 255
        return rings.truth(plan, plan.target)[0, 0], rgba_white(g[..., :3] * g[..., 3:4], g[..., 5:6])

    assert_same(bare)


def test_missing_parts_are_one_sentence(toys, tmp_path):
    with pytest.raises(ValueError, match="No corpus in"):
        read_corpus(tmp_path)
    with pytest.raises(ValueError, match=r"holds no features\.json"):
        Rings.open(toys, tmp_path, seed=0)


def test_shards_hold_one_set_of_planes_a_model(fitted):
    for path in fitted.glob("shard-*"):
        assert all(p.shape == TriPlanes().shape for p in load_file(path).values())
