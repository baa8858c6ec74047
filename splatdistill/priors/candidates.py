"""The models that a prompt may mean, in the paint that it gives them, and what they show to cameras."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from splatdistill.priors.gbuffer import paint, rgba_white
from splatdistill.priors.zbuffer import MeshSet, draw_all
from splatdistill.scene.types import Cameras


@dataclass(frozen=True)
class PaintedMeshes:
    """K models in their paint, on the prior's device. tints: [K,3,3] or None; luminance: [K,3], as `gbuffer.paint` has
    them.
    """

    meshes: MeshSet
    tints: Tensor | None
    luminance: Tensor

    def draw(self, cameras: Cameras, *, size: int) -> Tensor:
        """[K,V,4,size,size] in -1..1."""
        views = len(cameras)
        seen = draw_all(self.meshes, cameras, size=size).flatten(0, 1)
        tints = None if self.tints is None else self.tints.repeat_interleave(views, 0)
        coloured = paint(seen, tints, luminance=self.luminance.repeat_interleave(views, 0))
        return rgba_white(*coloured).unflatten(0, (-1, views))


@dataclass(frozen=True)
class Candidates:
    """The models that a prompt may mean. numbers: K of them; tints: [K,3,3] sRGB of their paints, nan for their own;
    logits: [K] of their prior weights. painted: those that were drawn together, by their places.
    """

    numbers: list[int]
    tints: Tensor
    logits: Tensor
    painted: dict[tuple[int, ...], PaintedMeshes] = field(default_factory=dict, repr=False, compare=False)


def alike(one: Candidates | None, other: Candidates | None) -> bool:
    """Whether both are the same models in the same paint, or none."""
    if one is None or other is None:
        return one is other
    return one.numbers == other.numbers and torch.equal(one.tints.nan_to_num(-1), other.tints.nan_to_num(-1))
