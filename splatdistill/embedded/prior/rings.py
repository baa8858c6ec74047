"""Training rings for the refiner: four views of a model, and beside them what the known meshes of its noun's models
show from the same cameras. The meshes' views are rendered once, like the corpus.

`python -m splatdistill.embedded.prior.rings --corpus DIR --instances DIR --out DIR --rings 4`
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from splatdistill.embedded.corpus.captions import COLOURS
from splatdistill.embedded.corpus.layout import BUFFERS, INDEX, TEST_RINGS, Record, read_index
from splatdistill.priors.gbuffer import CHANNELS, PAINTS, paint, rgba_white
from splatdistill.priors.instances import Instance, Instances
from splatdistill.priors.mixture import MOST
from splatdistill.priors.zbuffer import draw
from splatdistill.scene.cameras import camera_token
from splatdistill.utils.device import send
from splatdistill.utils.rng import key

VIEWS = 4
FEATURES, FEATURES_INDEX = "features.npy", "features.json"
_OWN = 0.5
"""Share of rings in a model's own look."""
_SLOTS = (1, 1, 2, 3)
"""How many paints of the others get a colour, all alike likely."""
_SCALES = (0.0, 0.0, 2.0, 4.0)
"""Of a seed's logits: half of the rings are of an open mixture."""


@dataclass(frozen=True)
class RingPlan:
    """G rings of V views before anything is painted; all M candidates of all rings lie in one list.

    numbers: [M] of the models; of_ring: [M] to which ring each belongs, rising; ring: [G] of those that were rendered;
    order: [G,V] of its views; tints: [G,3,3] sRGB, nan for a model's own look; logits: [M] of the prior weights;
    target: [G] places in the list, of the models that are shown.
    """

    numbers: Tensor
    of_ring: Tensor
    ring: Tensor
    order: Tensor
    tints: Tensor
    logits: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.ring)

    def to(self, device: torch.device) -> RingPlan:
        """Tensors of the same shapes on a device."""
        return RingPlan(**{name: send(value, device) for name, value in vars(self).items()})

    def single_views(self) -> RingPlan:
        """Each view as a ring of its own, G V of them: the candidates of a ring are listed for each of its views."""
        views = self.order.shape[1]
        count = torch.bincount(self.of_ring, minlength=len(self))
        # Places in the list of the first ring, once a view, then of the second, and so on.
        place = torch.arange(len(self.numbers), device=self.of_ring.device)
        start = count.cumsum(0) - count
        within = place - start[self.of_ring]
        view = torch.arange(views, device=place.device)
        ring_of_view = self.of_ring[:, None] * views + view
        key_of = ring_of_view * (int(count.max()) + 1) + within[:, None]
        sort = key_of.flatten().argsort()
        wide_count = count.repeat_interleave(views)
        wide_start = wide_count.cumsum(0) - wide_count
        target = wide_start + (self.target - start).repeat_interleave(views)
        return RingPlan(
            numbers=self.numbers.repeat_interleave(views)[sort], of_ring=ring_of_view.flatten()[sort],
            ring=self.ring.repeat_interleave(views), order=self.order.reshape(-1, 1),
            tints=self.tints.repeat_interleave(views, 0), logits=self.logits.repeat_interleave(views)[sort],
            target=target,
        )  # fmt: skip


