"""The shipped prior: small, complete, loadable, credited."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import splatdistill.embedded
from splatdistill.embedded.corpus.nouns import EVERY_NOUN, NOUNS, read_files
from splatdistill.embedded.corpus.procedural import FAMILIES
from splatdistill.embedded.prior.architecture import EVERYTHING
from splatdistill.priors.base import Choice
from splatdistill.priors.known import KnownPrior
from splatdistill.priors.vocabulary import META_FILE, Vocabulary
from splatdistill.scene.cameras import orbit

PACKAGE = Path(splatdistill.embedded.__file__).parent
WEIGHTS = PACKAGE / "prior" / "weights"


def test_the_folder_is_at_most_28_megabytes_and_holds_fp16_safetensors_only():
    assert sum(f.stat().st_size for f in WEIGHTS.rglob("*") if f.is_file()) <= 28 * 2**20
    assert not [f for f in WEIGHTS.rglob("*") if f.suffix in {".bin", ".pt", ".pth", ".ckpt", ".pkl"}]
    for path in WEIGHTS.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            large = [name for name in file.keys() if math.prod(file.get_slice(name).get_shape()) > 50_000]
            assert all(file.get_slice(name).get_dtype() == "F16" for name in large), path


def test_it_loads_and_answers():
    prior = KnownPrior.load(WEIGHTS, dtype="fp32")
    assert (prior.image_size, prior.num_views) == (64, 4)
    prior.begin(Choice("a red armchair"))
    one = torch.ones(4)
    for size in (64, 128):
        azimuth = torch.arange(4) * (math.pi / 2)
        cameras = orbit(azimuth=azimuth, elevation=0.2 * one, radius=3 * one, fovy=0.7 * one, size=size)
        xt = prior.encode(torch.rand(4, size, size, 4))
        (eps,) = prior.predict(xt, torch.full((4,), 500), [prior.embed("a red armchair", cameras)])
        assert eps.shape == xt.shape == (4, 4, size, size) and torch.isfinite(eps).all()


def test_its_vocabulary_is_part_of_the_corpus():
    vocabulary = Vocabulary.load(WEIGHTS)
    everything = {noun.name for noun in (*EVERYTHING, *EVERY_NOUN, *FAMILIES)}
    assert {noun.name for noun in NOUNS if noun.core} <= set(vocabulary.nouns) <= everything
    assert vocabulary.check("a red armchair") == []
    assert json.loads((WEIGHTS / META_FILE).read_text())["encode"] == "pixel_unshuffle"


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.name)
def test_every_model_is_credited(noun):
    credits_ = (PACKAGE / "ATTRIBUTION.md").read_text()
    assert credits_.count(f"| {noun.name} |") == len(noun.models)


def test_every_file_of_the_table_is_credited_to_its_creator():
    files = read_files()
    table = (PACKAGE / "ATTRIBUTION.md").read_text().partition("## GLB models")[2]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]
    found = {(creator, source, licence): int(models.split(":")[0]) for creator, source, licence, models in rows[2:]}
    assert found == Counter((file.creator, file.source, file.licence) for file in files)
    assert f"these {len(files)} files" in table
