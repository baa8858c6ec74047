"""Every op in plain torch: the oracle of the tests and the fallback on other devices. Slow, exact, any float dtype."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from splatdistill.ops.geometry import camera_centre, rotation_matrices, sh_basis
from splatdistill.ops.rasterize import RasterInputs, RasterSettings

ALPHA_CAP = 0.999
ALPHA_MIN = 1 / 255
TRANSMITTANCE_MIN = 1e-4
MAX_EXTENT = 3.33
FOV_MARGIN = 0.3


class DenseRaster(NamedTuple):
    """As `Raster`, and near_cut [V,H,W]: pixels with a pair within 1e-5 of a threshold, where rounding decides."""

    rgb: Tensor
    alpha: Tensor
    depth: Tensor
    means2d: Tensor
    radii: Tensor
    near_cut: Tensor


class Projection(NamedTuple):
    """One view of N splats. mean [N,2] px; conic [N,3] = xx, xy, yy; depth, opacity [N]; radii [N,2]; seen [N]."""

    mean: Tensor
    conic: Tensor
    depth: Tensor
    opacity: Tensor
    radii: Tensor
    seen: Tensor


def rasterize(inputs: RasterInputs, settings: RasterSettings, *, depth_keys: Tensor | None = None) -> DenseRaster:
    """`splatdistill.ops.rasterize` over every pair of pixel and splat, by autograd; memory is O(N H W).

    depth_keys: [V,N] what to sort by (stable, ascending); the depths rounded to float32 when None.
    """
    views = []
    for view, viewmat in enumerate(inputs.viewmats):
        p = project(inputs, settings, view)
        keys = p.depth.detach().float() if depth_keys is None else depth_keys[view]
        order = torch.argsort(keys, stable=True)
        order = order[p.seen[order]]
        colors = inputs.colors
        if settings.sh_degree is not None:
            color = harmonic_colors(inputs.means, colors, viewmat, settings.sh_degree)
        else:
            color = colors[view] if colors.dim() == 3 else colors
        values = torch.cat([color, p.depth[:, None]], dim=1)
        image, transmittance, near_cut = composite(p, values, order, settings.width, settings.height)
        rgb = image[..., :-1] + transmittance * inputs.background[view]
        mean = torch.where(p.seen[:, None], p.mean, 0.0)
        views.append((rgb, 1 - transmittance, image[..., -1:], mean, p.radii, near_cut))
    return DenseRaster(*(torch.stack(part) for part in zip(*views, strict=True)))


def harmonic_colors(means: Tensor, coefficients: Tensor, viewmat: Tensor, degree: int) -> Tensor:
    """Colour [N,3], >= 0, of splats at means [N,3] with spherical harmonics coefficients [N,K,3] seen by one camera;
    viewmat: [4,4].
    """
    basis = sh_basis(torch.nn.functional.normalize(means - camera_centre(viewmat), dim=-1, eps=0), degree)
    return torch.relu(0.5 + torch.einsum("ns,nsc->nc", basis, coefficients[:, : basis.shape[-1]]))


def project(inputs: RasterInputs, settings: RasterSettings, view: int) -> Projection:
    """The 2D Gaussians that the camera of number `view` sees."""
    means, opacities, viewmat, K = inputs.means, inputs.opacities, inputs.viewmats[view], inputs.Ks[view]
    shape = rotation_matrices(inputs.quats) * inputs.scales[:, None, :]  # [N,3,3]
    rotation = viewmat[:3, :3]
    camera = means @ rotation.T + viewmat[:3, 3]
    z = camera[:, 2]
    size = means.new_tensor([settings.width, settings.height])
    focal, centre = torch.stack([K[0, 0], K[1, 1]]), torch.stack([K[0, 2], K[1, 2]])
    slope = camera[:, :2] / z[:, None]
    margin = FOV_MARGIN * 0.5 * size / focal
    clamped = torch.clamp(slope, min=-(centre / focal + margin), max=(size - centre) / focal + margin)
    jacobian = (focal / z[:, None])[..., None] * (rotation[:2] - clamped[..., None] * rotation[2])  # [N,2,3]
    axes = jacobian @ shape
    cov = axes @ axes.mT + settings.eps2d * torch.eye(2, dtype=means.dtype, device=means.device)
    det = cov[:, 0, 0] * cov[:, 1, 1] - cov[:, 0, 1] ** 2
    mean = focal * slope + centre
    if inputs.means2d_offset is not None:
        mean = mean + inputs.means2d_offset[view]
    extent = torch.sqrt(2 * torch.log(opacities.clamp(min=ALPHA_MIN) / ALPHA_MIN)).clamp(max=MAX_EXTENT)
    radii = torch.ceil(extent[:, None] * torch.sqrt(torch.stack([cov[:, 0, 0], cov[:, 1, 1]], -1))).detach()
    seen = (z >= settings.near) & (z <= settings.far) & (det > 0) & torch.isfinite(det)
    seen = seen & (opacities >= ALPHA_MIN) & (radii > 0).any(-1)
    seen = seen & (mean + radii > 0).all(-1) & (mean - radii < size).all(-1)
    radii = torch.where(seen[:, None], radii, 0.0).to(torch.int32)
    conic = torch.stack([cov[:, 1, 1], -cov[:, 0, 1], cov[:, 0, 0]], -1) / det[:, None]
    return Projection(mean, conic, z, opacities, radii, seen)


def composite(p: Projection, values: Tensor, order: Tensor, width: int, height: int) -> tuple[Tensor, Tensor, Tensor]:
    """Blends values [N,C] of the splats in `order`, front first: image, transmittance, near_cut, all [H,W,...]."""
    x = torch.arange(width, dtype=values.dtype, device=values.device) + 0.5
    y = torch.arange(height, dtype=values.dtype, device=values.device) + 0.5
    pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 1, 2)
    dx, dy = (p.mean[order] - pixels).unbind(-1)  # [H*W, splats]
    xx, xy, yy = p.conic[order].unbind(-1)
    sigma = 0.5 * (xx * dx * dx + yy * dy * dy) + xy * dx * dy
    peak = p.opacity[order] * torch.exp(-sigma)
    drawn = (sigma >= 0) & (peak >= ALPHA_MIN)
    alpha = torch.where(drawn, peak.clamp(max=ALPHA_CAP), 0.0)
    with torch.no_grad():
        after = torch.cumprod(1 - alpha, dim=1)
        counts = after > TRANSMITTANCE_MIN
        started = torch.cat([torch.ones_like(counts[:, :1]), counts[:, :-1]], dim=1)  # the pixel had not stopped before
        close = (peak / ALPHA_MIN - 1).abs() < 1e-5
        close |= drawn & ((after / TRANSMITTANCE_MIN - 1).abs() < 1e-5)
        close |= (peak / ALPHA_CAP - 1).abs() < 1e-5
        near_cut = (close & started).any(dim=1)
    alpha = torch.where(counts, alpha, 0.0)
    after = torch.cumprod(1 - alpha, dim=1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
    image = (alpha * before) @ values[order]
    transmittance = torch.cat([torch.ones_like(x[:1]).expand(len(after), 1), after], dim=1)[:, -1:]
    return image.reshape(height, width, -1), transmittance.reshape(height, width, 1), near_cut.reshape(height, width)


def residual(
    x0: Tensor, terms: Sequence[Tensor], coef: Tensor, weight: Tensor, clamp: float | None, total_views: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`splatdistill.ops.residual`: a loss with its gradient, norms [V], number of non-finite elements. The loss is <x0,
    g> / total_views, whose gradient autograd finds by itself; as a value it measures nothing. x0, terms: [V,C,h,w];
    coef: [K,V]; weight: [V].
    """
    dtype = compute_dtype(x0)
    x0 = x0.to(dtype)
    with torch.no_grad():
        total = per_view(coef[0].to(dtype), x0) * terms[0].to(dtype)
        for k in range(1, len(terms)):
            total = total + per_view(coef[k].to(dtype), x0) * terms[k].to(dtype)
        g = per_view(weight.to(dtype), x0) * total
        finite = torch.isfinite(g)
        g = torch.where(finite, g, torch.zeros_like(g))
        if clamp is not None:
            g = g.clamp(-clamp, clamp)
        norms = g.flatten(1).norm(dim=1) if g.dim() > 1 else g.abs()
    return (x0 * g).sum() / total_views, norms, (~finite).sum()