class Rings:
    """Views of models and what their small meshes show instead. Every plan is a function of (seed, step).

    buffers: [I,B,B,8] uint8 of a corpus; features: [N R V,S,S,8] uint8 of N known models from R rings, the last
    TEST_RINGS of which are for tests. B is a multiple of S: pictures of models are made smaller once they are painted.
    """

    def __init__(
        self,
        buffers: Tensor,
        features: Tensor,
        *,
        records: Sequence[Record],
        known: Sequence[Instance],
        rings: Sequence[int],
        seed: int,
        test_rings: int = TEST_RINGS,
    ) -> None:
        """rings: of the corpus, which the features show. ValueError, one sentence, where the corpus lacks a model."""
        of_key = {r.key: r for r in records}
        if missing := [one.key for one in known if one.key not in of_key]:
            raise ValueError(f"The corpus lacks {len(missing)} models of the features, the first {missing[0]}.")
        self.buffers, self.features, self.seed = buffers, features, seed
        self.device = features.device
        self.known, self.rings, self.test_rings = list(known), list(rings), test_rings
        self.records = [of_key[one.key] for one in known]
        self.size, self.factor = features.shape[1], buffers.shape[1] // features.shape[1]
        self.luminance = torch.tensor([one.luminance for one in known], device=self.device)
        self._first = torch.tensor([r.first for r in self.records], device=self.device)
        self._ring = torch.tensor(self.rings, device=self.device)
        rows = [[VIEWS * ring + view for ring in self.rings for view in range(VIEWS)]] * len(known)
        tokens = [camera_token(r.cameras(mine, size=self.size)) for r, mine in zip(self.records, rows, strict=True)]
        self._tokens = torch.stack(tokens).view(len(known), len(self.rings), VIEWS, -1).to(self.device)
        self.of_noun: dict[str, list[int]] = {}
        for number, one in enumerate(self.known):
            self.of_noun.setdefault(one.noun, []).append(number)
        groups = list(self.of_noun.values())
        self._count = torch.tensor([len(group) for group in groups])
        self._group = torch.zeros(len(groups), int(self._count.max()), dtype=torch.long)
        for row, group in zip(self._group, groups, strict=True):
            row[: len(group)] = torch.tensor(group)
        self._bare = torch.tensor([r.toy for r in self.records])

    @classmethod
    def open(cls, corpus: Path, features: Path, *, seed: int) -> Rings:
        """Of two folders, both memory-mapped. ValueError, one sentence, where one is missing or they do not match."""
        for folder, name, made_by in ((corpus, INDEX, "corpus build"), (features, FEATURES_INDEX, "rings")):
            if not (folder / name).exists():
                raise ValueError(f"{folder} holds no {name}: `python -m splatdistill.embedded.{made_by}` makes it.")
        index = json.loads((features / FEATURES_INDEX).read_text(encoding="utf-8"))
        return cls(
            torch.from_numpy(np.load(corpus / BUFFERS, mmap_mode="c")),
            torch.from_numpy(np.load(features / FEATURES, mmap_mode="c")),
            records=read_index(json.loads((corpus / INDEX).read_text(encoding="utf-8"))), seed=seed,
            known=[Instance(**known) for known in index["known"]], rings=index["rings"],
        )  # fmt: skip

    def plan(self, step: int, num: int, *, stream: str = "rings") -> RingPlan:
        """`num` rings of a step, on the CPU: nouns come by the root of how many models they have, half of the models
        in their own look. Half of the rings are of an open mixture, the others of one that a seed has tilted, to where
        the target is then drawn from.
        """
        draw = torch.Generator().manual_seed(key(self.seed, step, stream))
        group = torch.multinomial(self._count.float().sqrt(), num, replacement=True, generator=draw)
        # MOST of a noun's models at random, in rising order; there are `count` of them.
        count = self._count[group].clamp(max=MOST)
        chance = torch.rand(num, self._group.shape[1], generator=draw)
        chance.masked_fill_(torch.arange(chance.shape[1]) >= self._count[group, None], torch.inf)
        chosen = chance.argsort(1)[:, :MOST]
        absent = torch.arange(chosen.shape[1]) >= count[:, None]
        chosen = chosen.masked_fill(absent, self._group.shape[1]).sort(1).values
        numbers = self._group[group].gather(1, chosen.clamp(max=self._group.shape[1] - 1))
        scale = torch.tensor(_SCALES)[torch.randint(len(_SCALES), (num, 1), generator=draw)]
        noise = torch.rand(numbers.shape, generator=draw).clamp(1e-6, 1 - 1e-6)
        logits = (-scale * (-noise.log()).log()).masked_fill(absent, -torch.inf)
        target = torch.multinomial(torch.softmax(logits, 1), 1, generator=draw)[:, 0]
        ring = torch.randint(len(self.rings) - self.test_rings, (num,), generator=draw)
        shift = torch.randint(VIEWS, (num, 1), generator=draw)
        tints = choose_colours(draw, bare=self._bare[numbers[:, 0]])
        return RingPlan(
            numbers=numbers[~absent], of_ring=torch.arange(num).repeat_interleave(count), ring=ring,
            order=(shift + torch.arange(VIEWS)) % VIEWS, tints=tints, logits=logits[~absent],
            target=count.cumsum(0) - count + target,
        )  # fmt: skip

    def ring(self, numbers: Sequence[int], *, ring: int, tints: Tensor, logits: Tensor, target: int) -> RingPlan:
        """The plan of one ring of candidates `numbers` in paints [3,3]; logits: [K]."""
        return RingPlan(
            numbers=torch.tensor(numbers), of_ring=torch.zeros(len(numbers), dtype=torch.long),
            ring=torch.tensor([ring]), order=torch.arange(VIEWS)[None], tints=tints[None], logits=logits,
            target=torch.tensor([target]),
        )  # fmt: skip

    def truth(self, plan: RingPlan, places: Tensor) -> Tensor:
        """[P,V,4,S,S] in `rgba_white`: the models at `places` [P] in the list of a plan, as their rings show them."""
        of_ring = plan.of_ring[places]
        view = VIEWS * self._ring[plan.ring[of_ring], None] + plan.order[of_ring]
        rows = self._first[plan.numbers[places], None] + view
        pictures = self._paint(self.buffers, rows, plan, places)
        return F.avg_pool2d(pictures.flatten(0, 1), self.factor).unflatten(0, rows.shape)

    def known_pictures(self, plan: RingPlan) -> Tensor:
        """[M,V,4,S,S]: what the meshes of all candidates show to the same cameras."""
        view = VIEWS * plan.ring[plan.of_ring, None] + plan.order[plan.of_ring]
        rows = plan.numbers[:, None] * (VIEWS * len(self.rings)) + view
        return self._paint(self.features, rows, plan, torch.arange(len(rows), device=rows.device))

    def cameras(self, plan: RingPlan) -> Tensor:
        """[G,V,16] embeddings of the cameras of a plan's rings."""
        number = plan.numbers[plan.target]
        return self._tokens[number[:, None], plan.ring[:, None], plan.order]

    def _paint(self, source: Tensor, rows: Tensor, plan: RingPlan, places: Tensor) -> Tensor:
        views = rows.shape[1]
        tints = plan.tints[plan.of_ring[places]].repeat_interleave(views, 0)
        luminance = self.luminance[plan.numbers[places]].repeat_interleave(views, 0)
        rgb, alpha = paint(source[rows.flatten()], tints, luminance=luminance)
        return rgba_white(rgb, alpha).unflatten(0, rows.shape)


