"""Training rings for the denoiser: four views of a model, and beside them what the known volumes of its noun's models
show from the same cameras. The volumes' views are rendered once, like the corpus.

`python -m splatdistill.embedded.prior.rings --corpus DIR --instances DIR --out DIR --rings 4`
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splatdistill.embedded.corpus.captions import COLOURS, tint
from splatdistill.embedded.corpus.fit import TEST_RINGS
from splatdistill.embedded.corpus.layout import BUFFERS, INDEX, Record, read_index
from splatdistill.priors.gbuffer import CHANNELS, paint, rgba_white
from splatdistill.priors.instances import Instance, Instances
from splatdistill.priors.mixture import MOST
from splatdistill.scene.cameras import camera_token
from splatdistill.utils.rng import key

VIEWS = 4
FEATURES, FEATURES_INDEX = "features.npy", "features.json"
_OWN = 0.5  # share of rings in a model's own look


@dataclass(frozen=True)
class DrawnRings:
    """One ring. truth: [K,4,4,H,W] pictures of all candidates in `rgba_white`; known: what their volumes show instead;
    cameras: [4,16] tokens; logits: [K] of the prior weights of the candidates; target: the one that is shown.
    """

    truth: Tensor
    known: Tensor
    cameras: Tensor
    logits: Tensor
    target: int

    def single_views(self) -> list[DrawnRings]:
        """Each of its views as a ring of its own."""
        rows = [slice(i, i + 1) for i in range(len(self.cameras))]
        return [replace(self, truth=self.truth[:, r], known=self.known[:, r], cameras=self.cameras[r]) for r in rows]


class Rings:
    """A corpus and the features of its volumes, both memory-mapped. Every draw is a function of (seed, step)."""

    def __init__(self, corpus: Path, features: Path, *, seed: int) -> None:
        """ValueError, one sentence, where one of them is missing or they are not of the same models."""
        for folder, name, made_by in ((corpus, INDEX, "corpus build"), (features, FEATURES_INDEX, "rings")):
            if not (folder / name).exists():
                raise ValueError(f"{folder} holds no {name}: `python -m splatdistill.embedded.{made_by}` makes it.")
        records = {r.key: r for r in read_index(json.loads((corpus / INDEX).read_text()))}
        index = json.loads((features / FEATURES_INDEX).read_text())
        self.buffers = torch.from_numpy(np.load(corpus / BUFFERS, mmap_mode="c"))
        self.features = torch.from_numpy(np.load(features / FEATURES, mmap_mode="c"))
        self.known = [Instance(**known) for known in index["known"]]
        if missing := [known.key for known in self.known if known.key not in records]:
            raise ValueError(f"The corpus {corpus} lacks {len(missing)} models of {features}, the first {missing[0]}.")
        self.records = [records[known.key] for known in self.known]
        self.rings: list[int] = index["rings"]  # the last TEST_RINGS are for tests
        self.seed = seed
        self.luminance = torch.tensor([known.luminance for known in self.known])
        self.of_noun: dict[str, list[int]] = {}
        for number, known in enumerate(self.known):
            self.of_noun.setdefault(known.noun, []).append(number)

    def draw(self, step: int, slot: int) -> DrawnRings:
        """Ring `slot` of a step: nouns come by the root of how many models they have, half of the models in their own
        look. Half of the rings are of an open mixture, the others of one that a seed has tilted, to where the target
        is then drawn from.
        """
        draw = random.Random(key(self.seed, step, f"ring/{slot}"))  # noqa: S311 (nothing secret here)
        groups = list(self.of_noun.values())
        group = draw.choices(groups, [len(g) ** 0.5 for g in groups])[0]
        numbers = sorted(draw.sample(group, MOST)) if len(group) > MOST else group
        scale = draw.choice((0.0, 0.0, 2.0, 4.0))
        noise = torch.rand(len(numbers), generator=torch.Generator().manual_seed(draw.getrandbits(62)))
        logits = -scale * (-noise.clamp(1e-6, 1 - 1e-6).log()).log()
        target = draw.choices(range(len(numbers)), torch.softmax(logits, 0).tolist())[0]
        ring, shift = draw.randrange(len(self.rings) - TEST_RINGS), draw.randrange(VIEWS)
        colours = choose_colours(draw, procedural=self.records[numbers[0]].toy)
        return self.ring(numbers, ring=ring, shift=shift, tints=colours, logits=logits, target=target)

    def ring(
        self, numbers: list[int], *, ring: int, shift: int = 0, tints: Tensor, logits: Tensor, target: int
    ) -> DrawnRings:
        """The candidates `numbers` seen from ring `ring` of those that are rendered, begun with view `shift`, in paints
        `tints` [3,3], nan for their own look. logits: [K] of the candidates.
        """
        order = [(shift + i) % VIEWS for i in range(VIEWS)]
        truth = [self.records[n].first + VIEWS * self.rings[ring] + i for n in numbers for i in order]
        known = [VIEWS * (n * len(self.rings) + ring) + i for n in numbers for i in order]
        luminance = self.luminance[numbers].repeat_interleave(VIEWS, 0)
        tints = tints.expand(len(truth), 3, 3)
        pictures = []
        for source, rows in ((self.buffers, truth), (self.features, known)):
            rgb, alpha = paint(source[rows], tints, luminance=luminance)
            pictures.append(rgba_white(rgb, alpha).unflatten(0, (len(numbers), VIEWS)))
        record = self.records[numbers[0]]
        seen = record.cameras([VIEWS * self.rings[ring] + i for i in order], size=self.buffers.shape[1])
        return DrawnRings(pictures[0], pictures[1], camera_token(seen), logits, target)


def choose_colours(draw: random.Random, *, procedural: bool) -> Tensor:
    """sRGB [3,3] for the three paints, nan where the model keeps its own colour. Procedural ones are bare without."""
    tints = np.full((3, 3), np.nan, dtype=np.float32)
    if procedural or draw.random() >= _OWN:
        slots = 3 if procedural else draw.choice((1, 1, 2, 3))
        for slot in range(slots):
            tints[slot] = tint(draw.choice(list(COLOURS)), draw)
    return torch.from_numpy(tints)


@torch.no_grad()
def render(corpus: Path, instances: Instances, out: Path, *, rings: int) -> None:
    """Writes features.npy [4 N R,H,W,8] uint8 and its index: all volumes seen from the first `rings` rings of their
    corpus and from those kept for tests, which come last.
    """
    records = {r.key: r for r in read_index(json.loads((corpus / INDEX).read_text()))}
    size = np.load(corpus / BUFFERS, mmap_mode="r").shape[1]
    total = min(len(records[known.key].azimuth) for known in instances.known) // VIEWS
    chosen = [*range(min(rings, total - TEST_RINGS)), *range(total - TEST_RINGS, total)]
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / f"{FEATURES}.part"
    shape = (VIEWS * len(chosen) * len(instances.known), size, size, CHANNELS)
    pictures = np.lib.format.open_memmap(unfinished, "w+", np.uint8, shape)
    begin = time.monotonic()
    for number, known in enumerate(instances.known):
        views = [VIEWS * ring + i for ring in chosen for i in range(VIEWS)]
        seen = see(instances, number, records[known.key], views, size=size)
        first = number * len(views)
        pictures[first : first + len(views)] = (seen * 255 + 0.5).to(torch.uint8).numpy()
        if number % 50 == 49:
            print(f"{number + 1}/{len(instances.known)}: {time.monotonic() - begin:.0f} s", flush=True)
    pictures.flush()
    index: dict[str, Any] = {"rings": chosen, "known": [vars(known) for known in instances.known]}
    (out / FEATURES_INDEX).write_text(json.dumps(index) + "\n")
    unfinished.rename(out / FEATURES)


def see(instances: Instances, number: int, record: Record, views: list[int], *, size: int) -> Tensor:
    """G-buffers [V,size,size,8] in 0..1 of one volume from some cameras of a record."""
    return instances.model.picture(instances.planes([number])[0], record.cameras(views, size=size), size=size)


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 1 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m splatdistill.embedded.prior.rings", description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder that `corpus build` wrote")
    parser.add_argument("--instances", type=Path, required=True, help="folder that `fit --pack` wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rings", type=int, default=12, help="for training, of each model; those for tests are added")
    args = parser.parse_args(argv)
    try:
        render(args.corpus, Instances.load(args.instances), args.out, rings=args.rings)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