def gram(terms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """`splatdistill.ops.gram`: sums [V,K] and Gram matrix [V,K,K], in float64."""
    flat = [term.flatten(1) if term.dim() > 1 else term[:, None] for term in terms]
    rows = torch.stack([term.detach().to(torch.float64) for term in flat], 1)
    return rows.sum(-1), rows @ rows.mT


def noising(x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """`splatdistill.ops.noising`: alpha_v x0_v + sigma_v eps_v, in x0's type. x0, eps: [V,C,h,w]; alpha, sigma: [V]."""
    dtype = compute_dtype(x0)
    noised = per_view(alpha.to(dtype), x0) * x0.to(dtype) + per_view(sigma.to(dtype), x0) * eps.to(dtype)
    return noised.to(x0.dtype)


def compute_dtype(x0: Tensor) -> torch.dtype:
    """The type computed in for x0 of any shape: float32 for half types."""
    return torch.float64 if x0.dtype == torch.float64 else torch.float32


def per_view(v: Tensor, like: Tensor) -> Tensor:
    """v [V] as [V,1,...], with as many sides as like [V,...]."""
    return v.reshape(-1, *[1] * (like.dim() - 1))


def philox_words(counter: Tensor, key: Tensor) -> Tensor:
    """Philox4x32-10 on rows: counter [N,4] and key [N,2] int64 holding 32-bit words, result [N,4]."""
    low = 0xFFFFFFFF
    c0, c1, c2, c3 = counter.unbind(-1)
    k0, k1 = key.unbind(-1)
    for _ in range(10):
        # int64 products wrap modulo 2^64, so their two halves are right whatever their sign.
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32 & low) ^ c1 ^ k0, p1 & low, (p0 >> 32 & low) ^ c3 ^ k1, p0 & low
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return torch.stack([c0, c1, c2, c3], -1)


def philox_normal(key: int, ids: Tensor, num: int) -> Tensor:
    """[N,num] float32, computed in float64: what `densify.scatter` draws for key and ids [N]."""
    low = 0xFFFFFFFF
    blocks = torch.arange((num + 3) // 4, device=ids.device)
    rows = ids[:, None].expand(-1, len(blocks))
    counter = torch.stack([rows & low, rows >> 32 & low, blocks.expand_as(rows), torch.zeros_like(rows)], -1)
    keys = torch.tensor([key & low, key >> 32 & low], device=ids.device).expand(*rows.shape, 2)
    uniform = ((philox_words(counter, keys) >> 9).double() + 0.5) * 2.0**-23
    radius = torch.sqrt(-2 * torch.log(uniform[..., 0::2]))
    angle = 2 * torch.pi * uniform[..., 1::2]
    pairs = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], -1)
    return pairs.flatten(1)[:, :num].float()


