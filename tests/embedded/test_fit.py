"""Small meshes of a small corpus of toys, packing them, adding a model, and the rings for the denoiser."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from splatdistill.embedded.corpus import fit
from splatdistill.embedded.corpus.__main__ import main as corpus_main
from splatdistill.embedded.corpus.build import preview_cameras
from splatdistill.embedded.corpus.fit import add, order, pack, read_corpus, run
from splatdistill.embedded.corpus.layout import BUFFERS, INDEX, write_index
from splatdistill.embedded.corpus.meshes import Material, ModelMesh
from splatdistill.embedded.corpus.pack import render_procedural
from splatdistill.embedded.corpus.render import Caster
from splatdistill.embedded.corpus.simplify import POOR_DB, cluster, collapse, pictures, simplify, weld
from splatdistill.embedded.prior.rings import Rings, render
from splatdistill.priors.gbuffer import ALPHA, PAINTS, rgba_white
from splatdistill.priors.instances import GRID, Instances
from splatdistill.priors.zbuffer import draw
from tests.rounding import assert_same


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
def made(toys, tmp_path_factory):
    out = tmp_path_factory.mktemp("meshes")
    run(toys, out, models=None, furniture=None, processes=1)
    return out


@pytest.fixture(scope="module")
def packed(toys, made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    pack(toys, made, folder)
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


def test_a_run_goes_on_where_it_was_stopped(toys, made):
    files = sorted(made.glob("*.npz"))
    assert len(files) == 6
    before = [path.read_bytes() for path in files]
    times = [path.stat().st_mtime_ns for path in files]
    run(toys, made, models=None, furniture=None, processes=1)  # has nothing to do
    assert [path.stat().st_mtime_ns for path in files] == times
    files[-1].unlink()
    run(toys, made, models=None, furniture=None, processes=1)
    assert [path.read_bytes() for path in files] == before and not list(made.glob("*.part"))


def test_models_without_a_source_are_counted(toys, tmp_path, monkeypatch):
    record = dataclasses.replace(read_corpus(toys)[0][0], key="models/gone.glb", toy=False)
    monkeypatch.setattr(fit, "read_corpus", lambda _: ([record], None))
    with pytest.raises(ValueError, match=r"1 models of the corpus are not there, first models/gone\.glb"):
        run(toys, tmp_path, models=None, furniture="none", processes=1)


def test_a_mesh_shows_what_the_rays_of_its_object_meet(toys, packed):
    records, buffers = read_corpus(toys)
    instances = Instances.load(packed)
    for number, record in enumerate(records):
        views = range(len(record.azimuth) - 4, len(record.azimuth))  # the ring that it was not held against
        seen = draw(instances.mesh(number), record.cameras(views, size=16), size=16)
        truth = torch.from_numpy(np.array(buffers[record.first + views[0] : record.first + len(record.azimuth)]))
        error = (pictures(seen) - pictures(truth.float() / 255)).square().mean()
        assert -10 * error.log10() > POOR_DB, record.key


@pytest.mark.parametrize(("reduce", "most", "cells"), [(collapse, 64, GRID - 1), (cluster, 250, 12)])
def test_fewer_triangles_keep_the_extent_of_an_open_sheet(reduce, most, cells):
    """A flat square of 32 x 32 cells: to shrink it costs quadric errors nothing but what its borders add."""
    side = np.linspace(-0.8, 0.8, 33)
    x, y = np.meshgrid(side, side, indexing="ij")
    vertices = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], 1)
    at = np.arange(33 * 33).reshape(33, 33)
    a, b, c, d = at[:-1, :-1].ravel(), at[1:, :-1].ravel(), at[:-1, 1:].ravel(), at[1:, 1:].ravel()
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])
    few, left = weld(*reduce(vertices, faces, most), cells=GRID)
    assert 0 < len(left) <= most
    corners = few[left]
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
    step = 2 / cells  # the side of a cell, which a border may move by
    assert (1.6 - 2 * step) ** 2 < area < (1.6 + 2 * step) ** 2


def test_a_texture_is_kept_by_more_triangles():
    pytest.importorskip("embreex")
    corners = np.array([[-0.6, -0.6, 0], [0.6, -0.6, 0], [0.6, 0.6, 0], [-0.6, 0.6, 0]], float)
    texture = np.ones((2, 3, 4), np.float32)
    texture[:, 0, :3], texture[:, 1:, :3] = (1, 0, 0), (0, 0, 1)
    mesh = ModelMesh(
        vertices=corners, normals=np.tile([0.0, 0, 1], (4, 1)), uv=(corners[:, :2] + 0.6) / 1.2,
        faces=np.array([[0, 1, 2], [2, 3, 0]]), face_material=np.zeros(2, int),
        materials=[Material(np.ones(3, np.float32), 1.0, texture)],
    )  # fmt: skip
    cameras = preview_cameras()
    truth = torch.from_numpy(Caster(mesh).gbuffer(cameras, paint=np.array([0])))
    code = simplify(mesh, np.array([0]), cameras=cameras, truth=truth)
    red, blue = code.values[:, 0] > code.values[:, 2], code.values[:, 2] > code.values[:, 0]
    # The border lies at a third, where halves and halves of halves never lie.
    assert len(code.faces) > 20 and red.sum() > 5 and blue.sum() > 5
    middle, border = code.vertices[code.faces][..., 0].mean(1), (GRID - 1) * 0.4
    sure = np.abs(middle - border) > 0.1 * GRID
    assert np.array_equal(red[sure], middle[sure] < border)


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


def test_a_model_of_ones_own_is_added(packed, tmp_path, capsys):
    pytest.importorskip("embreex")
    import trimesh

    part = trimesh.creation.box()
    part.visual = trimesh.visual.TextureVisuals(
        material=trimesh.visual.material.PBRMaterial(baseColorFactor=[20, 200, 20, 255])
    )
    (tmp_path / "mine.glb").write_bytes(part.export(file_type="glb"))
    add(tmp_path / "mine.glb", noun="cube", front_deg=0, instances=packed, out=tmp_path / "more")
    more = Instances.load(tmp_path / "more")
    assert len(more.known) == 7 and len(more.of_noun["cube"]) == 3 and more.known[-1].key == "own/mine.glb"
    for mine, theirs in zip(more.codes, Instances.load(packed).codes, strict=False):
        assert np.array_equal(mine.vertices, theirs.vertices) and np.array_equal(mine.faces, theirs.faces)
    assert len(more.codes[-1].faces) == 12  # a box
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
