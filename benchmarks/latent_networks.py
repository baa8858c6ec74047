"""The networks of `latent_teacher.py`: those of Stable Diffusion, in small, and the folder that they are kept in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from splatdistill.priors.prompts import SIDES, seen_from

TEXT_WIDTH, TOKENS = 128, 16
GROUPS, CONTRAST = 4, 4.0
SILU = 2.86, 1.09
"""Its value and slope at 3."""
START, END = "<|startoftext|>", "<|endoftext|>"
LEVELS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
"""Of the noise, as Stable Diffusion has them."""


def vae() -> AutoencoderKL:
    """64 pixels to 4 x 32 x 32 latents, of which three begin as the mean colours of 2 x 2 pixels."""
    kind: Any = AutoencoderKL  # whose hints allow one block
    made = kind(
        block_out_channels=(24, 48), layers_per_block=1, latent_channels=4, norm_num_groups=GROUPS, sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        mid_block_add_attention=False,
        scaling_factor=1.0,  # to be set: a value that was left out would come back in a copy
    )  # fmt: skip
    _begin_as_mean_colours(made)
    return made


@torch.no_grad()
def _begin_as_mean_colours(vae: Any) -> None:
    """First weights with which an autoencoder gives mean colours back. Group normalisation takes colours away, and to
    learn around it takes hours of a core: here each group has two constant channels, whose contrast is what is
    normalised. Residual branches begin at 0.
    """
    centre, cell = [(1, 1)], [(0, 0), (0, 1), (1, 0), (1, 1)]
    for block in vae.modules():
        if isinstance(block, ResnetBlock2D):
            nn.init.zeros_(block.conv2.weight)
            nn.init.zeros_(block.conv2.bias)  # type: ignore[arg-type]
            if block.conv_shortcut is not None:
                _carry(block.conv_shortcut, [(0, 0)])
    _carry(vae.encoder.conv_in, centre, inputs=range(3))
    _carry(vae.decoder.conv_in, centre, inputs=range(4))
    for sampler in (s for block in vae.encoder.down_blocks for s in block.downsamplers or ()):
        _carry(sampler.conv, cell)
    for sampler in (s for block in vae.decoder.up_blocks for s in block.upsamplers or ()):
        _carry(sampler.conv, centre)
    for half in (vae.encoder, vae.decoder):
        _read(half.conv_norm_out, half.conv_out)
    vae.encoder.conv_out.weight[4:] *= 0.1
    vae.encoder.conv_out.bias[4:] = -4.0  # of the logarithm of the variance
    for linear in (vae.quant_conv, vae.post_quant_conv):
        linear.weight.copy_(torch.eye(len(linear.weight))[..., None, None])
        linear.bias.zero_()


def _channels(number: int) -> tuple[list[int], list[int]]:
    """Those of constants, two a group, and the others."""
    constant = [group * (number // GROUPS) + i for group in range(GROUPS) for i in range(2)]
    return constant, [channel for channel in range(number) if channel not in constant]


def _carry(conv: Any, taps: Sequence[tuple[int, int]], *, inputs: Sequence[int] | None = None) -> None:
    """Lets a convolution pass channels on as means over `taps`, in order, and set the constants."""
    constant, free = _channels(conv.out_channels)
    conv.weight.mul_(0.5)
    conv.bias.zero_()
    if inputs is None:
        unused, inputs = _channels(conv.in_channels)
        conv.weight[:, unused] = 0
    for to, come_from in zip(free, inputs, strict=False):
        conv.weight[to] = 0
        for row, column in taps:
            conv.weight[to, come_from, row, column] = 1 / len(taps)
    conv.weight[constant] = 0
    conv.bias[constant] = torch.tensor([CONTRAST, -CONTRAST] * GROUPS)


def _read(norm: Any, conv: Any) -> None:
    """Lets a last convolution read the first three channels, through a SiLU at 3 +- 1, which is straight there."""
    _, free = _channels(norm.num_channels)
    norm.weight.fill_(CONTRAST * (2 * GROUPS / norm.num_channels) ** 0.5)
    norm.bias.fill_(3.0)
    conv.weight.mul_(0.2)
    conv.bias.zero_()
    conv.weight[:3] = 0
    conv.bias[:3] = -SILU[0] / SILU[1]
    for colour in range(3):
        conv.weight[colour, free[colour], 1, 1] = 1 / SILU[1]


def unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=32, in_channels=4, out_channels=4, block_out_channels=(32, 64, 96, 128), layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2 + ("CrossAttnDownBlock2D",) * 2, norm_num_groups=16,
        up_block_types=("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",) * 2, cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # diffusers means the number of heads here
    )  # fmt: skip


def text_encoder(words: Any) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=TEXT_WIDTH, intermediate_size=4 * TEXT_WIDTH, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=TOKENS, projection_dim=TEXT_WIDTH,
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
    )  # fmt: skip
    model = CLIPTextModel(config)
    # CLIP's 0.02 leaves words so alike after the residual layers that a short training never tells them apart.
    nn.init.normal_(model.get_input_embeddings().weight, std=0.5)  # type: ignore[arg-type]
    return model


def tokenizer(folder: Path, prompts: Iterable[str]) -> CLIPTokenizer:
    """CLIP's, with pairs of letters merged until the words of these prompts are whole; other words come in letters."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    made = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    trainer = trainers.BpeTrainer(vocab_size=1000, end_of_word_suffix="</w>", show_progress=False)
    made.train_from_iterator((seen_from(prompt, side) for prompt in prompts for side in SIDES), trainer)
    merges = [" ".join(pair) for pair in json.loads(made.to_str())["model"]["merges"]]
    whole = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    vocabulary = {word: place for place, word in enumerate(dict.fromkeys((*whole, START, END)))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return CLIPTokenizer.from_pretrained(folder, pad_token=END, model_max_length=TOKENS)


def scheduler() -> DDIMScheduler:
    return DDIMScheduler(**LEVELS, prediction_type="v_prediction", clip_sample=False, steps_offset=1)


def save(folder: Path, vae: Any, unet: Any, text: Any, words: CLIPTokenizer, scheduler: Any) -> None:
    """The pipeline as Stable Diffusion's are kept, in fp16. The networks stay as they are."""
    copies = []
    for network in (vae, unet, text):
        copy = type(network)(network.config) if network is text else type(network).from_config(network.config)
        copy.load_state_dict(network.state_dict())
        copies.append(copy.half())
    nothing: Any = None
    StableDiffusionPipeline(
        vae=copies[0], unet=copies[1], text_encoder=copies[2], tokenizer=words, scheduler=scheduler,
        safety_checker=nothing, feature_extractor=nothing, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
