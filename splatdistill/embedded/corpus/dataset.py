"""Draws training pictures from a built corpus: a ring or single views, coloured, captioned and put on a background."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splatdistill.cameras import camera_token, orbit, view_words
from splatdistill.embedded.corpus.captions import COLOURS, caption, dominant_colour, tint
from splatdistill.embedded.corpus.layout import BUFFERS, INDEX
from splatdistill.embedded.corpus.nouns import NOUNS, Noun
from splatdistill.rng import key

Mode = Literal["ring", "camera", "words"]
MIN_PAINT_SHARE = 0.35
_LUMA = np.array([0.3, 0.59, 0.11], dtype=np.float32)


@dataclass(frozen=True)
class Batch:
    """rgb: [B,H,W,3] in 0..1; captions: B strings; camera: [B,16], zero rows for no camera; views: rows per group."""

    rgb: Tensor
    captions: list[str]
    camera: Tensor
    views: int


@dataclass(frozen=True)
class _Object:
    noun: Noun
    first: int
    rings: int
    paintable: bool
    luminance: float
    colour: str | None
    tokens: Tensor
    words: list[str]


class Corpus:
    """A built corpus in memory. Every draw is a function of (seed, step)."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        if not (folder / INDEX).exists():
            raise ValueError(
                f"No corpus in {folder}: build it with `python -m splatdistill.embedded.corpus build --out {folder}`."
            )
        self.buffers: NDArray[np.uint8] = np.load(folder / BUFFERS)
        self.seed = seed
        nouns = {noun.name: noun for noun in NOUNS}
        objects = [
            _read_object(record, nouns[record["noun"]], self.buffers)
            for record in json.loads((folder / INDEX).read_text())["models"]
        ]
        self.by_noun = [
            [o for o in objects if o.noun is noun] for noun in NOUNS if any(o.noun is noun for o in objects)
        ]
        # More shapes need more pictures, but a noun of one model must not starve.
        self.weights = [len(group) ** 0.5 for group in self.by_noun]

    def batch(self, step: int, *, mode: Mode, size: int, num_images: int, drop_caption: float = 0.1) -> Batch:
        """ring: groups of 4 orthogonal views with cameras; camera: single views with camera; words: view words instead.

        A caption is empty with probability `drop_caption`, for classifier-free guidance.
        """
        draw = random.Random(key(self.seed, step, "corpus"))  # noqa: S311 (nothing secret here)
        views = 4 if mode == "ring" else 1
        pictures, captions, cameras = [], [], []
        for _ in range(num_images // views):
            thing = draw.choice(draw.choices(self.by_noun, self.weights)[0])
            ring = draw.randrange(thing.rings)
            rows = list(range(4 * ring, 4 * ring + 4))
            shift = draw.randrange(4)
            rows = rows[shift:] + rows[:shift] if mode == "ring" else [rows[shift]]
            colour, buffers = None, self.buffers[[thing.first + r for r in rows]]
            if thing.paintable and draw.random() < 0.55:
                colour = draw.choice(list(COLOURS))
                rgb = paint(buffers, tint(colour, draw), luminance=thing.luminance)
            else:
                rgb = paint(buffers, None, luminance=thing.luminance)
                colour = thing.colour if draw.random() < 0.5 else None
            pictures.append(over_background(rgb, buffers[..., 5:].astype(np.float32) / 255, draw))
            word = thing.words[rows[0]] if mode == "words" else None
            text = "" if draw.random() < drop_caption else caption(thing.noun, colour=colour, view=word, draw=draw)
            captions += [text] * views
            cameras.append(thing.tokens[rows] * (mode != "words"))
        rgb = torch.from_numpy(np.concatenate(pictures))
        if size != rgb.shape[1]:
            assert rgb.shape[1] % size == 0
            rgb = torch.nn.functional.avg_pool2d(rgb.permute(0, 3, 1, 2), rgb.shape[1] // size).permute(0, 2, 3, 1)
        return Batch(rgb=rgb, captions=captions, camera=torch.cat(cameras), views=views)


def paint(buffers: NDArray[np.uint8], colour: NDArray[np.floating] | None, *, luminance: float) -> NDArray[np.floating]:
    """Shaded colours [V,H,W,3] of the object: paint keeps the light and dark of the surface but takes `colour` [3].

    luminance: mean of the painted surface, so that the colour comes out as named on dark and on light originals.
    """
    g = buffers.astype(np.float32) / 255
    albedo, shading, mask = g[..., :3], g[..., 3:4], g[..., 4:5]
    if colour is not None:
        relative = ((albedo @ _LUMA)[..., None] + 0.15) / (luminance + 0.15)
        albedo = albedo * (1 - mask) + (colour * relative.clip(0.5, 1.3)).clip(0, 1) * mask
    return albedo * shading


def over_background(
    rgb: NDArray[np.floating], alpha: NDArray[np.floating], draw: random.Random
) -> NDArray[np.floating]:
    """Composites views [V,H,W,3] over flat backgrounds: mostly white, one for the whole group most of the time."""
    shared = draw.random() < 0.85
    grounds = [_background(draw)] * len(rgb) if shared else [_background(draw) for _ in rgb]
    return rgb * alpha + np.stack(grounds)[:, None, None, :] * (1 - alpha)


def _background(draw: random.Random) -> NDArray[np.floating]:
    kind = draw.random()
    if kind < 0.65:
        return np.ones(3, dtype=np.float32)
    if kind < 0.9:
        return np.full(3, draw.uniform(0.3, 0.95), dtype=np.float32)
    return np.array([draw.random() for _ in range(3)], dtype=np.float32)


def _read_object(record: dict[str, Any], noun: Noun, buffers: NDArray[np.uint8]) -> _Object:
    azimuth, elevation, radius = (torch.tensor(record[k]) for k in ("azimuth", "elevation", "radius"))
    # The token knows directions only, so any field of view gives the same one.
    cameras = orbit(azimuth=azimuth, elevation=elevation, radius=radius, fovy=torch.full_like(azimuth, 0.7), size=64)
    mine = buffers[record["first"] : record["first"] + len(azimuth)][::3].astype(np.float32) / 255
    covered = mine[..., 5] > 0.9
    painted = covered & (mine[..., 4] > 0.9)
    visible = mine[covered]
    return _Object(
        noun=noun,
        first=record["first"],
        rings=len(azimuth) // 4,
        paintable=noun.paintable and record["paint_share"] >= MIN_PAINT_SHARE,
        luminance=float((mine[painted][:, :3] @ _LUMA).mean()) if painted.any() else 0.5,
        colour=dominant_colour(visible[:, :3]),
        tokens=camera_token(cameras),
        words=view_words(cameras),
    )
