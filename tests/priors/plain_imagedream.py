"""ImageDream written plainly, under the names of its published UNet: what ours is held against.

Nothing of diffusers or transformers is used. What differs from MVDream: attention to the picture's tokens beside the
text's, the resampler that makes these, and a last view of each object that is the picture itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tests.priors import plain_mvdream
from tests.priors.plain_mvdream import HEAD


class PictureAttention(plain_mvdream.Attention):
    """The context's last `tokens` are the picture's."""

    def __init__(self, width: int, context: int, tokens: int) -> None:
        super().__init__(width, context)
        self.tokens = tokens
        self.to_k_ip, self.to_v_ip = (nn.Linear(context, width, bias=False) for _ in range(2))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        words, picture = context.split([context.shape[1] - self.tokens, self.tokens], 1)
        found = torch.zeros(())
        for keys, values, told in ((self.to_k, self.to_v, words), (self.to_k_ip, self.to_v_ip, picture)):
            q, k, v = (
                part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for part in (self.to_q(x), keys(told), values(told))
            )
            found = found + torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1) @ v
        return self.to_out(found.transpose(1, 2).flatten(2))


class Perceiver(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, heads * HEAD, bias=False)
        self.to_kv = nn.Linear(width, 2 * heads * HEAD, bias=False)
        self.to_out = nn.Linear(heads * HEAD, width, bias=False)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        latents = self.norm2(latents)
        k, v = self.to_kv(torch.cat([self.norm1(x), latents], 1)).chunk(2, -1)
        q, k, v = (part.unflatten(-1, (self.heads, HEAD)).transpose(1, 2) for part in (self.to_q(latents), k, v))
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(HEAD), -1)
        return self.to_out((weights @ v).transpose(1, 2).flatten(2))


class Resampler(nn.Module):
    def __init__(self, *, states: int, width: int, heads: int, depth: int, tokens: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, tokens, width) / math.sqrt(width))
        self.proj_in, self.proj_out = nn.Linear(states, width), nn.Linear(width, width)
        self.norm_out = nn.LayerNorm(width)

        def wide() -> nn.Sequential:
            up, down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
            return nn.Sequential(nn.LayerNorm(width), up, nn.GELU(), down)

        self.layers = nn.ModuleList([nn.ModuleList([Perceiver(width, heads), wide()]) for _ in range(depth)])

    def forward(self, states: Tensor) -> Tensor:
        x, latents = self.proj_in(states), self.latents.expand(len(states), -1, -1)
        for attend, wide in self.layers:  # type: ignore[misc]
            latents = attend(x, latents) + latents
            latents = wide(latents) + latents
        return self.norm_out(self.proj_out(latents))


class UNet(plain_mvdream.UNet):
    def __init__(self, width: int, context: int, *, states: int, heads: int, depth: int, tokens: int) -> None:
        super().__init__(width, context)
        for module in self.modules():
            if isinstance(module, plain_mvdream.Block):
                module.attn2 = PictureAttention(module.attn2.to_q.in_features, context, tokens)
        self.image_embed = Resampler(states=states, width=context, heads=heads, depth=depth, tokens=tokens)

    def answer(self, x: Tensor, t: Tensor, text: Tensor, camera: Tensor, states: Tensor, latents: Tensor) -> Tensor:
        """[B*5,C,h,w] for B objects of five views, of whose last x says nothing. x: [B*5,C,h,w]; t: [B*5]; text:
        [B*5,T,D]; camera: [B*5,16]; states: of the picture by CLIP, [B*5,N,W]; latents: of the picture, [B,C,h,w].
        """
        x = x.clone()
        x[4::5] = latents
        return self(x, t, torch.cat([text, self.image_embed(states)], 1), camera, views=5)


ORIGINAL = {"width": 320, "context": 1024, "states": 1280, "heads": 12, "depth": 4, "tokens": 16}
"""sd-v2.1-base-4view-ipmv, after ImageDream's sd_v2_base_ipmv.yaml."""
SMALL = {"width": 64, "context": 32, "states": 24, "heads": 2, "depth": 2, "tokens": 3}


def small() -> UNet:
    torch.manual_seed(0)
    return UNet(**SMALL).eval()
