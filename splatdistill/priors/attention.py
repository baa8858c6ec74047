"""Self-attention across the views of one object, as MVDream has it, put into a diffusers UNet."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn


class ViewAttention:
    """Self-attention over the tokens of `num_views` consecutive rows at once.

    Only the first `joint_rows` rows are grouped; each later row attends to itself alone.
    """

    def __init__(self) -> None:
        self.num_views = 1
        self.joint_rows = 0
        self.inner = AttnProcessor2_0()

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        together, alone = hidden_states[: self.joint_rows], hidden_states[self.joint_rows :]
        out = []
        if len(together):
            tokens = together.shape[1]
            grouped = together.reshape(-1, self.num_views * tokens, together.shape[2])
            out.append(self.inner(attn, grouped, *args, **kwargs).reshape(len(together), tokens, -1))
        if len(alone):
            out.append(self.inner(attn, alone, *args, **kwargs))
        return torch.cat(out) if len(out) > 1 else out[0]


def install_view_attention(unet: UNet2DConditionModel) -> ViewAttention:
    """Gives all self-attentions of a UNet one shared `ViewAttention` and makes all-zero camera rows mean "none"."""
    views = ViewAttention()
    for name, module in unet.named_modules():
        if name.endswith(".attn1"):
            module.set_processor(views)  # type: ignore[operator]
    assert isinstance(unet.class_embedding, nn.Module)
    unet.class_embedding.register_forward_hook(_absent_camera)
    return views


def _absent_camera(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """The projection has biases, so a zero token would still say something: its row is silenced."""
    return output * (args[0] != 0).any(-1, keepdim=True)
