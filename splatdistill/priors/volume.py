"""A feature volume conditioned on text, rendered from a camera: features of an object before anything is denoised."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splatdistill.scene.cameras import camera_token, orbit

CELLS = 2
"""Features a side in each of the UNet's pixels, to which they are added as channels."""
COLOURS = 3
"""The first features are the object's own colours, so that training can compare them with its images."""
_OLD_NAMES = {"read": "text_mlp", "cell": "decoder", "look": "view_head"}
_SECTORS = {"front": (0, 15), "side": (90, 15), "back": (180, 15), "overhead": (0, 75)}  # azimuth, elevation in degrees


class FeatureVolume(nn.Module):
    """Text to three planes of features (EG3D, Chan 2022), which a camera renders (GeNVS, Chan 2023).

    side: of a plane, cells; size: of the rendered features, pixels; depth: samples on a ray through the unit ball.
    fovy_deg, fill: of the camera, which its embedding leaves out; those that distillation has on average.
    """

    def __init__(
        self,
        text_width: int,
        channels: int = 8,
        side: int = 24,
        size: int = 32,
        depth: int = 12,
        features: int = 8,
        hidden: int = 256,
        fovy_deg: float = 37.5,
        fill: float = 0.87,
    ) -> None:
        super().__init__()
        self.config = {
            "text_width": text_width, "channels": channels, "side": side, "size": size, "depth": depth,
            "features": features, "hidden": hidden, "fovy_deg": fovy_deg, "fill": fill,
        }  # fmt: skip
        self.shape = (3, channels, side, side)
        first, second = nn.Linear(text_width, hidden), nn.Linear(hidden, hidden)
        for layer in (first, second):
            nn.init.normal_(layer.weight, std=1.5 * layer.in_features**-0.5)
        self.text_mlp = nn.Sequential(first, nn.SiLU(), second, nn.SiLU())
        self.planes = nn.Linear(hidden, math.prod(self.shape))
        nn.init.normal_(self.planes.weight, std=0.3 * hidden**-0.5)
        nn.init.normal_(self.planes.bias, std=0.1)
        self.decoder = nn.Sequential(nn.Linear(channels, 32), nn.SiLU(), nn.Linear(32, features + 1))
        self.view_head = nn.Linear(text_width, 9)
        self.size, self.depth, self.num_channels = size, depth, features + 1
        points = _points(size, depth, fovy=math.radians(fovy_deg), fill=fill)
        inside = points.square().sum(-1) < 1
        self.register_buffer("samples", inside.nonzero()[:, 0], persistent=False)
        self.register_buffer("points", points[inside], persistent=False)

    def save_config(self, folder: Path) -> None:
        """Writes what `__init__` was given into the folder's config.json, as diffusers does for its models."""
        folder.mkdir(parents=True, exist_ok=True)
        named = {"_class_name": type(self).__name__, **self.config}
        (folder / "config.json").write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")

    @torch.no_grad()
    def align_view_words(self, words: dict[str, Tensor]) -> None:
        """Fits `view_head` to the view words, whose vectors [D] are given: each to the middle of its sector."""
        angles = torch.tensor([_SECTORS[name] for name in words]).deg2rad()
        one = torch.ones(len(words))
        cameras = orbit(azimuth=angles[:, 0], elevation=angles[:, 1], radius=one, fovy=one, size=1)
        axes = camera_token(cameras).view(-1, 4, 4)[:, :3, :3].flatten(1)
        first = axes[list(words).index("front")]
        self.view_head.weight.copy_((torch.linalg.pinv(torch.stack(list(words.values()))) @ (axes - first)).T)
        self.view_head.bias.copy_(first)

    def forward(self, words: Tensor, tokens: Tensor) -> Tensor:
        """[R,features+1,size,size], alpha in 0..1 last. words: [R,D] sums of word vectors; tokens:
        [R,16] camera embeddings.

        Where a row of tokens is zero, no camera, `view_head` takes the direction of view from the words.
        """
        return self.render(self.planes_of(words), words, tokens)

    def planes_of(self, words: Tensor) -> Tensor:
        """[R,3,C,side,side], which depend on the words [R,D] alone."""
        return self.planes(self.text_mlp(words)).view(-1, *self.shape)

    def render(self, planes: Tensor, words: Tensor, tokens: Tensor) -> Tensor:
        """What `forward` answers, [R,features+1,size,size], from the planes [R,3,C,side,side] of its words [R,D];
        tokens: [R,16].
        """
        rows, has_camera = len(words), (tokens != 0).any(-1).view(-1, 1, 1)
        axes = torch.where(has_camera, tokens.view(-1, 4, 4)[:, :3, :3], self.view_head(words).view(-1, 3, 3))
        times = 1
        if axes.device.type == "cpu" and not axes.requires_grad and not rows % 2:  # a GPU would wait for this
            # Two conditions of the same views are sampled at once, their planes side by side.
            times += torch.equal(axes[: rows // 2], axes[rows // 2 :])
        at = torch.einsum("rij,pj->rpi", axes[: rows // times], self.points)
        pairs = torch.stack([at[..., :2], at[..., 1:], at.roll(1, -1)[..., :2]], 1)  # no list as index: it would wait
        planes = torch.cat(planes.chunk(times), 2).flatten(0, 1)
        found = F.grid_sample(planes, pairs.view(len(planes), 1, -1, 2), align_corners=False)
        found = found.view(rows // times, 3, times, self.shape[1], -1).sum(1)
        inside = self.decoder(found.transpose(0, 1).flatten(0, 1).transpose(1, 2))
        cells = inside.new_zeros(rows, self.size**2 * self.depth, self.num_channels)
        cells = cells.index_copy(1, self.samples, torch.cat([inside[..., :-1], F.softplus(inside[..., -1:] - 2)], -1))
        cells = cells.unflatten(1, (self.size, self.size, self.depth))
        density = cells[..., -1] * (8 / self.depth)  # per two world units, which the samples cover
        passed = density.cumsum(-1)
        weight = torch.exp(density - passed) - torch.exp(-passed)
        rendered = (weight[..., None] * cells[..., :-1]).sum(3)
        return torch.cat([rendered, weight.sum(-1, keepdim=True)], -1).permute(0, 3, 1, 2)


def current_name(name: str) -> str:
    """What a parameter of the volume is called here that weights of version 0.1 hold, alone or behind "volume."."""
    return re.sub(rf"(^|volume\.)({'|'.join(_OLD_NAMES)})\.", lambda found: f"{found[1]}{_OLD_NAMES[found[2]]}.", name)


def concat_features(xt: Tensor, features: Tensor) -> Tensor:
    """xt [R,C,n,n] with features [R,F,s,s] of the same views as further channels, [R,C+F CELLS^2,n,n]."""
    features = F.adaptive_avg_pool2d(features, CELLS * xt.shape[-1])
    return torch.cat([xt, F.pixel_unshuffle(features, CELLS).to(xt.dtype)], 1)


def _points(size: int, depth: int, *, fovy: float, fill: float) -> Tensor:
    """[size size depth,3]: where the rays of a camera at unit-ball distance pass; its axes right, up and back."""
    at = (torch.arange(size) + 0.5) / size * 2 - 1
    v, u = torch.meshgrid(-at, at, indexing="ij")
    slope, eye = math.tan(fovy / 2), 1 / (math.sin(fovy / 2) * fill)
    direction = F.normalize(torch.stack([slope * u, slope * v, -torch.ones_like(u)], -1), dim=-1)
    reach = eye - 1 + (torch.arange(depth) + 0.5) / depth * 2
    points = direction[:, :, None] * reach[:, None]
    points[..., 2] += eye
    return points.reshape(-1, 3)
