"""The networks of the embedded prior, and the diffusers folder that they are kept in."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from splatdistill.embedded.corpus.captions import COLOURS, VIEW_WORDS, vocabulary
from splatdistill.embedded.corpus.layout import COMMON, WIDE
from splatdistill.embedded.corpus.nouns import NOUNS, Noun
from splatdistill.embedded.corpus.procedural import FAMILIES, RELATIONS, SHAPES, Family
from splatdistill.priors.vocabulary import META_FILE
from splatdistill.priors.volume import CELLS, FeatureVolume

MAX_WORDS = 16
CHANNELS = (96, 128, 144)
TEXT_WIDTH = 128
PATCH = 4
IMAGE_SIZE = 64
NUM_VIEWS = 4


EVERYTHING: tuple[Noun | Family, ...] = (*NOUNS, *FAMILIES)


@dataclass
class PriorNetworks:
    """The parts of the prior that a folder holds."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    volume: FeatureVolume
    tokenizer: PreTrainedTokenizerFast
    scheduler: DDPMScheduler


def words_of(nouns: Sequence[Noun | Family]) -> list[str]:
    """All that captions of these nouns can hold."""
    return vocabulary([n for n in nouns if isinstance(n, Noun)], [n for n in nouns if isinstance(n, Family)])


def create(
    *, nouns: Sequence[Noun | Family] = EVERYTHING, channels: tuple[int, ...] = CHANNELS, text_width: int = TEXT_WIDTH
) -> PriorNetworks:
    """Fresh networks whose vocabulary is that of these nouns; weights come from torch's global generator."""
    tokenizer = make_tokenizer(words_of(nouns))
    words, blocks = tokenizer.get_vocab(), len(channels)
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=text_width, intermediate_size=4 * text_width, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=MAX_WORDS, projection_dim=text_width,
        bos_token_id=words["<s>"], eos_token_id=words["</s>"], pad_token_id=words["<pad>"],
    )  # fmt: skip
    volume = FeatureVolume(text_width)
    unet = UNet2DConditionModel(
        sample_size=IMAGE_SIZE // PATCH,
        in_channels=3 * PATCH**2 + CELLS**2 * volume.num_channels,
        out_channels=3 * PATCH**2,
        down_block_types=("DownBlock2D",) * (blocks - 2) + ("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",) * (blocks - 2),
        block_out_channels=channels,
        layers_per_block=1,
        norm_num_groups=16,
        cross_attention_dim=text_width,
        attention_head_dim=4,  # diffusers means the number of heads here
        class_embed_type="projection",  # of the camera token and the sum of the words
        projection_class_embeddings_input_dim=16 + text_width,
        resnet_time_scale_shift="scale_shift",
    )
    _init_conditioning(unet)
    # Not v: that has noise in it, which channels this narrow cannot carry through the network (JiT, Li and He 2025).
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", prediction_type="sample")
    text_encoder = CLIPTextModel(config)
    # CLIP's 0.02 leaves words so alike after the residual layers that a short training never tells them apart.
    nn.init.normal_(word_embedding(text_encoder), std=0.5)
    volume.align_view_words({word: word_embedding(text_encoder)[words[word]] for word in VIEW_WORDS})
    return PriorNetworks(unet=unet, text_encoder=text_encoder, volume=volume, tokenizer=tokenizer, scheduler=scheduler)


def _init_conditioning(unet: UNet2DConditionModel) -> None:
    """First weights of the conditioning on camera and words: larger than torch's default, with which it takes long to
    matter, but scale and shift below unit gain; larger ones scramble the image for the first thousand steps.
    """
    for name, layer in unet.named_modules():
        if isinstance(layer, nn.Linear) and (name.endswith("time_emb_proj") or name.startswith("class_embedding")):
            gain = 1.5 if name.startswith("class_embedding") else 0.5
            nn.init.normal_(layer.weight, std=gain * layer.in_features**-0.5)


def word_embedding(text_encoder: CLIPTextModel) -> Tensor:
    """The parameter [words, width] of the word vectors."""
    weight = text_encoder.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return weight


def make_tokenizer(words: list[str]) -> PreTrainedTokenizerFast:
    """One token a word, lower case; words it does not know become <unk>."""
    specials = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    vocab = {word: i for i, word in enumerate([*specials.values(), *words])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=specials["unk_token"]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", vocab["<s>"]), ("</s>", vocab["</s>"])]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=MAX_WORDS, **specials)


def meta(*, image_size: int, nouns: Sequence[Noun | Family] = EVERYTHING) -> dict[str, Any]:
    """What splatdistill.json says: how pixels become channels, what the prior knows, the cameras it has seen.

    image_size: side in pixels of the pictures that the prior was trained on last. nouns: what they showed.
    """
    shapes = [noun.name for noun in nouns if isinstance(noun, Family) and noun.name in SHAPES]
    return {
        "encode": "pixel_unshuffle",
        "patch": PATCH,
        "image_size": image_size,
        "num_views": NUM_VIEWS,
        "nouns": {noun.name: list(noun.synonyms) for noun in nouns},
        "paintable": [noun.name for noun in nouns if isinstance(noun, Family) or noun.paintable],
        "shapes": shapes,
        "relations": list(RELATIONS) if shapes else [],
        "colours": {name: list(synonyms) for name, (_, synonyms) in COLOURS.items()},
        "words": words_of(nouns),
        "view_words": list(VIEW_WORDS),
        "cameras": {
            "elevation_deg": list(COMMON.elevation_deg),
            "elevation_deg_rare": list(WIDE.elevation_deg),
            "fovy_deg": list(COMMON.fovy_deg),
            "fill": list(COMMON.fill),
            "object_radius": COMMON.object_radius,
        },
    }


def save(
    networks: PriorNetworks, folder: Path, *, image_size: int, nouns: Sequence[Noun | Family] = EVERYTHING
) -> None:
    """Writes a diffusers folder in fp16 safetensors, under a temporary name first; a README.md there is kept."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    networks.unet.register_to_config(sample_size=image_size // PATCH)
    networks.unet.save_config(fresh / "unet")
    _write(networks.unet, fresh / "unet" / "diffusion_pytorch_model.safetensors")
    networks.volume.save_config(fresh / "volume")
    _write(networks.volume, fresh / "volume" / "diffusion_pytorch_model.safetensors")
    networks.text_encoder.config.save_pretrained(fresh / "text_encoder")
    # transformers 4 names the weights with this prefix; 5 drops it but reads both.
    _write(networks.text_encoder, fresh / "text_encoder" / "model.safetensors", prefix="text_model.")
    networks.tokenizer.save_pretrained(fresh / "tokenizer")
    networks.scheduler.save_pretrained(fresh / "scheduler")
    (fresh / META_FILE).write_text(
        json.dumps(meta(image_size=image_size, nouns=nouns), indent=1) + "\n", encoding="utf-8"
    )
    if (folder / "README.md").exists():
        shutil.copy2(folder / "README.md", fresh / "README.md")
    old = folder.with_name(folder.name + ".old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def _write(part: nn.Module, path: Path, *, prefix: str = "") -> None:
    tensors = {
        prefix + name.removeprefix(prefix): value.half().contiguous() for name, value in part.state_dict().items()
    }
    save_file(tensors, path, metadata={"format": "pt"})