def check_gradients(
    grads: Sequence[Tensor], num_nonfinite: Tensor, num_updates: Tensor, beta1: float, beta2: float
) -> tuple[Tensor, Tensor]:
    """`splatdistill.ops.update.check`: skip [] bool and correction [2] float64. grads: of any shape; num_nonfinite,
    num_updates: [].
    """
    usable = num_nonfinite == 0
    for grad in grads:
        usable = usable & (grad.square() <= torch.finfo(grad.dtype).max).all()
    num_updates += usable
    t = num_updates.double()
    return ~usable, torch.stack([1 - torch.pow(beta1, t), torch.sqrt(1 - torch.pow(beta2, t))])


def adam(
    values: Sequence[Tensor], grads: Sequence[Tensor], exp_avgs: Sequence[Tensor], exp_avg_sqs: Sequence[Tensor],
    rates: Sequence[float], skip: Tensor, num_updates: Tensor, beta1: float, beta2: float, eps: float,
) -> None:  # fmt: skip
    """`splatdistill.ops.update.update` without the statistics: torch's own kernel, a tensor at a time. values, grads,
    exp_avgs, exp_avg_sqs: of any shapes, alike; skip, num_updates: [].
    """
    kernels: Any = torch  # the stubs of torch leave it out
    for value, grad, exp_avg, exp_avg_sq, rate in zip(values, grads, exp_avgs, exp_avg_sqs, rates, strict=True):
        kernels._fused_adam_(
            [value], [grad], [exp_avg], [exp_avg_sq], [], [num_updates], lr=rate, beta1=beta1, beta2=beta2,
            weight_decay=0.0, eps=eps, amsgrad=False, maximize=False, grad_scale=None, found_inf=skip.float(),
        )  # fmt: skip


