"""The corpus: reading furniture libraries, ray casting, recolouring, captions, drawing batches."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from splatdistill.cameras import orbit
from splatdistill.embedded.corpus import captions
from splatdistill.embedded.corpus.captions import COLOURS, article, caption, dominant_colour, tint, vocabulary
from splatdistill.embedded.corpus.dataset import Corpus, over_background, paint
from splatdistill.embedded.corpus.nouns import NOUNS, PLURALS, split_key

pytest.importorskip("embreex")
from splatdistill.embedded.corpus.furniture import find_libraries, load_mesh, read_catalogue
from splatdistill.embedded.corpus.render import Caster, shade


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
    assert np.linalg.norm(mesh.vertices, axis=1).max() == pytest.approx(1.0, abs=1e-3)
    extent = np.ptp(mesh.vertices, axis=0)
    np.testing.assert_allclose(extent / extent[1], [2, 1, 4])
    for other in (load_mesh(turned), load_mesh(box, yaw_deg=90)):
        np.testing.assert_allclose(np.ptp(other.vertices, axis=0), extent[[2, 1, 0]])
    np.testing.assert_allclose(load_mesh(box, yaw_deg=90).vertices[0, 0], mesh.vertices[0, 2])
    colours = sorted(m.colour.tolist() for m in mesh.materials)
    np.testing.assert_allclose(colours, [[0.1, 0.8, 0.1], [0.8, 0.1, 0.1]], atol=0.01)


def test_missing_libraries_are_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="install the Debian package sweethome3d-furniture"):
        find_libraries(tmp_path)


def test_rays_see_the_right_side_in_the_right_place(library):
    caster = Caster(load_mesh(read_catalogue(library)[0]))
    paint_, share = caster.choose_paint(front(elevation=0.1))
    red = [m.colour[0] > 0.5 for m in caster.mesh.materials]
    assert paint_.tolist() == red and share > 0.5
    view = caster.gbuffer(front(), paint=paint_)[0] / 255.0
    rows, columns = np.nonzero(view[..., 5] > 0.5)
    assert np.ptp(columns) > np.ptp(rows)  # twice as wide as high from the front
    assert abs(columns.mean() - 7.5) < 0.1 and abs(rows.mean() - 7.5) < 0.1
    np.testing.assert_allclose(view[8, 8, :3], [0.8, 0.1, 0.1], atol=0.01)
    assert view[8, 8, 4] == 1 and view[0, 0].sum() == 0
    above = caster.gbuffer(front(elevation=math.pi / 2 - 0.01), paint=paint_)[0] / 255.0
    np.testing.assert_allclose(above[8, 8, :3], [0.1, 0.8, 0.1], atol=0.01)
    assert above[8, 8, 4] == 0


def test_light_comes_from_above():
    up, down = np.array([0.0, 1, 0]), np.array([0.0, -1, 0])
    assert 0 < shade(down) < shade(up) <= 1


def test_paint_changes_painted_pixels_only_and_keeps_light_and_dark():
    buffers = np.zeros((1, 1, 3, 6), dtype=np.uint8)
    buffers[..., :3], buffers[..., 3], buffers[..., 5] = 100, 255, 255
    buffers[0, 0, 0, 4] = buffers[0, 0, 1, 4] = 255
    buffers[0, 0, 1, :3] = 50
    out = paint(buffers, np.array([0.8, 0.1, 0.1], np.float32), luminance=100 / 255)
    np.testing.assert_allclose(out[0, 0, 0], [0.8, 0.1, 0.1], atol=1e-3)
    assert 0.3 < out[0, 0, 1, 0] < 0.7
    np.testing.assert_allclose(out[0, 0, 2], 100 / 255, atol=1e-3)


def test_backgrounds_are_flat_and_leave_the_object():
    draw = random.Random(0)
    out = over_background(np.zeros((4, 2, 2, 3), np.float32), np.zeros((4, 2, 2, 1), np.float32), draw)
    assert (out == out[:, :1, :1]).all()
    full = over_background(np.full((4, 2, 2, 3), 0.3, np.float32), np.ones((4, 2, 2, 1), np.float32), draw)
    np.testing.assert_allclose(full, 0.3)


def test_captions_are_english_and_made_of_known_words():
    draw, words = random.Random(0), set(vocabulary(NOUNS))
    by_name = {noun.name: noun for noun in NOUNS}
    texts = {caption(by_name["sofa"], colour="red", view="front", draw=draw) for _ in range(200)}
    assert {"a red sofa, front view", "a crimson couch, front view"} <= texts
    for noun in NOUNS:
        for colour in (None, *COLOURS):
            assert set(caption(noun, colour=colour, view=None, draw=draw).replace(",", " ,").split()) <= words
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


def test_the_table_is_small_unambiguous_and_keyed():
    names = [name for noun in NOUNS for name in (noun.name, *noun.synonyms)]
    assert len(NOUNS) <= 40 and len(names) == len(set(names))
    assert {split_key(key)[0] for noun in NOUNS for key in noun.models} and set(PLURALS) <= set(names)
    assert split_key("A/1@90") == ("A/1", 90.0) and split_key("A/1") == ("A/1", 0.0)
    assert not set(captions.VIEW_WORDS) & set(names)


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
    torch.testing.assert_close(backs.sum(1), torch.zeros(4, 2), atol=1e-5, rtol=0)
    words = corpus.batch(0, mode="words", size=16, num_images=8, drop_caption=0)
    assert words.views == 1 and not words.camera.any() and all("view" in c for c in words.captions)
    camera = corpus.batch(0, mode="camera", size=16, num_images=8, drop_caption=1)
    assert camera.camera.any(1).all() and set(camera.captions) == {""}


def test_a_missing_corpus_names_the_command():
    with pytest.raises(ValueError, match="corpus build --out"):
        Corpus(Path("nowhere"), seed=0)
