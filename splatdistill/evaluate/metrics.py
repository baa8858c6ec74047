"""The figures of `splatdistill eval` as plain functions of tensors. V views once round an object, H W pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)
_TIE = 1e-6  # cosines nearer than this are equal: a sum's rounding must not decide


def retrieved(images: Tensor, texts: Tensor, truth: Tensor) -> Tensor:
    """[V] in 0..1: whether the text most similar to each image is its own.

    images: [V,D] and texts: [T,D] of unit length; truth: [V] index of the own text. Where k texts are equally similar,
    an own one among them counts 1/k, so a judge that sees no difference scores 1/T, which is chance.
    """
    similarity = images @ texts.T
    top = similarity >= similarity.amax(1, keepdim=True) - _TIE
    return top.gather(1, truth[:, None])[:, 0].float() / top.sum(1)


def mean_direction(images: Tensor) -> Tensor:
    """[D] of unit length: the embedding of an object from those of its views [V,D]."""
    return F.normalize(images.mean(0), dim=-1)


def view_consistency(images: Tensor) -> float:
    """Mean cosine between the embeddings [V,D] of each view and of the next one round the object."""
    return float((images * images.roll(-1, 0)).sum(-1).mean())


def diversity(seeds: Sequence[Tensor]) -> float:
    """1 - mean cosine between the same view of two objects, over all pairs of at least two objects [V,D]."""
    stack = torch.stack(list(seeds))
    cosine = torch.einsum("avd,bvd->ab", stack, stack) / stack.shape[1]
    upper = torch.triu_indices(len(stack), len(stack), 1)
    return float(1 - cosine[upper[0], upper[1]].mean())


def num_fronts(front: Sequence[bool]) -> int:
    """How many fronts a ring of views shows: neighbouring views that are called front are one front."""
    ring = [bool(called) for called in front]
    if all(ring):
        return 1
    return sum(called and not ring[i - 1] for i, called in enumerate(ring))


def is_janus(front: Sequence[bool]) -> bool:
    """Whether a ring of views is called front at two places or more that are not adjacent."""
    return num_fronts(front) >= 2


def appearance(rgb: Tensor, alpha: Tensor) -> dict[str, float]:
    """Saturation, contrast and high-frequency energy of the object in views rgb [V,H,W,3] with alpha [V,H,W,1], in
    0..1.

    saturation: mean of HSV's. contrast: standard deviation of luma. high_frequency: root mean square of luma less its
    3x3 binomial mean, away from the outline. All over pixels that are more than half covered; nan if there are none.
    """
    rgb, solid = rgb.clamp(0, 1), alpha[..., 0] > 0.5
    high, low = rgb.amax(-1), rgb.amin(-1)
    luma = rgb @ torch.tensor(_LUMA, dtype=rgb.dtype)
    detail = luma - _binomial(luma)
    inside = solid & ~F.max_pool2d((~solid).float()[:, None], 3, 1, 1)[:, 0].bool()
    return {
        "saturation": float(((high - low) / high.clamp(min=1e-6))[solid].mean()),
        "contrast": float((luma[solid] - luma[solid].mean()).square().mean().sqrt()),
        "high_frequency": float(detail[inside].square().mean().sqrt()),
    }


def solidity(alpha: Tensor, opacities: Tensor) -> dict[str, float]:
    """How much of an object is fog: views alpha [V,H,W,1] and splats of opacities [N], both in 0..1.

    fog: of the pixels that are covered by more than 0.05, the share that is covered by less than 0.95; the outline, a
    pixel wide, is part of it. faint: share of splats of opacity under 0.1. nan where there is nothing.
    """
    seen = alpha[alpha > 0.05]
    return {"fog": float((seen < 0.95).float().mean()), "faint": float((opacities < 0.1).float().mean())}


def _binomial(luma: Tensor) -> Tensor:
    row = torch.tensor([0.25, 0.5, 0.25], dtype=luma.dtype)
    padded = F.pad(luma[:, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, (row[:, None] * row)[None, None])[:, 0]
