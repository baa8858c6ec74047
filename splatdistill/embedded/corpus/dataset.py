"""Draws training pictures from a corpus: a ring or single views, coloured, captioned and put on a background.

What is drawn is decided on the CPU by (seed, step); the pictures are painted where the buffers lie.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splatdistill.embedded.corpus import pack
from splatdistill.embedded.corpus.captions import (
    COLOURS,
    caption,
    dominant_colour,
    procedural_caption,
    relation_caption,
    tint,
)
from splatdistill.embedded.corpus.layout import BUFFERS, INDEX, Record, read_index
from splatdistill.embedded.corpus.nouns import EVERY_NOUN, Noun
from splatdistill.embedded.corpus.procedural import BY_NAME, FAMILIES, Family
from splatdistill.embedded.corpus.splits import held_out_pair, held_out_relation
from splatdistill.priors.gbuffer import ALBEDO, ALPHA, CHANNELS, LUMA, PAINTS, paint
from splatdistill.scene.cameras import camera_token, orbit, view_words
from splatdistill.utils.device import send
from splatdistill.utils.rng import key

Mode = Literal["ring", "camera", "words"]
Split = Literal["train", "held-out"]
MIN_PAINT_SHARE = 0.35
PROCEDURAL_SHARE = 0.3  # of the images: the rest are of real objects, which people ask for
CORE_WEIGHT = 4.0  # how much more often than others a noun comes that the first prior knew


@dataclass(frozen=True)
class CaptionedBatch:
    """rgb: [B,H,W,3] in 0..1; captions: B strings; camera: [B,16], zero rows for no camera; views: rows per group."""

    rgb: Tensor
    captions: list[str]
    camera: Tensor
    views: int


@dataclass(frozen=True)
class BatchPlan:
    """A batch before its pictures are painted. rows: [B] of the buffers. tints: [B,3,3] sRGB colours for the three
    paint masks, nan where the object keeps its own. luminance: [B] of the bare painted surface. ground: [B,3]
    behind it.
    """

    rows: Tensor
    tints: Tensor
    luminance: Tensor
    ground: Tensor
    captions: list[str]
    camera: Tensor
    views: int


@dataclass(frozen=True)
class Object:
    """A model of the corpus, ready to draw from. noun: None for two shapes together. colour: its own, if it has one."""

    record: Record
    noun: Noun | Family
    paintable: bool
    luminance: float
    colour: str | None
    tokens: Tensor
    words: list[str]

    @property
    def first(self) -> int:
        return self.record.first

    @property
    def rings(self) -> int:
        return len(self.record.azimuth) // 4

    @property
    def num_colours(self) -> int:
        """How many colours a caption may name."""
        if self.record.relation:
            return 2
        return 1 + len(self.noun.extras) if isinstance(self.noun, Family) else int(self.paintable)


class Corpus:
    """A built folder, memory-mapped, or a pack, in memory. Every draw is a function of (seed, step).

    split: "held-out" draws from the models that "train" never does. Colours and relations that are held out are in no
    batch of either.
    """

    def __init__(self, source: Path, *, seed: int, split: Split = "train") -> None:
        index, buffers = read_source(source)
        if buffers.shape[-1] != CHANNELS:
            raise ValueError(f"The corpus {source} is of another version: build it again.")
        self.buffers: Tensor = torch.from_numpy(buffers)
        self.seed = seed
        self.records = read_index(index)
        known = {noun.name: noun for noun in EVERY_NOUN}
        self.objects = [
            _read_object(record, known, self.buffers)
            for record in self.records
            if record.held_out == (split == "held-out")
        ]
        if not self.objects:
            raise ValueError(f"The corpus {source} holds no models of the split {split!r}.")
        groups: defaultdict[str, list[Object]] = defaultdict(list)
        for thing in self.objects:
            groups[_group(thing.record)].append(thing)
        self.by_noun = list(groups.values())
        self.weights = _weights(self.by_noun)

    @property
    def nouns(self) -> list[Noun | Family]:
        """What it shows, in the order of the tables."""
        shown = {record.noun for record in self.records}
        return [noun for noun in (*EVERY_NOUN, *FAMILIES) if noun.name in shown]

    def to(self, device: torch.device) -> Corpus:
        """The buffers on a device, for good: indices are all that a batch then sends there."""
        if device.type != "cpu":
            self.buffers = self.buffers.to(device)
        return self

    def batch(self, step: int, *, mode: Mode, size: int, num_images: int, drop_caption: float = 0.1) -> CaptionedBatch:
        """ring: groups of 4 orthogonal views with cameras; camera: single views with camera; words: view words instead.

        A caption is empty with probability `drop_caption`, for classifier-free guidance.
        """
        return self.paint(self.draw(step, mode=mode, num_images=num_images, drop_caption=drop_caption), size=size)

    def draw(self, step: int, *, mode: Mode, num_images: int, drop_caption: float = 0.1) -> BatchPlan:
        """What `batch` shows, on the CPU."""
        draw = random.Random(key(self.seed, step, "corpus"))  # noqa: S311 (nothing secret here)
        views = 4 if mode == "ring" else 1
        rows: list[int] = []
        tints, luminance, grounds, captions, cameras = [], [], [], [], []
        for _ in range(num_images // views):
            thing = draw.choice(draw.choices(self.by_noun, self.weights)[0])
            ring, shift = draw.randrange(thing.rings), draw.randrange(4)
            mine = [4 * ring + (shift + i) % 4 for i in range(views)]
            colours = choose_colours(thing, draw)
            colour_of = np.full((3, 3), np.nan, dtype=np.float32)
            for slot, colour in enumerate(colours):
                colour_of[slot] = tint(colour, draw)
            word = thing.words[mine[0]] if mode == "words" else None
            text = "" if draw.random() < drop_caption else describe(thing, colours, view=word, draw=draw)
            rows += [thing.first + r for r in mine]
            tints += [colour_of] * views
            luminance += [thing.luminance] * views
            grounds += _backgrounds(views, draw)
            captions += [text] * views
            cameras.append(thing.tokens[mine] * (mode != "words"))
        return BatchPlan(
            rows=torch.tensor(rows), tints=torch.from_numpy(np.stack(tints)), luminance=torch.tensor(luminance),
            ground=torch.tensor(grounds), captions=captions, camera=torch.cat(cameras), views=views,
        )  # fmt: skip

    def paint(self, plan: BatchPlan, *, size: int) -> CaptionedBatch:
        """The pictures of a plan, size x size pixels, on the device of the buffers."""
        device = self.buffers.device
        buffers = self.buffers[send(plan.rows, device)]
        rgb, alpha = paint(buffers, send(plan.tints, device), luminance=send(plan.luminance, device))
        rgb = rgb * alpha + send(plan.ground, device)[:, None, None] * (1 - alpha)
        if size != rgb.shape[1]:
            assert rgb.shape[1] % size == 0
            rgb = torch.nn.functional.avg_pool2d(rgb.permute(0, 3, 1, 2), rgb.shape[1] // size).permute(0, 2, 3, 1)
        return CaptionedBatch(rgb=rgb, captions=plan.captions, camera=send(plan.camera, device), views=plan.views)


def choose_colours(thing: Object, draw: random.Random) -> list[str]:
    """A colour for each painted part, none for an object in its own colours; never a pair that is held out."""
    while thing.num_colours:
        own = isinstance(thing.noun, Noun)
        if own and draw.random() >= 0.55 and not (thing.colour and held_out_pair(thing.colour, thing.noun.name)):
            return []
        colours = [draw.choice(list(COLOURS)) for _ in range(thing.num_colours)]
        if thing.record.relation:
            word, lower = thing.record.relation
            if colours[0] != colours[1] and not held_out_relation(
                (colours[0], thing.record.noun), word, (colours[1], lower)
            ):
                return colours
        elif not held_out_pair(colours[0], thing.noun.name):
            return colours
    return []


def describe(thing: Object, colours: list[str], *, view: str | None, draw: random.Random) -> str:
    """A caption of an object in these colours."""
    if thing.record.relation:
        word, lower = thing.record.relation
        return relation_caption((colours[0], thing.record.noun), word, (colours[1], lower), view=view, draw=draw)
    if isinstance(thing.noun, Family):
        return procedural_caption(thing.noun, colours=colours, view=view, draw=draw)
    colour = colours[0] if colours else (thing.colour if draw.random() < 0.5 else None)
    return caption(thing.noun, colour=colour, view=view, draw=draw)


def _backgrounds(views: int, draw: random.Random) -> list[list[float]]:
    """Flat backgrounds: mostly white, one for the whole group most of the time."""
    if draw.random() < 0.85:
        return [_background(draw)] * views
    return [_background(draw) for _ in range(views)]


def _background(draw: random.Random) -> list[float]:
    kind = draw.random()
    if kind < 0.65:
        return [1.0] * 3
    if kind < 0.9:
        return [draw.uniform(0.3, 0.95)] * 3
    return [draw.random() for _ in range(3)]


def read_source(source: Path) -> tuple[dict, NDArray[np.uint8]]:
    """Index and buffers [I,S,S,8] of a folder or a pack. ValueError, one sentence, for what is neither."""
    if source.is_file():
        return pack.read(source)
    if not (source / INDEX).exists():
        raise ValueError(
            f"No corpus in {source}: build it with `python -m splatdistill.embedded.corpus build --out {source}`."
        )
    # Copy on write: nothing writes, but torch takes no read-only memory.
    return json.loads((source / INDEX).read_text(encoding="utf-8")), np.load(source / BUFFERS, mmap_mode="c")


def _group(record: Record) -> str:
    return record.relation[0] if record.relation else record.noun


def _weights(groups: list[list[Object]]) -> list[float]:
    """More shapes need more pictures, but a noun of one model must not starve. Procedural objects are endless
    and all weigh the same, but relations, of which each shape is a part, weigh more.
    """
    weights = []
    for group in groups:
        noun, relation = group[0].noun, group[0].record.relation
        if isinstance(noun, Family):
            weights.append(4.0 if relation else 1.0)
        else:
            weights.append(len(group) ** 0.5 * (CORE_WEIGHT if noun.core else 1.0))
    toy = [isinstance(group[0].noun, Family) for group in groups]
    procedural = sum(w for w, t in zip(weights, toy, strict=True) if t)
    real = sum(weights) - procedural
    if not procedural or not real:
        return weights
    return [
        w * (PROCEDURAL_SHARE / procedural if t else (1 - PROCEDURAL_SHARE) / real)
        for w, t in zip(weights, toy, strict=True)
    ]


def _read_object(record: Record, nouns: dict[str, Noun], buffers: Tensor) -> Object:
    """The object of a record. buffers: [N,S,S,C] uint8, those of the whole corpus."""
    azimuth, elevation, radius = (torch.tensor(getattr(record, k)) for k in ("azimuth", "elevation", "radius"))
    # The token knows directions only, so any field of view gives the same one.
    cameras = orbit(azimuth=azimuth, elevation=elevation, radius=radius, fovy=torch.full_like(azimuth, 0.7), size=64)
    noun = BY_NAME[record.noun] if record.toy else nouns.get(record.noun)
    if noun is None:
        raise ValueError(f"The corpus shows a {record.noun}, which the table of nouns does not have: build it again.")
    common = {"record": record, "noun": noun, "tokens": camera_token(cameras), "words": view_words(cameras)}
    if record.toy:
        return Object(**common, paintable=True, luminance=0.6, colour=None)
    mine = buffers[record.first : record.first + len(azimuth) : 3].numpy().astype(np.float32) / 255
    covered = mine[..., ALPHA] > 0.9
    painted = covered & (mine[..., PAINTS[0]] > 0.9)
    assert isinstance(noun, Noun)
    return Object(
        **common,
        paintable=noun.paintable and record.paint_share >= MIN_PAINT_SHARE,
        luminance=float((mine[painted][:, ALBEDO] @ np.array(LUMA, dtype=np.float32)).mean()) if painted.any() else 0.5,
        colour=dominant_colour(mine[covered][:, ALBEDO]),
    )
