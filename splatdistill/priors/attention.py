"""Attention as both kinds of UNet compute it, and MVDream's self-attention across the views of one object."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attend(attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Tensor:
    """Scaled dot-product attention of hidden_states [R,N,W] to encoder_hidden_states [R,T,D], or to themselves;
    [R,N,W].

    attn: a module with heads, to_q, to_k, to_v and to_out. This is AttnProcessor2_0 of diffusers, to the bit, for
    attentions without norms of their own, as UNets have them.
    """
    context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
    query, key, value = (
        x.view(len(x), -1, attn.heads, x.shape[-1] // attn.heads).transpose(1, 2)
        for x in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
    )
    out = F.scaled_dot_product_attention(query, key, value)
    return attn.to_out[0](out.transpose(1, 2).flatten(2))


class ViewAttention:
    """Self-attention over the tokens of `num_views` consecutive rows at once.

    Only the first `joint_rows` rows are grouped; each later row attends to itself only. zero_is_a_camera: one of zeros
    means "none" in the later rows alone.
    """

    def __init__(self) -> None:
        self.num_views = 1
        self.joint_rows = 0
        self.zero_is_a_camera = False

    def __call__(self, attn: Any, hidden_states: Tensor, **_: Any) -> Tensor:
        """Attention of hidden_states [R,N,W] like them: of views to each other, in the first `joint_rows`, else to
        themselves.
        """
        joint, single = hidden_states[: self.joint_rows], hidden_states[self.joint_rows :]
        out = []
        if len(joint):
            tokens = joint.shape[1]
            grouped = joint.reshape(-1, self.num_views * tokens, joint.shape[2])
            out.append(attend(attn, grouped).reshape(len(joint), tokens, -1))
        if len(single):
            out.append(attend(attn, single))
        return torch.cat(out) if len(out) > 1 else out[0]

    def without_absent(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """The projection of cameras has biases, so that of a zero camera is not zero: its row is set to zero."""
        present = (args[0] != 0).any(-1, keepdim=True)
        if self.zero_is_a_camera:
            present[: self.joint_rows] = True
        return output * present


def install_view_attention(unet: Any) -> ViewAttention:
    """Gives all self-attentions of a UNet one shared `ViewAttention` and makes all-zero camera rows mean "none"."""
    views = ViewAttention()
    for name, module in unet.named_modules():
        if name.endswith(".attn1"):
            module.set_processor(views)
    assert isinstance(unet.class_embedding, nn.Module)
    unet.class_embedding.register_forward_hook(views.without_absent)
    return views