def choose_colours(draw: torch.Generator, *, bare: Tensor) -> Tensor:
    """sRGB [G,3,3] for the three paints, nan where a model keeps its own colour, named colours jittered as
    `captions.tint` does. bare: [G], without paint a model has no look.
    """
    num, slots = len(bare), len(PAINTS)
    named = torch.tensor([rgb for rgb, _ in COLOURS.values()])
    base = named[torch.randint(len(named), (num, slots), generator=draw)]
    light = 0.85 + 0.27 * torch.rand(num, slots, 1, generator=draw)
    tints = (base * light + 0.025 * torch.randn(num, slots, 3, generator=draw)).clamp(0, 1)
    painted = torch.tensor(_SLOTS)[torch.randint(len(_SLOTS), (num,), generator=draw)]
    painted = torch.where(torch.rand(num, generator=draw) < _OWN, 0, painted)
    painted = torch.where(bare, slots, painted)
    return tints.masked_fill((torch.arange(slots) >= painted[:, None])[..., None], torch.nan)


@torch.no_grad()
def render_features(records: Sequence[Record], instances: Instances, out: Tensor, *, rings: Sequence[int]) -> None:
    """Fills out [N R V,S,S,8] uint8 with all meshes as some rings of their records show them."""
    of_key = {r.key: r for r in records}
    views = [VIEWS * ring + view for ring in rings for view in range(VIEWS)]
    begin = time.monotonic()
    for number, one in enumerate(instances.known):
        seen = see(instances, number, of_key[one.key], views, size=out.shape[1])
        out[number * len(views) :][: len(views)] = (seen * 255 + 0.5).to(torch.uint8)
        if number % 50 == 49:
            print(f"{number + 1}/{len(instances.known)}: {time.monotonic() - begin:.0f} s", flush=True)


def see(instances: Instances, number: int, record: Record, views: list[int], *, size: int) -> Tensor:
    """G-buffers [V,size,size,8] in 0..1 of one mesh from some cameras of a record."""
    return draw(instances.mesh(number), record.cameras(views, size=size), size=size)


def render(corpus: Path, instances: Instances, out: Path, *, rings: int) -> None:
    """Writes features.npy [4 N R,H,W,8] uint8 and its index: all meshes seen from the first `rings` rings of their
    corpus and from those kept for tests, which come last.
    """
    records = {r.key: r for r in read_index(json.loads((corpus / INDEX).read_text(encoding="utf-8")))}
    size = np.load(corpus / BUFFERS, mmap_mode="r").shape[1]
    total = min(len(records[known.key].azimuth) for known in instances.known) // VIEWS
    chosen = [*range(min(rings, total - TEST_RINGS)), *range(total - TEST_RINGS, total)]
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / f"{FEATURES}.part"
    shape = (VIEWS * len(chosen) * len(instances.known), size, size, CHANNELS)
    pictures = np.lib.format.open_memmap(unfinished, "w+", np.uint8, shape)
    render_features(list(records.values()), instances, torch.from_numpy(pictures), rings=chosen)
    pictures.flush()
    index: dict[str, Any] = {"rings": chosen, "known": [vars(known) for known in instances.known]}
    (out / FEATURES_INDEX).write_text(json.dumps(index) + "\n", encoding="utf-8")
    unfinished.rename(out / FEATURES)


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
