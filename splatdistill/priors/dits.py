"""The diffusion transformers that are read: one row for each class of diffusers, and what those are that are not.

A row says how the network takes the noise level, what the sign of its answer is, how it gets latents and texts, and
how the guidance scale of its own pipeline compares with ours. Texts are read by diffusers' own pipelines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splatdistill.priors import prompt_readers


@dataclass(frozen=True)
class Question:
    """What a transformer is asked at R rows. x: [R,C,h,w] as it was trained; time: [R] as it was trained; text:
    [R,T,D], of which the first `lengths` tokens of each row count, or all where that is (); pooled: [R,P] or None.
    config: of the network.
    """

    x: Tensor
    time: Tensor
    text: Tensor
    lengths: tuple[int, ...]
    pooled: Tensor | None
    config: Any

    @property
    def mask(self) -> Tensor:
        """Which tokens of each row count, [R,T] bool."""
        width = self.text.shape[1]
        rows = [[True] * length + [False] * (width - length) for length in self.lengths]
        return torch.tensor(rows, device=self.text.device)


@dataclass(frozen=True)
class DiT:
    """what: its name for people. pipeline: of diffusers, which makes pictures from texts with it. ask: one call of the
    network, to its answer [R,C,h,w]. read: prompts to texts. embedding: path of the part that embeds the time.

    flow: it predicts the velocity of a straight path, else the noise. time: what it is given, from a thousand times the
    share of noise in a flow, or the timestep. sign: -1 where it answers x0 - eps. ragged: texts are as long as they
    are. packed: channels are 2 x 2 latents. side: of the latents it was made for, where its configuration does not
    say. offset: what is added to the guidance scale of its pipeline to get ours. encoders: parts that read prompts.
    """

    what: str
    pipeline: str
    ask: Callable[[Callable[..., Any], Question], Tensor]
    read: Callable[..., Any]
    embedding: str
    flow: bool = True
    time: Callable[[Tensor], Tensor] = lambda thousandths: thousandths
    sign: int = 1
    ragged: bool = True
    packed: bool = False
    side: int = 128
    offset: float = 0.0
    encoders: tuple[str, ...] = ("text_encoder",)

    def channels(self, config: dict[str, Any]) -> int:
        """Of the latents that it takes."""
        return config["in_channels"] // (4 if self.packed else 1)

    def patch(self, config: dict[str, Any]) -> int:
        """Latents along one side of what it sees as one."""
        size = config.get("patch_size", config.get("all_patch_size", [1])[0])
        return int(size)

    def time_embedding(self, network: nn.Module) -> nn.Module:
        return network.get_submodule(self.embedding)


def _ask_sd3(network: Callable[..., Any], q: Question) -> Tensor:
    return network(
        q.x, encoder_hidden_states=q.text, pooled_projections=q.pooled, timestep=q.time, return_dict=False
    )[0]  # fmt: skip


def _ask_pixart(network: Callable[..., Any], q: Question) -> Tensor:
    out = network(
        q.x, encoder_hidden_states=q.text, encoder_attention_mask=q.mask, timestep=q.time,
        added_cond_kwargs={"resolution": None, "aspect_ratio": None}, return_dict=False,
    )[0]  # fmt: skip
    return out[:, : q.x.shape[1]]  # the second half is a variance


def _ask_masked(network: Callable[..., Any], q: Question) -> Tensor:
    return network(
        q.x, encoder_hidden_states=q.text, encoder_attention_mask=q.mask, timestep=q.time, return_dict=False
    )[0]  # fmt: skip


def _ask_z_image(network: Callable[..., Any], q: Question) -> Tensor:
    texts = [row[:length] for row, length in zip(q.text, q.lengths, strict=True)]
    return torch.stack(network(list(q.x.unsqueeze(2)), q.time, texts, return_dict=False)[0]).squeeze(2)


def _ask_flux2(network: Callable[..., Any], q: Question) -> Tensor:
    def places(height: int, width: int, tokens: int) -> Tensor:
        """Of everything in the frame: time, row, column and place in the text, [n,4]."""
        sides = (torch.arange(n, device=q.x.device) for n in (1, height, width, tokens))
        return torch.cartesian_prod(*sides)

    height, width = q.x.shape[-2:]
    out = network(
        q.x.flatten(2).mT, encoder_hidden_states=q.text, timestep=q.time, guidance=None,
        txt_ids=places(1, 1, q.text.shape[1]), img_ids=places(height, width, 1), return_dict=False,
    )[0]  # fmt: skip
    return out.mT.reshape_as(q.x)


def _ask_qwen(network: Callable[..., Any], q: Question) -> Tensor:
    height, width = (side // 2 for side in q.x.shape[-2:])
    mask = None if min(q.lengths) == q.text.shape[1] else q.mask
    out = network(
        F.pixel_unshuffle(q.x, 2).flatten(2).mT, encoder_hidden_states=q.text, encoder_hidden_states_mask=mask,
        timestep=q.time, guidance=None, img_shapes=[[(1, height, width)]] * len(q.x), return_dict=False,
    )[0]  # fmt: skip
    return F.pixel_shuffle(out.mT.unflatten(2, (height, width)), 2)


def _ask_sana(network: Callable[..., Any], q: Question) -> Tensor:
    return network(
        q.x, encoder_hidden_states=q.text, encoder_attention_mask=q.mask,
        timestep=q.time * q.config["timestep_scale"], return_dict=False,
    )[0]  # fmt: skip


def _share(thousandths: Tensor) -> Tensor:
    """The share of noise, 0..1."""
    return thousandths / 1000


def _share_of_picture(thousandths: Tensor) -> Tensor:
    """What is left beside the noise, rounded as their pipelines round it."""
    return (1000 - thousandths) / 1000


def _one_less(thousandths: Tensor) -> Tensor:
    return 1 - thousandths / 1000


DITS: dict[str, DiT] = {
    "SD3Transformer2DModel": DiT(
        "Stable Diffusion 3", "StableDiffusion3Pipeline", _ask_sd3, prompt_readers.read_sd3,
        "time_text_embed.timestep_embedder", ragged=False, encoders=("text_encoder", "text_encoder_2"),
    ),
    "PixArtTransformer2DModel": DiT(
        "PixArt-Sigma", "PixArtSigmaPipeline", _ask_pixart, partial(prompt_readers.read_masked, "PixArtSigmaPipeline"),
        "adaln_single.emb.timestep_embedder", flow=False,
    ),
    "ZImageTransformer2DModel": DiT(
        "Z-Image", "ZImagePipeline", _ask_z_image, prompt_readers.read_z_image, "t_embedder",
        time=_share_of_picture, sign=-1, offset=1.0,
    ),
    "Flux2Transformer2DModel": DiT(
        "FLUX.2 klein", "Flux2KleinPipeline", _ask_flux2, prompt_readers.read_flux2,
        "time_guidance_embed.timestep_embedder", time=_share, ragged=False,
    ),
    "Lumina2Transformer2DModel": DiT(
        "Lumina Image 2", "Lumina2Pipeline", _ask_masked, partial(prompt_readers.read_masked, "Lumina2Pipeline"),
        "time_caption_embed.timestep_embedder", time=_one_less, sign=-1,
    ),
    "QwenImageTransformer2DModel": DiT(
        "Qwen-Image", "QwenImagePipeline", _ask_qwen, prompt_readers.read_qwen,
        "time_text_embed.timestep_embedder", time=_share, packed=True,
    ),
    "SanaTransformer2DModel": DiT(
        "SANA", "SanaPipeline", _ask_sana, partial(prompt_readers.read_masked, "SanaPipeline"),
        "time_embed.emb.timestep_embedder", side=32,
    ),
}  # fmt: skip
"""By the class of the network."""
