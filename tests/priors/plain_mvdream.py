"""MVDream written plainly, under the names of its original checkpoint: what the mapped networks are held against.

Nothing of diffusers or transformers is used, and attention is a softmax written out.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

MULTIPLES = (1, 2, 4, 4)
HEAD = 64


class ResBlock(nn.Module):
    def __init__(self, before: int, time: int, after: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, after))
        out = nn.Conv2d(after, after, 3, padding=1)
        self.out_layers = nn.Sequential(nn.GroupNorm(32, after), nn.SiLU(), nn.Dropout(0), out)
        self.skip_connection = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Attention(nn.Module):
    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
        return self.to_out((weights @ v).transpose(1, 2).flatten(2))


class Gated(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(Gated(width, 4 * width), nn.Dropout(0), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Block(nn.Module):
    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.attn1, self.ff, self.attn2 = Attention(width, width), FeedForward(width), Attention(width, context)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor, views: int) -> Tensor:
        together = x.unflatten(0, (-1, views)).flatten(1, 2)  # all tokens of all views of an object
        normed = self.norm1(together)
        x = (self.attn1(normed, normed) + together).unflatten(1, (views, -1)).flatten(0, 1)
        x = self.attn2(self.norm2(x), context) + x
        return self.ff(self.norm3(x)) + x


class Transformer(nn.Module):
    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.proj_in, self.proj_out = nn.Linear(width, width), nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList([Block(width, context)])

    def forward(self, x: Tensor, context: Tensor, views: int) -> Tensor:
        h = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        for block in self.transformer_blocks:
            h = block(h, context, views)
        return x + self.proj_out(h).transpose(1, 2).unflatten(2, x.shape[2:])


class Down(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Up(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class UNet(nn.Module):
    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        time = 4 * width
        self.width = width
        self.time_embed = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time))
        self.camera_embed = nn.Sequential(nn.Linear(16, time), nn.SiLU(), nn.Linear(time, time))
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(4, width, 3, padding=1)])])
        kept, now = [width], width
        for level, multiple in enumerate(MULTIPLES):
            for _ in range(2):
                layers: list[nn.Module] = [ResBlock(now, time, multiple * width)]
                now = multiple * width
                if level < 3:
                    layers.append(Transformer(now, context))
                self.input_blocks.append(nn.ModuleList(layers))
                kept.append(now)
            if level < 3:
                self.input_blocks.append(nn.ModuleList([Down(now)]))
                kept.append(now)
        self.middle_block = nn.ModuleList(
            [ResBlock(now, time, now), Transformer(now, context), ResBlock(now, time, now)]
        )
        self.output_blocks = nn.ModuleList()
        for level, multiple in reversed(list(enumerate(MULTIPLES))):
            for i in range(3):
                layers = [ResBlock(now + kept.pop(), time, multiple * width)]
                now = multiple * width
                if level < 3:
                    layers.append(Transformer(now, context))
                if level and i == 2:
                    layers.append(Up(now))
                self.output_blocks.append(nn.ModuleList(layers))
        self.out = nn.Sequential(nn.GroupNorm(32, now), nn.SiLU(), nn.Conv2d(now, 4, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, context: Tensor, camera: Tensor | None, views: int) -> Tensor:
        half = self.width // 2
        angles = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(half) / half)
        emb = self.time_embed(torch.cat([angles.cos(), angles.sin()], -1))
        if camera is not None:
            emb = emb + self.camera_embed(camera)

        def run(layers: nn.Module, h: Tensor) -> Tensor:
            for layer in layers:  # type: ignore[attr-defined]
                if isinstance(layer, ResBlock):
                    h = layer(h, emb)
                else:
                    h = layer(h, context, views) if isinstance(layer, Transformer) else layer(h)
            return h

        kept = []
        for layers in self.input_blocks:
            x = run(layers, x)
            kept.append(x)
        x = run(self.middle_block, x)
        for layers in self.output_blocks:
            x = run(layers, torch.cat([x, kept.pop()], 1))
        return self.out(x)


class Residual(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(32, before, eps=1e-6), nn.GroupNorm(32, after, eps=1e-6)
        self.conv1, self.conv2 = (nn.Conv2d(width, after, 3, padding=1) for width in (before, after))
        if before != after:
            self.nin_shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class PixelAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))
        weights = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(q.shape[1]), -1)
        return x + self.proj_out((v @ weights.transpose(1, 2)).unflatten(2, x.shape[2:]))


class Middle(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.block_1, self.attn_1, self.block_2 = Residual(width, width), PixelAttention(width), Residual(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Level(nn.Module):
    """Residual blocks, then a change of resolution: stride 2 after padding right and below, or twice as large."""

    def __init__(self, before: int, after: int, *, blocks: int, change: str) -> None:
        super().__init__()
        self.block = nn.ModuleList([Residual(before if i == 0 else after, after) for i in range(blocks)])
        if change == "down":
            self.downsample = nn.ModuleDict({"conv": nn.Conv2d(after, after, 3, stride=2)})
        if change == "up":
            self.upsample = Up(after)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        if hasattr(self, "downsample"):
            x = self.downsample["conv"](F.pad(x, (0, 1, 0, 1)))
        return self.upsample(x) if hasattr(self, "upsample") else x


class Encoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, width, 3, padding=1)
        widths = [width, *(m * width for m in MULTIPLES)]
        self.down = nn.ModuleList(
            [Level(widths[i], widths[i + 1], blocks=2, change="down" if i < 3 else "") for i in range(4)]
        )
        self.mid = Middle(widths[-1])
        self.norm_out, self.conv_out = nn.GroupNorm(32, widths[-1], eps=1e-6), nn.Conv2d(widths[-1], 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [*(m * width for m in MULTIPLES), MULTIPLES[-1] * width]
        self.conv_in, self.mid = nn.Conv2d(4, widths[-1], 3, padding=1), Middle(widths[-1])
        self.up = nn.ModuleList([Level(widths[i + 1], widths[i], blocks=3, change="up" if i else "") for i in range(4)])
        self.norm_out, self.conv_out = nn.GroupNorm(32, width, eps=1e-6), nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class VAE(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(width), Decoder(width)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(8, 8, 1), nn.Conv2d(4, 4, 1)

    def encode(self, x: Tensor) -> Tensor:
        """The mean of the latents."""
        return self.quant_conv(self.encoder(x))[:, :4]

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(z))


class TextLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, max(1, width // HEAD))
        layers = [("c_fc", nn.Linear(width, 4 * width)), ("gelu", nn.GELU()), ("c_proj", nn.Linear(4 * width, width))]
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = self.ln_1(x)
        x = x + self.attn(h, h, h, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class OpenClip(nn.Module):
    """The text half; `vocabulary` tokens, 77 at a time."""

    def __init__(self, width: int, layers: int, vocabulary: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(0.1 * torch.randn(77, width))
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList([TextLayer(width) for _ in range(layers)])})
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, width))
        self.logit_scale = nn.Parameter(torch.ones(()))

    def forward(self, tokens: Tensor) -> Tensor:
        """The state before the last layer, through the final norm."""
        x = (self.token_embedding(tokens) + self.positional_embedding).transpose(0, 1)
        mask = torch.full((77, 77), -torch.inf).triu(1)
        for layer in list(self.transformer["resblocks"])[:-1]:  # type: ignore[arg-type]
            x = layer(x, mask)
        return self.ln_final(x.transpose(0, 1))


class MVDream(nn.Module):
    def __init__(self, *, width: int, vae_width: int, text_width: int, text_layers: int, vocabulary: int) -> None:
        super().__init__()
        self.model = nn.ModuleDict({"diffusion_model": UNet(width, text_width)})
        self.first_stage_model = VAE(vae_width)
        self.cond_stage_model = nn.ModuleDict({"model": OpenClip(text_width, text_layers, vocabulary)})
        betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
        signal = np.cumprod(1 - betas)
        before = np.append(1.0, signal[:-1])
        variance = betas * (1 - before) / (1 - signal)
        for name, values in {
            "betas": betas, "alphas_cumprod": signal, "alphas_cumprod_prev": before,
            "sqrt_alphas_cumprod": np.sqrt(signal), "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - signal),
            "log_one_minus_alphas_cumprod": np.log(1 - signal), "sqrt_recip_alphas_cumprod": np.sqrt(1 / signal),
            "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / signal - 1), "posterior_variance": variance,
            "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
            "posterior_mean_coef1": betas * np.sqrt(before) / (1 - signal),
            "posterior_mean_coef2": (1 - before) * np.sqrt(1 - betas) / (1 - signal),
        }.items():  # fmt: skip
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))


ORIGINAL = {"width": 320, "vae_width": 128, "text_width": 1024, "text_layers": 24, "vocabulary": 49408}
"""sd-v2.1-base-4view.pt, after MVDream's sd-v2-base.yaml and OpenCLIP's ViT-H-14."""
SMALL = {"width": 64, "vae_width": 32, "text_width": 64, "text_layers": 3, "vocabulary": 49408}


def small() -> MVDream:
    torch.manual_seed(0)
    return MVDream(**SMALL).eval()
