"""The corpus: reading furniture libraries, ray casting, recolouring, captions, drawing batches."""

from __future__ import annotations

import math
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from splatdistill.embedded.corpus import captions
from splatdistill.embedded.corpus.__main__ import main
from splatdistill.embedded.corpus.captions import COLOURS, article, caption, dominant_colour, tint, tint_of, vocabulary
from splatdistill.embedded.corpus.contact_sheets import model_sheets
from splatdistill.embedded.corpus.dataset import Corpus, describe
from splatdistill.embedded.corpus.layout import BUFFERS, INDEX
from splatdistill.embedded.corpus.nouns import EVERY_NOUN, NOUNS, PLURALS, read_table, split_key
from splatdistill.embedded.corpus.procedural import FAMILIES, SHAPES
from splatdistill.scene.cameras import orbit

pytest.importorskip("embreex")
from splatdistill.embedded.corpus import build
from splatdistill.embedded.corpus.furniture import check_versions, find_libraries, load_mesh, read_catalogue
from splatdistill.embedded.corpus.rays import shade
from splatdistill.embedded.corpus.render import Caster
from splatdistill.priors.gbuffer import paint
from tests.rounding import UNIT, assert_quantised, assert_rounded, assert_within


def front(size=16, azimuth=0.0, elevation=0.0):
    one = torch.ones(1)
    return orbit(azimuth=azimuth * one, elevation=elevation * one, radius=3.3 * one, fovy=0.66 * one, size=size)


def test_the_catalogue_is_read_with_authors_and_licences(library):
    box, turned = read_catalogue(library)
    assert (box.key, box.name, box.creator) == ("Test/1", "Box", "José")
    assert box.licence == "https://creativecommons.org/publicdomain/zero/1.0/"
    np.testing.assert_array_equal(box.rotation, np.eye(3))
    np.testing.assert_array_equal(turned.rotation, [[0, 0, 1], [0, 1, 0], [-1, 0, 0]])


def test_models_fit_the_unit_sphere_and_turn(library):
    box, turned = read_catalogue(library)
    mesh = load_mesh(box)
    assert np.linalg.norm(mesh.vertices, axis=1).max() == pytest.approx(1.0, abs=1e-6)  # where enclosing_ball stops
    extent = np.ptp(mesh.vertices, axis=0)
    np.testing.assert_allclose(extent / extent[1], [2, 1, 4])
    for other in (load_mesh(turned), load_mesh(box, yaw_deg=90)):
        np.testing.assert_allclose(np.ptp(other.vertices, axis=0), extent[[2, 1, 0]])
    np.testing.assert_allclose(load_mesh(box, yaw_deg=90).vertices[0, 0], mesh.vertices[0, 2])
    colours = sorted(m.colour.tolist() for m in mesh.materials)
    assert_quantised(colours, [[0.1, 0.8, 0.1], [0.8, 0.1, 0.1]])


def test_missing_libraries_are_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="apt-get install sweethome3d-furniture"):
        find_libraries(tmp_path)


def test_rays_see_the_right_side_in_the_right_place(library):
    caster = Caster(load_mesh(read_catalogue(library)[0]))
    paint_, shares = caster.choose_paint(front(elevation=0.1))
    red = [m.colour[0] > 0.5 for m in caster.mesh.materials]
    assert (paint_ == 0).tolist() == red and shares[0] > 0.5
    view = caster.gbuffer(front(), paint=paint_)[0] / 255.0
    rows, columns = np.nonzero(view[..., 5] > 0.5)
    assert np.ptp(columns) > np.ptp(rows)  # twice as wide as high from the front
    assert abs(columns.mean() - 7.5) < 0.1 and abs(rows.mean() - 7.5) < 0.1
    assert_quantised(view[8, 8, :3], [0.8, 0.1, 0.1])
    assert view[8, 8, 4] == 1 and view[0, 0].sum() == 0
    above = caster.gbuffer(front(elevation=math.pi / 2 - 0.01), paint=paint_)[0] / 255.0
    assert_quantised(above[8, 8, :3], [0.1, 0.8, 0.1])
    assert above[8, 8, 4] == 0


def test_light_comes_from_above():
    up, down = np.array([0.0, 1, 0]), np.array([0.0, -1, 0])
    assert 0 < shade(down) < shade(up) <= 1


def test_paint_changes_painted_pixels_only_and_keeps_light_and_dark():
    buffers = torch.zeros(1, 1, 5, 8, dtype=torch.uint8)
    buffers[..., :3], buffers[..., 3], buffers[..., 5] = 100, 255, 255
    buffers[0, 0, 0, 4] = buffers[0, 0, 1, 4] = 255
    buffers[0, 0, 1, :3] = 50
    buffers[0, 0, 3, 6] = buffers[0, 0, 4, 7] = 255
    tints = torch.full((1, 3, 3), torch.nan)
    tints[0, 0], tints[0, 1] = torch.tensor([0.8, 0.1, 0.1]), torch.tensor([0.1, 0.2, 0.9])
    out, alpha = paint(buffers, tints, luminance=torch.tensor([100 / 255]))
    assert 0.3 < out[0, 0, 1, 0] < 0.7
    bare = torch.full((3,), 100 / 255)  # pixels 2 and 4: no mask, and a mask whose colour is nan
    assert_rounded(
        lambda: paint(buffers, tints, luminance=torch.tensor([100 / 255]))[0][0, 0, [0, 2, 3, 4]],
        torch.stack([tints[0, 0], bare, tints[0, 1], bare]),
    )
    assert (alpha == 1).all()
    own = paint(buffers, torch.full_like(tints, torch.nan), luminance=torch.tensor([0.4]))
    assert all(map(torch.equal, own, paint(buffers, None, luminance=torch.tensor([0.4]))))


