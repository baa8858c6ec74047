"""The Gaussians themselves: raw parameters as the optimiser sees them, and their initialisation."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor

from splatdistill.config.schema import SplatsConfig
from splatdistill.ops.geometry import SH_C0
from splatdistill.utils import rng

FIELDS = ("means", "quats", "scales", "opacities", "sh0", "shN")


class Splats:
    """N Gaussians before activation, under gsplat's names.

    means: [N,3] world units. quats: [N,4] wxyz, any length. scales: [N,3] log world units. opacities: [N] logit.
    sh0: [N,1,3] and shN: [N,S-1,3] spherical harmonics of colour (rgb = 0.5 + C0 * sh0 + ...), S = (degree + 1)^2.
    Any further tensor whose first side is N travels along through densify and checkpoints.
    """

    def __init__(self, **tensors: Tensor) -> None:
        missing = [name for name in FIELDS if name not in tensors]
        assert not missing, f"missing {missing}"
        n = tensors["means"].shape[0]
        assert all(value.shape[0] == n for value in tensors.values()), "first sides differ"
        self.tensors = dict(tensors)

    def __len__(self) -> int:
        return self.tensors["means"].shape[0]

    def __getattr__(self, name: str) -> Tensor:
        """One of the tensors [N,...] by its name."""
        tensors = self.__dict__.get("tensors", {})
        if name not in tensors:
            raise AttributeError(name)
        return tensors[name]

    def __repr__(self) -> str:
        return f"Splats({len(self)} Gaussians, colour harmonics of degree {self.sh_degree}, {self.device})"

    @property
    def device(self) -> torch.device:
        return self.tensors["means"].device

    @property
    def sh_degree(self) -> int:
        return math.isqrt(1 + self.tensors["shN"].shape[1]) - 1

    def to(self, device: torch.device | str) -> Splats:
        return Splats(**{name: value.to(device) for name, value in self.tensors.items()})

    def detach(self) -> Splats:
        return Splats(**{name: value.detach() for name, value in self.tensors.items()})

    def requires_grad_(self) -> Splats:
        for value in self.tensors.values():
            value.requires_grad_()
        return self


def init_ball(config: SplatsConfig, *, seed: int) -> Splats:
    """`num_init` grayish Gaussians uniform in a ball, as wide as the spacing between them, randomly turned."""
    n, g = config.num_init, rng.generator(seed, 0, "init")
    means = _directions(n, g) * config.radius * torch.rand(n, 1, generator=g) ** (1 / 3)
    return _grayish(means, config, spacing=config.radius * (4 / 3 * math.pi / n) ** (1 / 3), generator=g)


def init_shell(config: SplatsConfig, *, seed: int) -> Splats:
    """The same on a sphere about the middle of a scene, up to a tenth of the radius thick."""
    n, g = config.num_init, rng.generator(seed, 0, "init")
    means = _directions(n, g) * config.radius * (1 - 0.1 * torch.rand(n, 1, generator=g))
    return _grayish(means, config, spacing=config.radius * (4 * math.pi / n) ** 0.5, generator=g)


def init_points(config: SplatsConfig, *, points: Tensor, colors: Tensor, seed: int) -> Splats:
    """A Gaussian for each point, or for `num_init` drawn from them, as wide as the way to its neighbours and coloured.

    points: [P,3] in any units, +z up; they are turned to +y up, centred and scaled to fill `radius`. colors: [P,3] in
    0..1.
    """
    g = rng.generator(seed, 0, "init")
    chosen = torch.randperm(len(points), generator=g)[: config.num_init]
    means = points[chosen][:, [1, 2, 0]]
    means = means - 0.5 * (means.amin(0) + means.amax(0))
    extent = cast(Tensor, means.norm(dim=-1)).amax()  # pyright: ignore[reportUnknownMemberType]
    if len(means) < 4 or extent == 0:
        raise ValueError(f"init: a cloud needs 4 points or more that lie apart; this one has {len(means)}.")
    means = means * (config.radius / extent)
    splats = _grayish(means, config, spacing=1.0, generator=g)
    parts = torch.split(means, 1024)
    distances = [torch.cdist(part, means).topk(4, largest=False).values[:, 1:].mean(1) for part in parts]
    spacing = torch.cat(distances).clamp(min=1e-3 * config.radius)
    scales = (0.6 * spacing).log()[:, None].expand(-1, 3).clone()
    return Splats(**{**splats.tensors, "scales": scales, "sh0": (colors[chosen][:, None] - 0.5) / SH_C0})


INITS = {"ball": init_ball, "shell": init_shell}
"""What `init` can name besides a file."""


def _directions(n: int, generator: torch.Generator) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=-1)


def _grayish(means: Tensor, config: SplatsConfig, *, spacing: float, generator: torch.Generator) -> Splats:
    """Grayish splats at means [N,3], as wide as `spacing` (world units), randomly turned."""
    n, g = len(means), generator
    return Splats(
        means=means,
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=g), dim=-1),
        scales=torch.full((n, 3), math.log(0.6 * spacing)),
        opacities=torch.full((n,), math.log(config.opacity / (1 - config.opacity))),
        sh0=0.1 * torch.randn(n, 1, 3, generator=g) / SH_C0,
        shN=torch.zeros(n, (config.own_degree + 1) ** 2 - 1, 3),
    )


def all_finite(value: Tensor) -> bool:
    """Whether no number of a tensor [...] is infinite or nan. A finite sum says so in one pass; another one may just be
    too large.
    """
    return bool(value.sum().isfinite()) or bool(value.isfinite().all())


def with_sh_degree(splats: Splats, degree: int) -> Splats:
    """The same splats with their colour harmonics cut or padded with zeros to `degree` 0..3."""
    if degree == splats.sh_degree:
        return splats
    size = (degree + 1) ** 2 - 1
    sh = splats.shN[:, :size]
    pad = sh.new_zeros(len(splats), size - sh.shape[1], 3)
    return Splats(**{**splats.tensors, "shN": torch.cat([sh, pad], 1)})
