"""A picture of what to make: where its object lies in a frame, and which model in which paint shows the same.

S: side of square pictures, pixels; colours are straight, not multiplied by alpha.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from splatdistill.priors.gbuffer import ALPHA, PAINTS, paint, rgba_white
from splatdistill.priors.mixture import apart
from splatdistill.scene.types import Cameras

COMPARED = 128
"""Side of the pictures of models that one is compared with, pixels."""
FEWEST = 12
"""Pixels in which a paint must show for the picture to say its colour."""
REACH = 1 / 128
"""By how much of a picture's side a line may lie elsewhere than the model's: pictures are sharper than splats."""
DARK = 0.1  # light on a surface below which its colour is not read


@dataclass(frozen=True)
class Box:
    """A square in a frame, its left and upper edge and its side as fractions of the frame's."""

    left: float
    top: float
    side: float


USUAL = Box(0.1, 0.1, 0.8)
"""Where an object lies in the frame if no model says otherwise: 0.8 of it, as DreamGaussian's pictures
(github.com/dreamgaussian/dreamgaussian, process.py, border_ratio 0.2)."""


@dataclass(frozen=True)
class Match:
    """place: of the model among those that were compared; tints: [3,3] sRGB of its paints, nan for its own look or what
    the picture does not show; box: where the model lies in the frame of the picture's camera.
    """

    place: int
    tints: Tensor
    box: Box


def extent(alpha: Tensor) -> tuple[int, int, int, int]:
    """Left, top, width and height in pixels of where alpha [H,W] in 0..1 is half of its largest or more. ValueError,
    one sentence, where it is 0 everywhere.
    """
    if not float(alpha.max()) > 0:
        raise ValueError("image: the picture shows nothing but its ground.")
    rows, columns = ((alpha >= 0.5 * alpha.max()).any(axis).nonzero()[:, 0] for axis in (1, 0))
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


def box_of(alpha: Tensor) -> Box:
    """The square about what alpha [S,S] covers."""
    left, top, wide, high = extent(alpha)
    size, side = len(alpha), max(wide, high)
    return Box((left + 0.5 * (wide - side)) / size, (top + 0.5 * (high - side)) / size, side / size)


def cut(rgba: Tensor, *, size: int) -> Tensor:
    """[4,size,size] of a picture [4,H,W] in 0..1: the square about its object, whose longer side fills it."""
    left, top, wide, high = extent(rgba[3])
    side = max(wide, high)
    inner = _times_alpha(rgba)[:, top : top + high, left : left + wide]
    across, down = side - wide, side - high
    square = F.pad(inner, (across // 2, across - across // 2, down // 2, down - down // 2))
    return _by_alpha(_resized(square, size))


def set_into(rgba: Tensor, box: Box, *, size: int) -> Tensor:
    """[4,size,size]: a square picture [4,S,S] laid into a box of an empty frame; what is outside of that is cut off."""
    left, top, side = round(box.left * size), round(box.top * size), max(1, round(box.side * size))
    inner = _resized(_times_alpha(rgba), side)
    # A negative margin cuts.
    return _by_alpha(F.pad(inner, (left, size - left - side, top, size - top - side)))


def resized(cameras: Cameras, size: int) -> Cameras:
    """The same cameras with pictures of `size` pixels a side."""
    Ks = cameras.Ks.clone()
    Ks[:, :2] *= size / cameras.width
    return replace(cameras, Ks=Ks, width=size, height=size)


def on_white(rgba: Tensor) -> Tensor:
    """[1,4,S,S] in -1..1, as a prior that sees alpha gets a picture [4,S,S] in 0..1."""
    return rgba_white(rgba[:3].movedim(0, -1), rgba[3:].movedim(0, -1))[None]


def tints_of(buffers: Tensor, rgba: Tensor, *, luminance: Tensor) -> Tensor:
    """[3,3] the colours that a model's paints must have to come out as in a picture [4,S,S] of it, nan for paints that
    hardly show. buffers: [S,S,8] of the model; luminance: [3], as `gbuffer.paint` has it.
    """
    half = torch.full((1, 3, 3), 0.5, device=buffers.device)
    # Paint is proportional to its colour as long as nothing is clipped, so half of white tells what all of it gives.
    light = 2 * paint(buffers[None], half, luminance=luminance[None])[0][0]
    sure = (buffers[..., ALPHA] > 0.9) & (rgba[3] > 0.9) & (light.amin(-1) > DARK)
    found: list[Tensor] = []
    for channel in PAINTS:
        here = sure & (buffers[..., channel] > 0.8)
        ratio = rgba[:3, here] / light[here].T
        few = int(here.sum()) < FEWEST
        found.append(ratio.new_full((3,), torch.nan) if few else ratio.median(1).values.clamp(0, 1))
    return torch.stack(found)


def matched(buffers: Tensor, rgba: Tensor, *, luminance: Tensor, bare: Sequence[bool]) -> Match:
    """Which of K models a picture [4,S,S] shows, its object filling it from edge to edge, and in which paint: the one
    from which it is least apart once both lie in the same box. buffers: [K,S,S,8] by the picture's camera; luminance:
    [K,3]; bare: which have no look of their own.
    """
    size, best = buffers.shape[1], (torch.inf, Match(0, torch.full((3, 3), torch.nan), Box(0, 0, 1)))
    for place, own in enumerate(buffers):
        box = box_of(own[..., ALPHA])
        wanted = set_into(rgba, box, size=size)
        tints = tints_of(own, wanted, luminance=luminance[place])
        for these in (tints,) if bare[place] else (torch.full_like(tints, torch.nan), tints):
            shown = rgba_white(*paint(own[None], these[None], luminance=luminance[place, None]))
            white = on_white(wanted)
            away = float(apart(shown, white, reach=REACH) + apart(white, shown, reach=REACH))
            if away < best[0]:
                best = away, Match(place, these, box)
    return best[1]


def _times_alpha(rgba: Tensor) -> Tensor:
    """[4,H,W] with the colours multiplied by alpha."""
    return torch.cat([rgba[:3] * rgba[3:], rgba[3:]])


def _by_alpha(rgba: Tensor) -> Tensor:
    """The inverse of `_times_alpha`, [4,H,W]."""
    return torch.cat([(rgba[:3] / rgba[3:].clamp(min=1e-6)).clamp(0, 1), rgba[3:].clamp(0, 1)])


def _resized(picture: Tensor, size: int) -> Tensor:
    """[C,size,size] of a picture [C,H,W]."""
    return F.interpolate(picture[None], (size, size), mode="bilinear", antialias=True, align_corners=False)[0]
