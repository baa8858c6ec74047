"""What the judge learns from: corpus renders under other lights, colours, crops, grounds and blurs, or textureless."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from splatdistill.embedded.corpus.captions import COLOURS, article, tint
from splatdistill.embedded.corpus.dataset import Corpus
from splatdistill.embedded.corpus.nouns import NOUNS, PLURALS, Noun
from splatdistill.priors.gbuffer import ALBEDO, SHADING, paint
from splatdistill.utils.rng import key

UNKNOWN = -1
"""As a colour: of many colours, or without any."""
_DARKEST = 0.5  # shading of the corpus lies above this


@dataclass(frozen=True)
class Pictures:
    """rgb: [B,3,H,W] in 0..1; noun, colour: [B] indices into NOUNS and COLOURS, or UNKNOWN; azimuth: [B] rad."""

    rgb: Tensor
    noun: Tensor
    colour: Tensor
    azimuth: Tensor


def prompt_of(noun: str, colour: str | None) -> str:
    """The plainest prompt for an object: "an armchair", "a red armchair", "a pair of sneakers"."""
    phrase = f"{colour} {noun}" if colour else noun
    return f"{article(phrase, plural=noun in PLURALS)} {phrase}"


class PictureBook:
    """Draws batches from a built corpus; every draw is a function of (seed, step). textureless: their share."""

    def __init__(self, folder: Path, *, seed: int, textureless: float) -> None:
        self.corpus = Corpus(folder, seed=seed)  # without the models that are held out
        self.seed, self.textureless = seed, textureless
        names = {noun.name: index for index, noun in enumerate(NOUNS)}
        groups = [
            [(thing, names[thing.noun.name]) for thing in group if isinstance(thing.noun, Noun)]
            for group in self.corpus.by_noun
        ]
        self.things = [group for group in groups if group]  # procedural objects are for the prior only
        self.weights = [len(group) ** 0.5 for group in self.things]

    def batch(self, step: int, *, num_images: int) -> Pictures:
        draw = random.Random(key(self.seed, step, "judge"))  # noqa: S311 (nothing secret here)
        views, tints, luminance, nouns, colours, azimuths = [], [], [], [], [], []
        for _ in range(num_images):
            thing, noun = draw.choice(draw.choices(self.things, self.weights)[0])
            row = draw.randrange(4 * thing.rings)
            buffers = relight(self.corpus.buffers[thing.first + row].numpy(), draw)
            colour, shade = UNKNOWN, np.full(3, np.nan, dtype=np.float32)
            if draw.random() < self.textureless:
                buffers[..., ALBEDO] = round(255 * draw.uniform(0.6, 1.0))
            elif thing.paintable and draw.random() < 0.75:
                colour = draw.randrange(len(COLOURS))
                shade = tint(list(COLOURS)[colour], draw)
            elif thing.colour is not None:
                colour = list(COLOURS).index(thing.colour)
            views.append(buffers)
            tints.append(shade)
            luminance.append(thing.luminance)
            nouns.append(noun)
            colours.append(colour)
            azimuths.append(thing.record.azimuth[row])
        rgb, alpha = paint(
            torch.from_numpy(np.stack(views)), one_tint(np.stack(tints)), luminance=torch.tensor(luminance)
        )
        generator = torch.Generator().manual_seed(key(self.seed, step, "augment"))
        rgba = torch.cat([rgb * alpha, alpha], -1).permute(0, 3, 1, 2)
        flip = torch.rand(num_images, generator=generator) < 0.5  # a mirror image is seen from the other side
        rgba = torch.where(flip[:, None, None, None], rgba.flip(-1), rgba)
        turned = torch.tensor(azimuths) * torch.where(flip, -1.0, 1.0)
        return Pictures(augment(rgba, generator), torch.tensor(nouns), torch.tensor(colours), turned)


def one_tint(colours: NDArray[np.floating]) -> Tensor:
    """[B,3,3] tints that `paint` takes, from the colour [B,3] of the first part; nan for none."""
    tints = torch.full((len(colours), 3, 3), torch.nan)
    tints[:, 0] = torch.from_numpy(colours)
    return tints


def relight(buffers: NDArray[np.uint8], draw: random.Random) -> NDArray[np.uint8]:
    """A copy [H,W,6] with another shading: contrast and curve at random, and a lamp from one side of the picture."""
    out = buffers.copy()
    light = ((out[..., SHADING] / np.float32(255) - _DARKEST) / (1 - _DARKEST)).clip(0, 1)
    darkest = draw.uniform(0.25, 0.85)
    light = darkest + (1 - darkest) * light ** draw.uniform(0.6, 1.6)
    angle, strength = draw.uniform(0, 2 * math.pi), draw.uniform(0, 0.3)
    ramp = np.linspace(-1, 1, out.shape[0], dtype=np.float32)
    light = light * (1 + strength * (math.sin(angle) * ramp[:, None] + math.cos(angle) * ramp[None, :]))
    out[..., SHADING] = (255 * light.clip(0, 1)).astype(np.uint8)
    return out


def augment(rgba: Tensor, generator: torch.Generator) -> Tensor:
    """[B,3,H,W] in 0..1 from premultiplied [B,4,H,W]: crops, scales, blotches, grounds, blur, colour jitter, noise.

    Gaussians blur and blotch, so the judge must not ask for sharp edges; hues move too little to change their names.
    """
    n, size = len(rgba), rgba.shape[-1]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *(shape or (1, 1, 1)), generator=generator)

    rgba = _move(rgba, scale=uniform(0.8, 1.35), angle=uniform(-0.12, 0.12), shift=uniform(-0.12, 0.12, 2))
    colour, alpha = rgba[:, :3], rgba[:, 3:]
    blotches = F.interpolate(torch.randn(n, 3, 8, 8, generator=generator), size=size, mode="bilinear")
    colour = colour * (1 + uniform(0, 0.15) * blotches).clamp(0.4, 1.6)
    rgb = colour + _grounds(n, size, generator) * (1 - alpha)
    rgb = _soften(rgb, uniform(0, 1))
    gray = rgb.mean(1, keepdim=True)
    rgb = gray + (rgb - gray) * uniform(0.85, 1.3)
    rgb = rgb * uniform(0.85, 1.15) * uniform(0.96, 1.04, 3, 1, 1)
    rgb = rgb + uniform(0, 0.04) * torch.randn(rgb.shape, generator=generator)
    return rgb.clamp(0, 1)


def _move(rgba: Tensor, *, scale: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
    """Objects of rgba [B,4,H,W] larger by `scale` [B,1,1,1], turned by `angle` (rad) and moved by `shift` [B,2] of half
    a picture.
    """
    cos, sin = (angle.cos() / scale).flatten(), (angle.sin() / scale).flatten()
    theta = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(theta, list(rgba.shape), align_corners=False)
    return F.grid_sample(rgba, grid, padding_mode="zeros", align_corners=False)


def _grounds(n: int, size: int, generator: torch.Generator) -> Tensor:
    """[n,3,size,size]: white, gray, coloured, or cloudy."""
    kind = torch.rand(n, 1, 1, 1, generator=generator)
    flat = torch.rand(n, 3, 1, 1, generator=generator)
    ground = torch.where(kind < 0.45, torch.ones(n, 3, 1, 1), torch.where(kind < 0.8, flat[:, :1], flat))
    clouds = 0.1 * torch.randn(n, 3, 4, 4, generator=generator)
    clouds = F.interpolate(clouds, size=size, mode="bilinear")
    return (ground + clouds * (torch.rand(n, 1, 1, 1, generator=generator) < 0.2)).clamp(0, 1)


def _soften(rgb: Tensor, chance: Tensor) -> Tensor:
    """Pictures rgb [B,3,H,W]: half stay sharp, the others are blurred with deviations of about 1 and 2 pixels. chance:
    [B,1,1,1] in 0..1, which of the three.
    """

    def box(x: Tensor, side: int) -> Tensor:
        return F.avg_pool2d(x, side, 1, side // 2, count_include_pad=False)

    once = box(box(rgb, 3), 3)
    return torch.where(chance < 0.5, rgb, torch.where(chance < 0.8, once, box(box(once, 3), 5)))
