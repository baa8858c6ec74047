"""The models that a prompt may mean, in the paint that it gives them, and what they show to cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from splatdistill.priors.gbuffer import paint, rgba_white
from splatdistill.priors.mixture import coarse, keep_likely, weights
from splatdistill.priors.refine import COARSE, Accuracy, Posterior, combine
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


class DrawCandidates(Protocol):
    def __call__(self, places: Sequence[int], /, *, size: int) -> Tensor:
        """[K,V,4,size,size] of the candidates at K places."""
        ...


@dataclass(frozen=True)
class Weighing:
    """How candidates are weighed. temperature: of the posterior, for num_views pictures of image_size pixels together.
    accuracy: of what the meshes show at that size; fine_accuracy: at twice that, None where the prior does not see it.
    """

    temperature: float
    num_views: int
    image_size: int
    accuracy: Accuracy
    fine_accuracy: Accuracy | None


class RenderedCandidates:
    """What the candidates show to some cameras: small pictures of all, and full ones of those that were likely."""

    def __init__(self, candidates: Candidates, pictures: DrawCandidates, *, weighing: Weighing) -> None:
        self.candidates, self.pictures, self.weighing = candidates, pictures, weighing
        self._full: dict[int, Tensor] = {}
        self._small: Tensor | None = None

    def posterior(self, xt: Tensor, *, alpha: Tensor, sigma: Tensor) -> Posterior:
        """Of one ring xt [V,4,H,W]; alpha, sigma: [1]."""
        how, few, size = self.weighing, len(self.candidates.numbers), xt.shape[-1]
        accuracy = how.accuracy if size == how.image_size else how.fine_accuracy
        assert accuracy is not None
        if few == 1:
            weight = xt.new_ones(1, 1)
        else:
            factor = size // COARSE
            # In proportion to the pixels: each view votes once, whatever its size.
            temperature = how.temperature * (size / how.image_size) ** 2 * len(xt) / how.num_views
            weight = weights(
                coarse(xt[None], factor), self.small()[:, None], alpha=alpha, sigma=sigma / factor,
                logits=self.candidates.logits.to(xt), temperature=temperature, floor=accuracy.coarse,
            )  # fmt: skip
        likely = keep_likely(weight)
        # Only what is likely is drawn in full, but where it must be waited for to know.
        kept = likely[:, 0].nonzero()[:, 0].tolist() if xt.device.type == "cpu" else list(range(few))
        return combine(weight, likely[kept], self.full(kept, size), accuracy=accuracy)

    def small(self) -> Tensor:
        """[K,V,4,COARSE,COARSE]."""
        if self._small is None:
            self._small = coarse(self.pictures(range(len(self.candidates.numbers)), size=2 * COARSE), 2)
        return self._small

    def full(self, places: Sequence[int], size: int) -> Tensor:
        """[K,V,4,size,size] the candidates at K places, kept once they were drawn."""
        if absent := [place for place in places if place not in self._full]:
            self._full |= dict(zip(absent, self.pictures(absent, size=size), strict=True))
        return torch.stack([self._full[place] for place in places])


def alike(one: Candidates | None, other: Candidates | None) -> bool:
    """Whether both are the same models in the same paint, or none."""
    if one is None or other is None:
        return one is other
    return one.numbers == other.numbers and torch.equal(one.tints.nan_to_num(-1), other.tints.nan_to_num(-1))