def test_backgrounds_are_flat_and_leave_the_object(corpus_folder):
    corpus = Corpus(corpus_folder, seed=0)
    batch = corpus.batch(0, mode="ring", size=16, num_images=64)
    alpha = corpus.buffers[corpus.draw(0, mode="ring", num_images=64).rows][..., 5:6]
    for picture, clear in zip(batch.rgb, alpha == 0, strict=True):
        ground = picture[clear[..., 0]]
        assert (ground == ground[:1]).all()


def test_captions_are_english_and_made_of_known_words():
    draw, words = random.Random(0), set(vocabulary(NOUNS, ()))
    by_name = {noun.name: noun for noun in NOUNS}
    texts = {caption(by_name["sofa"], colour="red", view="front", draw=draw) for _ in range(200)}
    assert {"a red sofa, front view", "a crimson couch, front view"} <= texts
    for noun in NOUNS:
        for colour in (None, *COLOURS):
            for view in (None, "overhead"):
                text = caption(noun, colour=colour, view=view, draw=draw)
                assert (
                    set(text.replace(",", " ,").split()) <= words and captions.num_words(text) <= captions.MAX_CAPTION
                )
    assert (
        article("armchair") == "an" and article("red armchair") == "a" and article("shoes", plural=True) == "a pair of"
    )


@pytest.mark.parametrize("colour", list(COLOURS))
def test_every_tint_is_called_by_its_name(colour):
    draw = random.Random(1)
    tints = np.stack([tint(colour, draw) for _ in range(200)])
    named = [dominant_colour(t[None]) for t in tints]
    assert named.count(colour) > 160


def test_mixed_pixels_have_no_colour():
    assert dominant_colour(np.array([[1, 0, 0], [0, 0, 1]], np.float32)) is None
    assert dominant_colour(np.zeros((0, 3), np.float32)) is None


def test_the_table_is_unambiguous_and_keyed():
    names = [name for noun in (*NOUNS, *FAMILIES) for name in (noun.name, *noun.synonyms)]
    assert len(names) == len(set(names)), sorted({n for n in names if names.count(n) > 1})
    models = [split_key(key)[0] for noun in NOUNS for key in noun.models]
    assert len(models) == len(set(models)), sorted({m for m in models if models.count(m) > 1})
    assert all(name == name.lower() and name.isascii() for name in names) and set(PLURALS) <= set(names)
    assert split_key("A/1@90") == ("A/1", 90.0) and split_key("A/1") == ("A/1", 0.0)
    assert not (set(captions.VIEW_WORDS) | set(COLOURS)) & set(names)
    assert sum(noun.core for noun in NOUNS) == 40 and sum(len(noun.first) for noun in NOUNS) == 64
    assert all(noun.models and noun.category for noun in NOUNS)


def test_what_toys_wear_is_no_object_of_its_own():
    names = {name for noun in (*NOUNS, *FAMILIES) for name in (noun.name, *noun.synonyms)}
    worn = {word for family in FAMILIES for extra in family.extras for word in extra.replace("{}", "").split()}
    assert not worn & names and set(SHAPES) <= names


