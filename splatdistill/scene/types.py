"""The values that travel between modules. Legend: V views, N splats, K terms, C h w prior space, H W pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from splatdistill.utils.device import send
from splatdistill.utils.distributed import SINGLE_PROCESS, ProcessGroup


@dataclass(frozen=True)
class Cameras:
    """V pinhole cameras looking at the origin of a right-handed world: +y up, the object's front faces +z.

    viewmats: [V,4,4] world to camera, OpenCV axes (x right, y down, z forward).
    Ks: [V,3,3] intrinsics in pixels; pixel centres lie at +0.5.
    width, height: image size in pixels.
    azimuth: [V] rad, 0 in front (camera on +z), growing towards +x. elevation: [V] rad, positive above.
    radius: [V] world units.

    Raises: nothing. Source: OpenCV's camera axes, as gsplat has them.

    Example:
        >>> import splatdistill
        >>> len(splatdistill.orbit([0, 120, 240]))
        3
    """

    viewmats: Tensor
    Ks: Tensor
    width: int
    height: int
    azimuth: Tensor
    elevation: Tensor
    radius: Tensor

    def __len__(self) -> int:
        return self.viewmats.shape[0]

    def select(self, index: Tensor | slice) -> Cameras:
        """These of the cameras, in this order; an index [any] may name one several times."""
        return Cameras(
            self.viewmats[index], self.Ks[index], self.width, self.height,
            self.azimuth[index], self.elevation[index], self.radius[index],
        )  # fmt: skip

    def to(self, device: torch.device) -> Cameras:
        """With the matrices on a device; the angles stay where they are."""
        return replace(self, viewmats=send(self.viewmats, device), Ks=send(self.Ks, device))


@dataclass(frozen=True)
class RenderOutput:
    """What a renderer returns; everything but radii is differentiable.

    rgb: [V,H,W,3] in 0..1 over the background. alpha: [V,H,W,1] coverage.
    depth: [V,H,W,1] world units, alpha-weighted sum.
    means2d: [V,N,2] px. radii: [V,N,2] int32 px per axis, both > 0 where the splat is seen.
    probe: [V,N,2], the tensor whose `.grad` after backward is dL/dmeans2d, the densify statistic.
    normal: [V,H,W,3] when asked for: alpha-weighted sum of the splats' shortest axes, turned to the camera, world axes.
    """

    rgb: Tensor
    alpha: Tensor
    depth: Tensor
    means2d: Tensor
    radii: Tensor
    probe: Tensor
    normal: Tensor | None = None


@dataclass(frozen=True)
class SurfaceViews:
    """Where renders show the object. depth: [V,H,W,1] alpha-weighted sum, world units; alpha: [V,H,W,1] in 0..1."""

    depth: Tensor
    alpha: Tensor


@dataclass(frozen=True)
class NoisyBatch:
    """Renders in the prior's space, noised. x0: [V,C,h,w] with grad; t: [V] int64; eps, xt: like x0 (detached);
    alpha, sigma: [V]. ranks: who holds the step's other views. source: like x0 (detached), what the run began with as
    the same cameras see it, for methods that ask for it.
    """

    x0: Tensor
    t: Tensor
    eps: Tensor
    xt: Tensor
    alpha: Tensor
    sigma: Tensor
    cameras: Cameras
    ranks: ProcessGroup = SINGLE_PROCESS
    source: Tensor | None = None


@dataclass(frozen=True)
class Residual:
    """A distillation gradient as data: dL/dx0_v = weight_v * sum_k coef_kv * terms_kv.

    terms: K detached tensors [V,C,h,w]; coef: [K,V]; weight: [V].
    """

    terms: list[Tensor]
    coef: Tensor
    weight: Tensor