def count_skip(counts: Tensor, skipped: Tensor, fresh: bool) -> None:
    """`splatdistill.ops.update.count_skip`, in place. counts: [3] int64; skipped: [] bool."""
    now, longest, total = counts.unbind()
    now = (now + 1) * skipped
    counts.copy_(torch.stack([now, torch.maximum(longest, now), skipped + (0 if fresh else total)]))


KEEP, CLONE, SPLIT, PRUNE = range(4)
SPLIT_SHRINK = 1.6  # 3DGS: children of a split are this much smaller


def densify_accumulate(grad_sum: Tensor, count: Tensor, probe_grad: Tensor, radii: Tensor) -> None:
    """`splatdistill.ops.densify.accumulate`, in place. grad_sum, count: [N]; probe_grad, radii: [V,N,2]."""
    seen = (radii > 0).all(-1)
    norms = torch.where(seen, probe_grad.square().sum(-1).sqrt(), 0.0)  # vector_norm is slow over two numbers
    grad_sum += torch.nan_to_num(norms, nan=0.0, posinf=0.0, neginf=0.0).sum(0)
    count += seen.sum(0)


def densify_classify(
    mean_grad: Tensor,
    *,
    scales: Tensor,
    opacities: Tensor,
    grow_gradient: float | Tensor,
    split_scale: float,
    prune_scale: float,
    prune_opacity: float,
    max_splats: int,
) -> Tensor:
    """`splatdistill.ops.densify.classify`: kind [N] int8. mean_grad, opacities: [N]; scales: [N,3]; grow_gradient: a
    number or [].
    """
    largest = scales.amax(-1)
    prune = (opacities < prune_opacity) | (largest > prune_scale)
    want = (mean_grad >= grow_gradient) & (mean_grad > 0) & ~prune & ~largest.isnan()
    room = max(0, max_splats - int((~prune).sum()))
    order = torch.argsort(torch.where(want, mean_grad, -1.0), descending=True, stable=True)[:room]
    grow = torch.zeros_like(want)
    grow[order] = True
    grow &= want
    kind = torch.full_like(mean_grad, KEEP, dtype=torch.int8)
    kind[grow & (largest <= split_scale)] = CLONE
    kind[grow & (largest > split_scale)] = SPLIT
    kind[prune] = PRUNE
    return kind


def densify_scatter(
    tensors: dict[str, Tensor], moments: dict[str, dict[str, Tensor]], *, kind: Tensor, key: int
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """`splatdistill.ops.densify.scatter`: new tensors [M,...] and moments of tensors [N,...]; kind: [N] int8."""
    copies = torch.tensor([1, 2, 2, 0], device=kind.device)[kind.long()]
    source = torch.repeat_interleave(torch.arange(len(kind), device=kind.device), copies)
    child = torch.zeros_like(source)
    child[1:] = (source[1:] == source[:-1]).long()
    kind = kind[source]
    out = {name: value[source] for name, value in tensors.items()}

    split = torch.nonzero(kind == SPLIT)[:, 0]
    normals = philox_normal(key, source[split], num=6).view(-1, 2, 3)
    normals = normals[torch.arange(len(split), device=kind.device), child[split]]
    offset = rotate(out["quats"][split], torch.exp(out["scales"][split]) * normals)
    out["means"] = out["means"].index_add(0, split, offset)
    out["scales"] = torch.where((kind == SPLIT)[:, None], out["scales"] - math.log(SPLIT_SHRINK), out["scales"])
    grown = (kind == CLONE) | (kind == SPLIT)
    # In float64: 1 - sqrt(1 - o) loses most digits of a small o. sigmoid(-x) is 1 - sigmoid(x).
    shared = torch.logit(1 - torch.sqrt(torch.sigmoid(-out["opacities"].double())), eps=1e-6)
    out["opacities"] = torch.where(grown, shared.to(out["opacities"].dtype), out["opacities"])

    fresh = (kind == SPLIT) | (child == 1)
    moved = {
        name: {which: torch.where(fresh.view(-1, *[1] * (m.dim() - 1)), 0.0, m[source]) for which, m in state.items()}
        for name, state in moments.items()
    }
    return out, moved


def rotate(quats: Tensor, vectors: Tensor) -> Tensor:
    """vectors [N,3] turned by quats [N,4] wxyz of any length."""
    quats = torch.nn.functional.normalize(quats, dim=-1)
    w, axis = quats[:, :1], quats[:, 1:]
    cross = 2 * torch.linalg.cross(axis, vectors)
    return vectors + w * cross + torch.linalg.cross(axis, cross)
