"""The UNet of the embedded prior in plain torch: diffusers' UNet2DConditionModel for the few blocks that it has.

Names of modules, their order and the order of operations are those of diffusers, so that weights, seeded adapters and
bits agree. Whoever imports diffusers waits seconds for it, which is longer than this network takes to load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splatdistill.priors.attention import attend

_BLOCKS = {
    "down_block_types": {"DownBlock2D", "CrossAttnDownBlock2D"},
    "up_block_types": {"UpBlock2D", "CrossAttnUpBlock2D"},
}
_READ = {
    "sample_size", "in_channels", "out_channels", "block_out_channels", "layers_per_block", "norm_num_groups",
    "norm_eps", "cross_attention_dim", "attention_head_dim", "projection_class_embeddings_input_dim", *_BLOCKS,
}  # fmt: skip
_FIXED: dict[str, Any] = {
    "act_fn": "silu", "class_embed_type": "projection", "conv_in_kernel": 3, "conv_out_kernel": 3,
    "downsample_padding": 1, "flip_sin_to_cos": True, "mid_block_scale_factor": 1, "attention_type": "default",
    "mid_block_type": "UNetMidBlock2DCrossAttn", "resnet_out_scale_factor": 1.0, "time_embedding_type": "positional",
    "resnet_time_scale_shift": "scale_shift", "transformer_layers_per_block": 1, "addition_embed_type_num_heads": 64,
}  # fmt: skip


def supports(config: Mapping[str, Any]) -> bool:
    """Whether `UNet` is what the contents of this config.json describe: every setting is one that it reads, has the one
    value that it knows, or is off.
    """
    blocks = all(set(config.get(key) or ["none"]) <= known for key, known in _BLOCKS.items())
    numbers = all(isinstance(config.get(key), int) for key in ("layers_per_block", "attention_head_dim"))
    return blocks and numbers and all(
        not value or key.startswith("_") or key in _READ or (key in _FIXED and value == _FIXED[key])
        for key, value in config.items()
    ) and all(config.get(key) == value for key, value in _FIXED.items() if value != 64)  # fmt: skip


class UNet(nn.Module):
    """config: the contents of the folder's config.json, for which `supports` holds."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)
        widths: list[int] = list(config["block_out_channels"])
        embedded = 4 * widths[0]
        self.conv_in = nn.Conv2d(config["in_channels"], widths[0], 3, padding=1)
        self.time_embedding = Embedding(widths[0], embedded)
        self.class_embedding = Embedding(config["projection_class_embeddings_input_dim"], embedded)
        # Registered before the middle block, as diffusers has them.
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        layers, last = config["layers_per_block"], len(widths) - 1
        for i, kind in enumerate(config["down_block_types"]):
            inputs = [widths[max(i - 1, 0)], *[widths[i]] * (layers - 1)]
            block = Block(config, inputs, widths[i], attends=kind.startswith("Cross"))
            if i < last:
                block.downsamplers.append(Resample(widths[i], stride=2))
            self.down_blocks.append(block)
        self.mid_block = Block(config, [widths[-1]] * 2, widths[-1], attends=True, num_attentions=1)
        rising = widths[::-1]
        for i, kind in enumerate(config["up_block_types"]):
            skips = [rising[i]] * layers + [rising[min(i + 1, last)]]
            below = [rising[max(i - 1, 0)], *[rising[i]] * layers]
            inputs = [a + b for a, b in zip(below, skips, strict=True)]
            block = Block(config, inputs, rising[i], attends=kind.startswith("Cross"))
            if i < last:
                block.upsamplers.append(Resample(rising[i], stride=1))
            self.up_blocks.append(block)
        self.conv_norm_out = nn.GroupNorm(config["norm_num_groups"], widths[0], eps=config["norm_eps"])
        self.conv_out = nn.Conv2d(widths[0], config["out_channels"], 3, padding=1)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        class_labels: Tensor,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """Called as diffusers' is. sample: [R,C,h,w]; timestep: [R]; encoder_hidden_states: [R,T,D]; class_labels:
        [R,L].

        Returns one tensor [R,out_channels,h,w].
        """
        assert not return_dict
        text, t = encoder_hidden_states, sinusoids(timestep, self.config["block_out_channels"][0]).to(sample.dtype)
        embedding = self.time_embedding(t) + self.class_embedding(class_labels.to(sample.dtype))
        down_blocks: Any = self.down_blocks
        up_blocks: Any = self.up_blocks
        x = self.conv_in(sample)
        skips = [x]
        for block in down_blocks:
            for layer in range(len(block.resnets)):
                x = block(x, layer, embedding, text)
                skips.append(x)
            for down in block.downsamplers:
                x = down.conv(x)
                skips.append(x)
        x = self.mid_block(x, 0, embedding, text)
        x = self.mid_block.resnets[1](x, embedding)
        for block in up_blocks:
            for layer in range(len(block.resnets)):
                x = block(torch.cat([x, skips.pop()], 1), layer, embedding, text)
            for up in block.upsamplers:
                x = up.conv(F.interpolate(x, size=skips[-1].shape[-2:], mode="nearest"))
        return (self.conv_out(F.silu(self.conv_norm_out(x))),)


