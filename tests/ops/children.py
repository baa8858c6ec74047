"""How far the children of a densify event may be from those of another program, by the roundings of both."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import Tensor

from splatdistill.ops import reference
from tests.rounding import FACTOR, UNIT, assert_within, moved


@functools.cache
def reach() -> float:
    """By how much rounding moves the offset of a split sample, in units of the largest scale of its parent. The normal
    numbers come out of float64 and are rounded once.
    """
    num, draw = 4000, torch.Generator().manual_seed(0)
    quats, scales = 3 * torch.randn(num, 4, generator=draw), 0.7 * torch.randn(num, 3, generator=draw)
    normals = reference.philox_normal(1, torch.arange(num), num=3)
    found = moved(lambda: {"": reference.rotate(quats, torch.exp(scales) * (1.0 * normals))})[""]
    return float((found / scales.amax(1, keepdim=True).exp()).max())


def assert_children(got: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> None:
    """Means and opacities after an event; rows that were only moved keep their bits by this as well, but for a unit."""
    largest = reference.SPLIT_SHRINK * want["scales"].amax(1, keepdim=True).double().exp()  # of the parents
    assert_within(got["means"], want["means"], FACTOR * reach() * largest + 2 * UNIT * want["means"].abs())
    assert_opacities(got["opacities"], want["opacities"])


def assert_opacities(got: Tensor, want: Tensor) -> None:
    """The logit x of a child is l - log(1 + sqrt(1 + e^l)). An exponential, a root and two sums are wrong by 4 UNIT,
    and so is the logarithm, absolutely; it is at most 1 + |x| and is rounded itself, up to 2 UNIT, as the difference
    is. The other program rounds once.
    """
    assert_within(got, want, (6 + 4 * want.abs()) * UNIT)
