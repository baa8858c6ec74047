"""The pack: the same pictures on the other side, the same bytes twice, and one sentence for what is no pack."""

from __future__ import annotations

import json

import numpy as np
import pytest

from splatdistill.embedded.corpus import pack
from splatdistill.embedded.corpus.__main__ import main
from splatdistill.embedded.corpus.dataset import Corpus
from splatdistill.embedded.corpus.layout import BUFFERS, INDEX, read_index


@pytest.fixture(scope="module")
def packed(corpus_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("pack") / "corpus.zip"
    assert main(["pack", "--corpus", str(corpus_folder), "--out", str(path), "--rings", "1"]) == 0
    return path


def test_models_come_back_bit_for_bit_and_toys_are_made_anew(corpus_folder, packed):
    index, buffers = pack.read(packed, processes=1)
    records, original = read_index(index), read_index(json.loads((corpus_folder / INDEX).read_text()))
    pixels = np.load(corpus_folder / BUFFERS)
    assert [r.key for r in records] == [r.key for r in original] and len(records) > 50
    for mine, theirs in zip(records, original, strict=True):
        views = len(mine.azimuth)
        assert views == 4 and mine.azimuth == theirs.azimuth[:views] and mine.held_out == theirs.held_out
        assert (buffers[mine.first : mine.first + views] == pixels[theirs.first : theirs.first + views]).all()


def test_the_same_corpus_makes_the_same_bytes(corpus_folder, packed, tmp_path):
    again = tmp_path / "again.zip"
    assert main(["pack", "--corpus", str(corpus_folder), "--out", str(again), "--rings", "1"]) == 0
    assert again.read_bytes() == packed.read_bytes()


def test_a_corpus_reads_packs_as_it_reads_folders(packed):
    batch = Corpus(packed, seed=0).batch(0, mode="ring", size=16, num_images=8)
    assert batch.rgb.shape == (8, 16, 16, 3)


def test_webp_keeps_every_byte():
    views = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 4), dtype=np.uint8)
    views[0] = 0
    assert (pack.decode(pack.encode(views), size=8) == views).all()


def test_a_damaged_pack_is_one_sentence(packed, tmp_path):
    data = bytearray(packed.read_bytes())
    data[60] ^= 255
    broken = tmp_path / "broken.zip"
    broken.write_bytes(data)
    with pytest.raises(ValueError, match="copy it again"):
        Corpus(broken, seed=0)
    broken.write_bytes(b"no zip at all")
    with pytest.raises(ValueError, match="no pack of a corpus"):
        Corpus(broken, seed=0)


def test_only_built_folders_are_packed(tmp_path, capsys):
    assert main(["pack", "--corpus", str(tmp_path), "--out", str(tmp_path / "x.zip")]) == 1
    assert "only a built folder" in capsys.readouterr().err


def test_workers_change_nothing():
    one, two = (pack.render_procedural(number=1, rings=1, seed=3, size=8, first=0, processes=n)[1] for n in (1, 2))
    assert one.tobytes() == two.tobytes()
