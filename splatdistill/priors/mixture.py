"""The distribution of a noun of which a prior knows several models: which of them a noisy ring of views shows.

A prior that knows K pictures x_k of all views has the score of their mixture: that of the mean of x_k under the
posterior weights, w_k = softmax(log N(x_t; alpha x_k, sigma^2) / T + b_k). T = 1 and b_k the log of the prior weights
is exact; a temperature above 1 leaves the modes open for longer, and b_k that a seed draws makes another seed another
object.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from splatdistill.utils.rng import key

MOST = 8
"""Candidates of a run at most."""
LEAST = 0.05
"""Weight from which a candidate is rendered in full."""
NEAR = 3 / 64
"""By how much of a picture's side an object's splats may be thicker than the surface of its model, or off it."""


def choose(numbers: Sequence[int], *, seed: int, most: int = MOST) -> list[int]:
    """The candidates of a run: all of a noun's models, or `most` of them that the seed chooses; in rising order."""
    if len(numbers) <= most:
        return list(numbers)
    draw = torch.Generator().manual_seed(key(seed, 0, "candidates"))
    return sorted(numbers[i] for i in torch.randperm(len(numbers), generator=draw)[:most].tolist())


def seed_logits(numbers: Sequence[int], *, seed: int, scale: float) -> Tensor:
    """[K] `scale` times Gumbel noise, so that a scale of 1 picks all alike. 0 leaves the mixture open.

    Each candidate's own, whatever others stand beside it: the same seed favours the same one in a larger set.
    """
    draws = [torch.rand((), generator=torch.Generator().manual_seed(key(seed, n, "instance"))) for n in numbers]
    uniform = torch.stack(draws).clamp(1e-6, 1 - 1e-6)
    return -scale * (-uniform.log()).log()


def weights(
    xt: Tensor,
    candidates: Tensor,
    *,
    alpha: Tensor,
    sigma: Tensor,
    logits: Tensor,
    temperature: Tensor | float = 1.0,
    floor: float = 0.0,
) -> Tensor:
    """Posterior weights [K,G] of G rings.

    xt: [G,V,C,h,w], the V views of a ring judged together. candidates: [K,G,V,C,h,w], or [K,1,V,C,h,w] if all rings
    have the same cameras. alpha, sigma: [G] signal and noise of each pixel; logits: [K] or [K,G]; temperature: a number
    or [G]. floor: root mean square error of a candidate, below which no difference tells two of them apart.
    """
    # |x - alpha c|^2 but for |x|^2, which is the same for all: no difference of large numbers is lost in fp32 that way.
    cross = (xt * candidates).flatten(2).sum(-1)
    square = candidates.square().flatten(2).sum(-1)
    log_likelihood = (alpha * cross - 0.5 * alpha**2 * square) / (sigma**2 + alpha**2 * floor**2)
    bias = logits if logits.ndim == 2 else logits[:, None]
    return torch.softmax(log_likelihood / temperature + bias, 0)


def coarse(x: Tensor, factor: int) -> Tensor:
    """Means over factor x factor pixels of [...,h,w]: signal stays, noise falls by the factor."""
    return F.avg_pool2d(x.flatten(0, -4), factor).unflatten(0, x.shape[:-3])


def keep_likely(weight: Tensor, *, least: float = LEAST) -> Tensor:
    """weight [K,G], and like it what is returned: weights up to `least` set to 0 and the others brought to a sum of 1;
    the largest always stays.
    """
    kept = torch.where((weight > least) | (weight == weight.amax(0, keepdim=True)), weight, 0)
    return kept / kept.sum(0, keepdim=True)


def blend(weight: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [G,...,C,h,w] of candidates' pictures [K,G,...,C,h,w] under the weight [K,G], and their variance in each
    pixel, a mean over its channels [G,...,1,h,w].
    """
    w = weight.view(*weight.shape, *[1] * (pictures.ndim - 2))
    mean = (w * pictures).sum(0)
    return mean, (w * (pictures - mean).square()).sum(0).mean(-3, keepdim=True)


def apart(a: Tensor, b: Tensor, *, reach: float = NEAR) -> Tensor:
    """[] sum over the pixels of a [V,C,H,W] of the squared distance to the most similar pixel of b [V,C,H,W] no further
    from it than `reach`, a share of the picture's side, or a pixel.
    """
    near = max(1, round(reach * a.shape[-1]))
    side = 2 * near + 1
    around = F.unfold(F.pad(b, (near,) * 4, mode="replicate"), side).view(*b.shape[:2], side * side, *b.shape[2:])
    return (around - a[:, :, None]).square().sum(1).amin(1).sum()