def test_a_table_may_be_anywhere(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("noun,category,paint,synonyms,first,models\nsofa,furniture,yes,couch;settee,CC0/1,KL/2@90 S/3\n")
    (noun,) = read_table(path)
    assert noun.models == ("BlendSwap-CC-0/1", "KatorLegaz/2@90", "Scopia/3") and noun.first == noun.models[:1]
    assert noun.synonyms == ("couch", "settee") and noun.paintable and noun.core


def test_batches_are_a_function_of_seed_and_step(corpus_folder):
    corpus = Corpus(corpus_folder, seed=3)
    one, same = (Corpus(corpus_folder, seed=3).batch(5, mode="ring", size=16, num_images=16) for _ in range(2))
    other = corpus.batch(6, mode="ring", size=16, num_images=16)
    assert torch.equal(one.rgb, same.rgb) and one.captions == same.captions
    assert one.rgb.shape == (16, 16, 16, 3) and not torch.equal(one.rgb, other.rgb)
    assert 0 <= one.rgb.min() and one.rgb.max() <= 1


def test_modes(corpus_folder):
    corpus = Corpus(corpus_folder, seed=0)
    ring = corpus.batch(0, mode="ring", size=8, num_images=16, drop_caption=0)
    assert ring.views == 4 and ring.rgb.shape[1:3] == (8, 8)
    assert all(len(set(ring.captions[i : i + 4])) == 1 for i in range(0, 16, 4))
    backs = ring.camera.reshape(4, 4, 4, 4)[:, :, :2, 3]  # horizontal camera position: four quarter turns cancel out
    # Of each summand, at most 1: an angle of at most 2 pi rounded three times, its sine, and a product; then their sum.
    assert_within(backs.sum(1), torch.zeros(4, 2), 4 * (3 * 2 * math.pi + 2 + 1 + 3) * UNIT)
    words = corpus.batch(0, mode="words", size=16, num_images=8, drop_caption=0)
    assert words.views == 1 and not words.camera.any() and all("view" in c for c in words.captions)
    camera = corpus.batch(0, mode="camera", size=16, num_images=8, drop_caption=1)
    assert camera.camera.any(1).all() and set(camera.captions) == {""}


def test_the_colour_that_is_named_is_the_colour_that_is_painted(corpus_folder):
    """Captions and tints of many plans: each colour word stands for the tint of its part."""
    corpus = Corpus(corpus_folder, seed=1)
    spoken = {word: colour for colour, (_, others) in COLOURS.items() for word in (colour, *others)}
    objects = {row: o for o in corpus.objects for row in range(o.first, o.first + 4 * o.rings)}
    checked = 0
    for step in range(20):
        plan = corpus.draw(step, mode="camera", num_images=32, drop_caption=0)
        for row, text, tints in zip(plan.rows.tolist(), plan.captions, plan.tints, strict=True):
            painted = [t for t in tints if not t.isnan().any()]
            named = [spoken[w] for w in text.replace(",", "").split() if w in spoken]
            if not painted:
                assert not objects[row].record.toy and set(named) <= {objects[row].colour}
                continue
            for colour in named:
                near = min(float((t - torch.from_numpy(tint_of(colour))).norm()) for t in painted)
                assert near < 0.36, (text, colour)
                checked += 1
    assert checked > 300


def test_captions_of_every_object_are_known_words_and_short_enough_to_be_encoded(corpus_folder):
    corpus, draw = Corpus(corpus_folder, seed=0), random.Random(0)
    words = set(vocabulary([n for n in corpus.nouns if n in EVERY_NOUN], [n for n in corpus.nouns if n in FAMILIES]))
    assert {"robot", "cartoon", "on", "sofa"} <= words and "hamburger" not in words
    for thing in corpus.objects:
        for view in (None, "overhead"):
            for _ in range(20):
                colours = draw.choices(list(COLOURS), k=thing.num_colours)
                text = describe(thing, colours, view=view, draw=draw)
                assert set(text.replace(",", " ,").split()) <= words, text
                assert captions.num_words(text) <= captions.MAX_CAPTION, text
                assert " a o" not in text and (view is None or text.endswith("overhead view"))


def test_a_missing_corpus_names_the_command():
    with pytest.raises(ValueError, match="corpus build --out"):
        Corpus(Path("nowhere"), seed=0)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ('{"models": []}', "holds no models"),
        ('{"models": [{"noun": "sofa"}]}', "not of this version"),
    ],
)
def test_a_corpus_without_models_or_of_another_version_is_one_sentence(tmp_path, index, message):
    np.save(tmp_path / BUFFERS, np.zeros((4, 8, 8, 8), np.uint8))
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(ValueError, match=message):
        Corpus(tmp_path, seed=0)
    np.save(tmp_path / BUFFERS, np.zeros((4, 8, 8, 6), np.uint8))
    with pytest.raises(ValueError, match="another version"):
        Corpus(tmp_path, seed=0)


def test_an_altered_library_is_one_sentence(library):
    with pytest.raises(ValueError, match=r"Test\.sh3f"):
        check_versions([library])


def test_building_without_the_package_prints_the_one_command(tmp_path, capsys):
    assert main(["build", "--out", str(tmp_path / "out"), "--furniture", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "apt-get install sweethome3d-furniture" in said


def test_sheets_show_every_object_once(corpus_folder, tmp_path):
    (page,) = model_sheets(corpus_folder, tmp_path)
    assert page.stat().st_size > 1000


def test_one_model_of_each_noun_is_its_first(monkeypatch):
    known = [SimpleNamespace(key=split_key(k)[0], licence="CC0") for noun in NOUNS for k in noun.models]
    monkeypatch.setattr(build, "find_libraries", lambda furniture: ["library"])
    monkeypatch.setattr(build, "check_versions", lambda libraries: None)
    monkeypatch.setattr(build, "read_catalogue", lambda library: known)
    core = [noun for noun in NOUNS if noun.core]
    chosen = build.select_models(None, nouns="core", models=1)
    assert [noun for noun, _, _ in chosen] == core
    assert [model.key for _, model, _ in chosen] == [split_key(noun.first[0])[0] for noun in core]
    assert len(build.select_models(None, nouns="core")) == sum(len(noun.models) for noun in core)
