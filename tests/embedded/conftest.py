"""A furniture library of two models and a corpus of random pictures, both made on the spot."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch

from splatdistill.embedded.corpus.layout import BUFFERS, INDEX, Record, ring_cameras, write_index
from splatdistill.embedded.corpus.pack import render_procedural

OBJ = """mtllib box.mtl
v -1 0 -2
v 1 0 -2
v 1 0 2
v -1 0 2
v -1 1 -2
v 1 1 -2
v 1 1 2
v -1 1 2
usemtl top
f 5 8 7
f 5 7 6
usemtl sides
f 4 3 7
f 4 7 8
f 3 2 6
f 3 6 7
f 2 1 5
f 2 5 6
f 1 4 8
f 1 8 5
f 1 2 3
f 1 3 4
"""
MTL = "newmtl top\nKd 0.1 0.8 0.1\nnewmtl sides\nKd 0.8 0.1 0.1\n"
CATALOGUE = """name=Test
id#1=box
name#1=Box
category#1=Things
creator#1=Jos\u00e9
model#1=/test/box/box.obj
id#2=turned
name#2=Turned box
creator#2=Ana
model#2=/test/box/box.obj
modelRotation#2=0 0 1 0 1 0 -1 0 0
"""


@pytest.fixture
def library(tmp_path):
    path = tmp_path / "Test.sh3f"
    with zipfile.ZipFile(path, "w") as contents:
        contents.writestr("PluginFurnitureCatalog.properties", CATALOGUE.encode("latin-1"))
        contents.writestr("test/box/box.obj", OBJ)
        contents.writestr("test/box/box.mtl", MTL)
        contents.writestr("test/box/BLENDSWAP_LICENSE.txt", "This work is CC-0")
    return path


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory):
    """Two real nouns of random pixels, one model of them held out, and few toys, all of 16x16 pixels."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    models, rings = [], 2
    for number, noun in enumerate(("sofa", "sofa", "cactus")):
        cameras = ring_cameras(rings, size=16, seed=0, model=number)
        models.append(
            Record.make(
                cameras, noun=noun, key=f"Test/{number}", paint_share=0.9, first=8 * number, held_out=number == 1
            )
        )
    buffers = rng.integers(0, 256, (24, 16, 16, 8), dtype=np.uint8)
    buffers[..., 6:] = 0
    buffers[:, 4:12, 4:12, 5] = 255
    toys = {"number": 1, "rings": 1, "seed": 0}
    records, rendered = render_procedural(**toys, size=16, first=len(buffers), processes=1)
    np.save(folder / BUFFERS, np.concatenate([buffers, rendered]))
    (folder / INDEX).write_text(json.dumps(write_index([*models, *records], size=16, seed=0, toys=toys)))
    return folder


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
