"""The baseline of bm_rasterize: the fastest tile rasteriser we could write in plain torch, with gradients by autograd.

Rules and arguments are those of `splatdistill.ops.rasterize` (gsplat 1.5.3); outputs agree to float32 rounding. It is
frozen: a faster operator must not be compared with a changed baseline.

How it saves work, all of it in vectorised torch:
- the views are projected together, the splats sorted once by depth and their tile entries once, stably, by tile;
- the exponent of a splat over a tile is a quadratic polynomial in the pixel's place in the tile, so a batched matrix
  product gives it for all pixels and splats; log(opacity) is its constant, so nothing else is done before `exp`;
- transmittance is the exponential of running sums of log(1 - alpha), and those are a product with a triangle of ones;
- tiles of like length go together, few enough for the cache, `DEPTH` entries at a time, front first; a tile leaves
  when all its pixels are saturated;
- cap and stop cost a pass only where one of them happens.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import threshold

from splatdistill.ops import RasterInputs, RasterSettings
from splatdistill.ops.geometry import rotation_matrices
from splatdistill.ops.reference import (
    ALPHA_CAP,
    ALPHA_MIN,
    FOV_MARGIN,
    MAX_EXTENT,
    TRANSMITTANCE_MIN,
)

DEPTH = 32  # entries of a tile blended at a time
GROUP = 65536  # pixel-entry pairs blended at a time: what the second-level cache holds
NOTHING = -60.0  # exponent of a pair that is not drawn: arithmetic is slow where its result is subnormal
STOP = math.log(TRANSMITTANCE_MIN)
BELOW_MIN = math.log(ALPHA_MIN)


class Image(NamedTuple):
    """rgb: [V,H,W,3] over the background; alpha, depth: [V,H,W,1]."""

    rgb: Tensor
    alpha: Tensor
    depth: Tensor


class Flat(NamedTuple):
    """All views of all splats in rows r = view * N + splat. mean [R,2] px; conic [R,3] = xx, xy, yy; the rest [R]."""

    mean: Tensor
    conic: Tensor
    depth: Tensor
    opacity: Tensor
    radii: Tensor
    seen: Tensor


def rasterize(inputs: RasterInputs, settings: RasterSettings, *, tile: int) -> Image:
    """As `splatdistill.ops.rasterize` with its default planes and eps2d, and colors [N,3]. tile: px."""
    num_views, width, height = len(inputs.viewmats), settings.width, settings.height
    flat = project(inputs, width, height)
    columns, rows = -(-width // tile), -(-height // tile)
    ids, counts, centres = tile_entries(flat, num_views, columns, rows, tile)
    values = torch.cat(
        [inputs.colors.repeat(num_views, 1), flat.depth[:, None], torch.ones_like(flat.depth[:, None])], 1
    )
    blended = blend_tiles(flat, values, ids, counts, centres, tile)

    blended = blended.view(num_views, rows, columns, tile, tile, 5).transpose(2, 3)
    blended = blended.reshape(num_views, rows * tile, columns * tile, 5)[:, :height, :width]
    alpha = blended[..., 4:]
    rgb = blended[..., :3] + (1 - alpha) * inputs.background[:, None, None]
    return Image(rgb, alpha, blended[..., 3:4])


def project(inputs: RasterInputs, width: int, height: int) -> Flat:
    """Component by component over [V,N]: batches of 3x3 products are slow in torch."""
    means, quats, scales, opacities, _, viewmats, Ks, *_ = inputs
    near, far, eps2d = 0.01, 1e10, 0.3
    axes = (rotation_matrices(quats) * scales[:, None, :]).unbind(1)  # three rows of R diag(scale), each [N,3]
    x, y, z = (means @ viewmats[:, :3, :3].mT + viewmats[:, None, :3, 3]).unbind(-1)
    fx, fy, cx, cy = (Ks[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    inverse = 1 / z
    u, v = x * inverse, y * inverse

    def clamped(slope: Tensor, focal: Tensor, centre: Tensor, size: int) -> Tensor:
        margin = FOV_MARGIN * 0.5 * size / focal
        return torch.clamp(slope, min=-(centre / focal + margin), max=(size - centre) / focal + margin)

    def row(slope: Tensor, focal: Tensor, axis: int) -> Tensor:
        """[V,N,3]: one row of J W R diag(scale)."""
        jacobian = [r[:, axis, None] - slope * r[:, 2, None] for r in viewmats[:, :3, :3].unbind(2)]
        return (focal * inverse)[..., None] * sum(j[..., None] * a for j, a in zip(jacobian, axes, strict=True))

    first, second = row(clamped(u, fx, cx, width), fx, 0), row(clamped(v, fy, cy, height), fy, 1)
    xx = first.square().sum(-1) + eps2d
    xy = (first * second).sum(-1)
    yy = second.square().sum(-1) + eps2d
    det = xx * yy - xy * xy
    mean = torch.stack([fx * u + cx, fy * v + cy], -1)
    with torch.no_grad():
        extent = torch.sqrt(2 * torch.log(opacities.clamp(min=ALPHA_MIN) / ALPHA_MIN)).clamp(max=MAX_EXTENT)
        radii = torch.ceil(extent[:, None] * torch.sqrt(torch.stack([xx, yy], -1)))
        seen = (z >= near) & (z <= far) & (det > 0) & torch.isfinite(det) & (opacities >= ALPHA_MIN)
        seen &= (radii > 0).any(-1) & (mean + radii > 0).all(-1)
        seen &= (mean - radii < mean.new_tensor([width, height])).all(-1)
    conic = torch.stack([yy, -xy, xx], -1) / det[..., None]
    parts = (mean, conic, z, opacities.expand(len(viewmats), -1), radii, seen)
    return Flat(*(part.flatten(0, 1) for part in parts))


@torch.no_grad()
def tile_entries(flat: Flat, num_views: int, columns: int, rows: int, tile: int) -> tuple[Tensor, Tensor, Tensor]:
    """The rows of each tile, front first, tile after tile; how many each tile has; the tiles' centres [T,2] px."""
    num_splats = len(flat.depth) // max(num_views, 1)
    depth = torch.where(flat.seen, flat.depth, math.inf).view(num_views, num_splats)
    order = depth.argsort(dim=1, stable=True) + num_splats * torch.arange(num_views)[:, None]
    order = order.flatten()
    order = order[flat.seen[order]]
    mean, radii = flat.mean[order], flat.radii[order]
    size = torch.tensor([columns, rows])
    low = torch.minimum(((mean - radii) / tile).floor().long().clamp(min=0), size)
    high = torch.minimum(((mean + radii) / tile).ceil().long().clamp(min=0), size)
    wide, tall = (high - low).unbind(1)
    copies = wide * tall
    source = torch.repeat_interleave(torch.arange(len(order)), copies)
    local = torch.arange(len(source)) - (copies.cumsum(0) - copies)[source]
    view = (order // max(num_splats, 1))[source]
    tx, ty = low[source, 0] + local % wide[source], low[source, 1] + local // wide[source]
    tiles, place = torch.sort((view * rows + ty) * columns + tx, stable=True)
    counts = torch.bincount(tiles, minlength=num_views * rows * columns)
    grid = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    centres = (torch.stack(grid[::-1], -1).view(-1, 2) + 0.5) * tile
    return order[source[place]], counts, centres.repeat(num_views, 1)


def blend_tiles(flat: Flat, values: Tensor, ids: Tensor, counts: Tensor, centres: Tensor, tile: int) -> Tensor:
    """[T, tile * tile, 5]: values [R,5] blended over the tiles."""
    longest = counts.argsort(descending=True, stable=True)
    longest = longest[counts[longest] > 0]
    pixels = tile * tile
    if len(longest) == 0:
        return values.new_zeros(len(counts), pixels, values.shape[1])
    groups = longest.split(max(1, GROUP // (pixels * DEPTH)))
    entries, sizes = padded_entries(groups, counts)
    coefs, slab_values = polynomials(flat, values, ids, entries, centres[torch.cat([t for _, t in sizes])])
    slabs = zip(coefs.split([len(t) for _, t in sizes]), slab_values.split([len(t) for _, t in sizes]), strict=True)

    place = torch.arange(tile, dtype=torch.float32) + 0.5 - tile / 2
    y, x = (axis.flatten() for axis in torch.meshgrid(place, place, indexing="ij"))
    basis = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], 1)
    before = torch.triu(torch.ones(DEPTH, DEPTH), 1)
    capped = bool((flat.opacity > ALPHA_CAP).any())
    targets, results = [], []
    live = log_t = torch.empty(0)
    for (start, tiles), (coef, value) in zip(sizes, slabs, strict=True):
        if start:
            log_t = torch.zeros(len(tiles), pixels, 1)
            live = torch.arange(len(tiles))
        else:  # the tiles of a group are sorted by length, those that go on come first
            keep = (live < len(tiles)) & (log_t.detach() > STOP).flatten(1).any(1)
            if not keep.all():
                live, log_t = live[keep], log_t[keep]
            if len(live) == 0:
                continue
            if len(live) < len(tiles):
                tiles, coef, value = tiles[live], coef[live], value[live]
        result, log_t = blend(basis, coef, value, log_t, before, capped)
        targets.append(tiles)
        results.append(result)
    image = values.new_zeros(len(counts), pixels, values.shape[1])
    return image.index_add(0, torch.cat(targets), torch.cat(results))


def blend(
    basis: Tensor, coef: Tensor, value: Tensor, log_t: Tensor, before: Tensor, capped: bool
) -> tuple[Tensor, Tensor]:
    """DEPTH more entries of B tiles. coef: [B,DEPTH,6]; value: [B,DEPTH,5]; log_t: [B,pixels,1], T before and after."""
    alpha = threshold(torch.matmul(basis, coef.mT), BELOW_MIN, NOTHING).exp_()
    if capped:
        alpha = alpha.clamp(max=ALPHA_CAP)
    passed = -alpha
    log_passed = torch.log1p(passed)
    transmittance = torch.matmul(log_passed, before).add_(log_t).exp_()
    log_t = (log_t + log_passed.sum(-1, keepdim=True)).clamp(min=2 * STOP)  # far past the stop, but not subnormal
    if bool((log_t.detach() <= STOP).any()):
        with torch.no_grad():
            stopped = torch.addcmul(transmittance, transmittance, passed) <= TRANSMITTANCE_MIN
        transmittance = transmittance.masked_fill(stopped, 0.0)
    return torch.bmm(alpha * transmittance, value), log_t


def padded_entries(groups: tuple[Tensor, ...], counts: Tensor) -> tuple[Tensor, list[tuple[bool, Tensor]]]:
    """The order of work: group after group, DEPTH entries of its tiles at a time.

    Returns positions [chunks, DEPTH] in the list of entries, -1 for padding, and for each piece of work whether it
    starts a group and which tiles take part.
    """
    first = counts.cumsum(0) - counts
    step = torch.arange(DEPTH)
    positions, pieces = [], []
    for group in groups:
        lengths = counts[group]
        for begin in range(0, int(lengths[0]), DEPTH):
            rest = lengths - begin
            rest = rest[rest > 0]
            tiles = group[: len(rest)]
            place = first[tiles, None] + begin + step
            positions.append(torch.where(step < rest[:, None], place, -1))
            pieces.append((begin == 0, tiles))
    return torch.cat(positions), pieces


def polynomials(flat: Flat, values: Tensor, ids: Tensor, entries: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Of each entry [C,DEPTH]: the exponent's coefficients [C,DEPTH,6] of 1, x, y, xx, xy, yy about its tile's centre,
    and its values [C,DEPTH,5].
    """
    table = torch.cat([flat.mean, flat.conic, torch.log(flat.opacity)[:, None], values], 1)
    rows = torch.where(entries >= 0, ids[entries], 0)
    gathered = table.index_select(0, rows.flatten()).view(*rows.shape, table.shape[1])
    mx, my, a, b, c, log_opacity, gathered_values = gathered.split([1, 1, 1, 1, 1, 1, values.shape[1]], -1)
    dx, dy = mx - centres[:, None, :1], my - centres[:, None, 1:]
    gx, gy = a * dx + b * dy, b * dx + c * dy
    constant = log_opacity - 0.5 * (gx * dx + gy * dy)
    coefs = torch.cat([constant, gx, gy, -0.5 * a, -b, -0.5 * c], -1)
    padding = coefs.new_tensor([NOTHING, 0.0, 0.0, 0.0, 0.0, 0.0])
    return torch.where((entries >= 0)[..., None], coefs, padding), gathered_values
