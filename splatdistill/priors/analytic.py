"""Priors whose score is known in closed form: oracles for the methods, and a teacher that needs no weights.

With x_t = alpha x_0 + sigma eps, the exact noise prediction of a density p is eps(x) = -sigma grad log p_t(x).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from splatdistill.priors.base import Choice, Condition, VariationalScore
from splatdistill.priors.oracles import ParticleScore
from splatdistill.scene.types import Cameras

COLOURS = {
    "red": (0.85, 0.12, 0.1), "orange": (0.95, 0.5, 0.1), "yellow": (0.95, 0.85, 0.15), "green": (0.15, 0.6, 0.2),
    "blue": (0.12, 0.25, 0.8), "purple": (0.5, 0.2, 0.65), "pink": (0.95, 0.5, 0.7), "brown": (0.45, 0.28, 0.15),
    "black": (0.08, 0.08, 0.08), "gray": (0.5, 0.5, 0.5),
}  # fmt: skip


class Density(Protocol):
    def epsilon(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The exact noise prediction at x [V,C,h,w]; alpha, sigma: [V,1,1,1]."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """N(mean, std^2 I). mean: broadcastable to [V,C,h,w]; std 0 is a Dirac."""

    mean: Tensor
    std: float

    def epsilon(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return sigma * (x - alpha * self.mean) / (alpha**2 * self.std**2 + sigma**2)


@dataclass(frozen=True)
class PerView:
    """Another density for each view: `densities` holds one for each name in `names` [V], in order of appearance."""

    densities: Sequence[Density]
    names: Sequence[str]

    def epsilon(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        all_views = torch.stack([density.epsilon(x, alpha, sigma) for density in self.densities])
        order = list(dict.fromkeys(self.names))
        return all_views[[order.index(name) for name in self.names], torch.arange(len(x))]


@dataclass(frozen=True)
class Shared:
    """The scores of K densities with their shares [K,V] at each view."""

    densities: Sequence[Density]
    shares: Tensor

    def epsilon(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        each = torch.stack([density.epsilon(x, alpha, sigma) for density in self.densities])
        return (self.shares.to(each).view(*self.shares.shape, 1, 1, 1) * each).sum(0)


Scene = Callable[[str, Cameras | None], Density]


@dataclass(frozen=True)
class AnalyticCondition(Condition):
    density: Density

    def mixed(self, others: Sequence[Condition], *, shares: Tensor) -> AnalyticCondition:
        """As `Condition.mixed`, of scores: for Gaussians of one width that of the mixed means. shares: [K,V]."""
        densities = [self.density, *(other.density for other in others if isinstance(other, AnalyticCondition))]
        return replace(self, density=Shared(densities, shares))


class AnalyticPrior:
    """A prior in pixel space (-1..1, C = 3) whose density for a prompt and cameras is given by `scene`; SD's noise
    schedule.
    """

    dtype = "fp32"
    knows_cameras = True
    supports_single_view_cameras = False
    sees_alpha = False
    network_engine = "torch"
    origin = "analytic"

    def __init__(self, scene: Scene, *, image_size: int, num_views: int = 1) -> None:
        self.scene = scene
        self.image_size = image_size
        self.num_views = num_views
        betas = torch.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000, dtype=torch.float64) ** 2
        self.alphas_cumprod = torch.cumprod(1 - betas, 0).float()

    def begin(self, choice: Choice) -> None:
        choice.refuse_instances(self.origin)

    def encode(self, rgb: Tensor) -> Tensor:
        x = 2 * rgb.permute(0, 3, 1, 2) - 1
        if x.shape[-1] != self.image_size:
            x = F.interpolate(x, (self.image_size, self.image_size), mode="bilinear", antialias=True)
        return x

    def decode(self, x0: Tensor) -> Tensor:
        return (0.5 * x0 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)

    def embed(
        self,
        prompt: str | Sequence[str],
        cameras: Cameras | None,
        *,
        use_camera_embedding: bool = True,
        cross_view_attention: bool = True,
    ) -> AnalyticCondition:
        """The last two change nothing: a density is given for each camera."""
        views = 1 if cameras is None else len(cameras)
        if isinstance(prompt, str):
            density = self.scene(prompt, cameras)
        else:
            density = PerView([self.scene(p, cameras) for p in dict.fromkeys(prompt)], list(prompt))
        return AnalyticCondition(text=torch.zeros(views, 1, 1), camera=None, density=density)

    def predict(self, xt: Tensor, t: Tensor, conditions: Sequence[Condition]) -> list[Tensor]:
        device = xt.device
        xt, t = xt.cpu(), t.cpu()  # where the densities are made; this prior is for checks, not for speed
        alphas_cumprod = self.alphas_cumprod.to(xt)[t].view(-1, 1, 1, 1)
        alpha, sigma = alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()
        out = []
        for condition in conditions:
            assert isinstance(condition, AnalyticCondition)
            out.append(condition.density.epsilon(xt, alpha, sigma).to(device))
        return out

    def particle_score(self, *, particles: int, lr: float, dropout: float) -> VariationalScore:
        """The exact score of the renders at hand."""
        return ParticleScore(particles=particles)


def beach_ball(*, image_size: int, std: float = 0.1) -> Scene:
    """A ball of radius 0.6 with eight sectors in two shades of the prompt's colour (gray without one) on white."""

    def scene(prompt: str, cameras: Cameras | None) -> Density:
        assert cameras is not None
        words = re.findall(r"[a-z]+", prompt.lower())
        colour = torch.tensor(next((COLOURS[w] for w in words if w in COLOURS), COLOURS["gray"]))
        return Gaussian(2 * _draw_ball(cameras, colour, image_size, 0.6) - 1, std)

    return scene


def _draw_ball(cameras: Cameras, colour: Tensor, size: int, radius: float) -> Tensor:
    """[V,3,size,size] in 0..1; four rays a pixel. colour: [3]."""
    grid = (torch.arange(2 * size) + 0.5) / (2 * size)
    y, x = torch.meshgrid(grid * cameras.height, grid * cameras.width, indexing="ij")
    pixel = torch.stack([x, y, torch.ones_like(x)], -1)
    c2w = torch.linalg.inv(cameras.viewmats)
    rays = torch.einsum("vij,vjk,hwk->vhwi", c2w[:, :3, :3], torch.linalg.inv(cameras.Ks), pixel)
    rays = rays / rays.square().sum(-1, keepdim=True).sqrt()
    origin = c2w[:, None, None, :3, 3]
    along = (rays * origin).sum(-1)
    inside = along**2 - origin.square().sum(-1) + radius**2
    hit = inside > 0
    normal = (origin + (-along - inside.clamp(min=0).sqrt())[..., None] * rays) / radius
    sector = torch.atan2(normal[..., 0], normal[..., 2]) * 8 / (2 * math.pi)
    shade = torch.where(sector.floor() % 2 == 0, 1.0, 0.55)[..., None]
    rgb = torch.where(hit[..., None], shade * colour, torch.ones(3))
    return F.avg_pool2d(rgb.permute(0, 3, 1, 2), 2)