def sinusoids(t: Tensor, width: int) -> Tensor:
    """Timesteps [R] as cosines and sines [R,width] in fp32, of frequencies 1 to 1e-4."""
    half = width // 2
    exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device)
    angles = t[:, None].float() * torch.exp(exponent / half)[None]
    return torch.cat([torch.cos(angles), torch.sin(angles)], -1)


class Embedding(nn.Module):
    """Two linear layers with SiLU between them."""

    def __init__(self, width: int, embedded: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(width, embedded), nn.Linear(embedded, embedded)

    def forward(self, x: Tensor) -> Tensor:
        """x [R,C] to [R,E]."""
        return self.linear_2(F.silu(self.linear_1(x)))


class Block(nn.Module):
    """What one resolution of one side consists of: residual blocks, each with its attention where there is any."""

    def __init__(
        self, config: Mapping[str, Any], inputs: list[int], width: int, *, attends: bool, num_attentions: int = 0
    ) -> None:
        """inputs: channels of what each residual block gets. num_attentions: 0 is one for each of them."""
        super().__init__()
        if attends:
            count = num_attentions or len(inputs)
            self.attentions = nn.ModuleList(Transformer(config, width) for _ in range(count))
        self.attends = attends
        self.resnets = nn.ModuleList(Resnet(config, channels, width) for channels in inputs)
        self.downsamplers, self.upsamplers = nn.ModuleList(), nn.ModuleList()

    def forward(self, x: Tensor, layer: int, embedding: Tensor, text: Tensor) -> Tensor:
        """What a layer of the block makes of x [R,C,h,w], like it but for channels. embedding: [R,E]; text: [R,T,D]."""
        x = self.resnets[layer](x, embedding)
        return self.attentions[layer](x, text) if self.attends else x


class Resample(nn.Module):
    """The convolution before which a picture was made larger, or that makes it smaller."""

    def __init__(self, width: int, *, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=stride, padding=1)


class Resnet(nn.Module):
    """A residual block whose second norm is scaled and shifted by the embedding of timestep and class labels."""

    def __init__(self, config: Mapping[str, Any], channels: int, width: int) -> None:
        super().__init__()
        groups, eps = config["norm_num_groups"], config["norm_eps"]
        self.norm1 = nn.GroupNorm(groups, channels, eps=eps)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.time_emb_proj = nn.Linear(4 * config["block_out_channels"][0], 2 * width)
        self.norm2 = nn.GroupNorm(groups, width, eps=eps)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(channels, width, 1) if channels != width else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x [R,C,h,w] to [R,E,h,w]; embedding: [R,W]."""
        inside = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.time_emb_proj(F.silu(embedding))[:, :, None, None].chunk(2, 1)
        inside = self.norm2(inside) * (1 + scale) + shift
        inside = self.conv2(F.silu(inside))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + inside


class Transformer(nn.Module):
    """The pixels of a picture as tokens through one transformer block, added to the picture."""

    def __init__(self, config: Mapping[str, Any], width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(config["norm_num_groups"], width, eps=1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(config, width)])
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """x [R,C,h,w] and, like it, what is returned; text: [R,T,D]."""
        rows, width, height, side = x.shape
        tokens = self.proj_in(self.norm(x)).permute(0, 2, 3, 1).reshape(rows, height * side, width)
        tokens = self.transformer_blocks[0](tokens, text)
        picture = tokens.reshape(rows, height, side, width).permute(0, 3, 1, 2).contiguous()
        return self.proj_out(picture) + x


class TransformerBlock(nn.Module):
    """Attention among the tokens, to the text, and a gated feed-forward net."""

    def __init__(self, config: Mapping[str, Any], width: int) -> None:
        super().__init__()
        heads = config["attention_head_dim"]  # diffusers means the number of heads here
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, width, heads=heads)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = Attention(width, config["cross_attention_dim"], heads=heads)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """x [R,N,W] and, like it, what is returned; text: [R,T,D]."""
        x = self.attn1(self.norm1(x)) + x
        x = self.attn2(self.norm2(x), text) + x
        return self.ff(self.norm3(x)) + x


class Attention(nn.Module):
    """`processor` computes it, and may be exchanged, as in diffusers."""

    def __init__(self, width: int, context_width: int, *, heads: int) -> None:
        """context_width: of the tokens that are attended to."""
        super().__init__()
        self.heads = heads
        self.processor: Any = attend
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k, self.to_v = nn.Linear(context_width, width, bias=False), nn.Linear(context_width, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def set_processor(self, processor: Any) -> None:
        self.processor = processor

    def forward(self, x: Tensor, text: Tensor | None = None) -> Tensor:
        """x [R,N,W] and, like it, what is returned; text: [R,T,D], None attends to x itself."""
        return self.processor(self, x, encoder_hidden_states=text)


class Gate(nn.Module):
    """Half of a linear layer's outputs times the GELU of the other half."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        """x [R,N,W] to [R,N,E]."""
        x, gate = self.proj(x).chunk(2, -1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        # The weights of diffusers are numbered around a dropout that does nothing.
        self.net = nn.ModuleList([Gate(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        """x [R,N,W] to [R,N,W]."""
        return self.net[2](self.net[0](x))
