"""The rules of `splatdistill.ops.rasterize` as the plainest loop over tiles: it counts the pairs that are blended.

Also timed beside `torch_tiles`, as what a loop without its devices costs. Projection and tile lists are shared with it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch_tiles
from torch import Tensor

from splatdistill.ops import RasterInputs, RasterSettings
from splatdistill.ops.reference import ALPHA_CAP, ALPHA_MIN, TRANSMITTANCE_MIN


class PlainImage(NamedTuple):
    """rgb: [V,H,W,3]. pairs: number of pairs of pixel and splat that count towards it."""

    rgb: Tensor
    pairs: int


def rasterize(inputs: RasterInputs, settings: RasterSettings, *, tile: int) -> PlainImage:
    """As `torch_tiles.rasterize`."""
    num_views, width, height = len(inputs.viewmats), settings.width, settings.height
    flat = torch_tiles.project(inputs, width, height)
    columns, rows = -(-width // tile), -(-height // tile)
    ids, counts, centres = torch_tiles.tile_entries(flat, num_views, columns, rows, tile)
    place = torch.arange(tile) + 0.5 - tile / 2
    y, x = (axis.flatten() for axis in torch.meshgrid(place, place, indexing="ij"))
    tiles, pairs = [], 0
    for index, entries in enumerate(ids.split(counts.tolist())):
        pixels = torch.stack([x, y], 1) + centres[index]
        inside = ((pixels < pixels.new_tensor([width, height])).all(1))[:, None]
        dx, dy = (flat.mean[entries] - pixels[:, None]).unbind(-1)
        a, b, c = flat.conic[entries].unbind(-1)
        sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
        peak = flat.opacity[entries] * torch.exp(-sigma)
        alpha = torch.where((sigma >= 0) & (peak >= ALPHA_MIN), peak.clamp(max=ALPHA_CAP), 0.0)
        after = torch.cumprod(1 - alpha, 1)
        counted = after > TRANSMITTANCE_MIN
        pairs += int((counted & (alpha > 0) & inside).sum())
        before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], 1)
        weight = torch.where(counted, alpha * before, 0.0)
        rest = 1 - weight.sum(1, keepdim=True)
        tiles.append(
            weight @ inputs.colors[entries % len(inputs.means)] + rest * inputs.background[index // (rows * columns)]
        )
    rgb = torch.stack(tiles).view(num_views, rows, columns, tile, tile, 3).transpose(2, 3)
    return PlainImage(rgb.reshape(num_views, rows * tile, columns * tile, 3)[:, :height, :width], pairs)
