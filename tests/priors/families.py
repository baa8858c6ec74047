"""Tiny random models of every family, saved by diffusers' own pipelines, so in the layout that the hub has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, SD3Transformer2DModel, UNet2DConditionModel
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
WIDTH = 32
CLIP_READER = "CLIPImageProcessor"
CLIP_PICTURES: dict[str, Any] = {
    "image_processor_type": CLIP_READER, "size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28},
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
    "do_resize": True, "do_center_crop": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True,
    "resample": 3, "rescale_factor": 1 / 255,
}  # fmt: skip
"""preprocessor_config.json of laion's ViT-H-14, but for its size."""


def clip_tokenizer(folder: Path, *, pad: str = "<|endoftext|>", tokens: int = 77) -> CLIPTokenizer:
    """Single letters, in the four files of the hub."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(c) for c in range(ord("!"), ord("~") + 1)]
    words = [*letters, *(f"{x}</w>" for x in letters), "ab</w>", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    return CLIPTokenizer.from_pretrained(folder, pad_token=pad, model_max_length=tokens)


def clip(*, projected: bool = False, width: int = WIDTH, tokens: int = 77) -> Any:
    config = CLIPTextConfig(
        vocab_size=200, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=tokens, projection_dim=width, bos_token_id=189, eos_token_id=190, pad_token_id=190,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def t5(width: int) -> tuple[T5EncoderModel, PreTrainedTokenizerFast]:
    words = ["<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz "]
    tokenizer = Tokenizer(models.Unigram([(word, -1.0) for word in words], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    config = T5Config(vocab_size=len(words), d_model=width, d_kv=8, d_ff=2 * width, num_layers=1, num_heads=4)
    return T5EncoderModel(config).eval(), fast


def vae(**settings: Any) -> AutoencoderKL:
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(
        **kinds, block_out_channels=(8, 16), norm_num_groups=4, latent_channels=4, sample_size=16, **settings
    )


def tiny_encoder(**settings: Any) -> AutoencoderTiny:
    """One that fits `vae`."""
    two = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    return AutoencoderTiny(**(two | {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)} | settings))


def unet(**settings: Any) -> UNet2DConditionModel:
    base: dict[str, Any] = {
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": (16, 32), "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "norm_num_groups": 8, "attention_head_dim": 4,
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": WIDTH,
    }  # fmt: skip
    return UNet2DConditionModel(**{**base, **settings})


def stable_diffusion(
    folder: Path, scheduler: Any, *, pad: str = "<|endoftext|>", tokens: int = 77, **settings: Any
) -> Path:
    tokenizer = clip_tokenizer(folder.with_name("words"), pad=pad, tokens=tokens)
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae(), text_encoder=clip(tokens=tokens), tokenizer=tokenizer,
        unet=unet(**settings), scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    return saved(pipeline, folder)


def sd15(folder: Path) -> Path:
    return stable_diffusion(folder, diffusers.PNDMScheduler(**SD, skip_prk_steps=True, steps_offset=1))


def sd21(folder: Path) -> Path:
    scheduler = diffusers.DDIMScheduler(**SD, prediction_type="v_prediction", clip_sample=False)
    return stable_diffusion(folder, scheduler, pad="!", use_linear_projection=True)


def mvdream(folder: Path) -> Path:
    camera = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 16}
    return stable_diffusion(folder, diffusers.DDIMScheduler(**SD), pad="!", use_linear_projection=True, **camera)


def sdxl(folder: Path) -> Path:
    network = unet(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2), projection_class_embeddings_input_dim=6 * 8 + WIDTH,
        cross_attention_dim=2 * WIDTH,
    )  # fmt: skip
    words = clip_tokenizer(folder.with_name("words"))
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae=vae(scaling_factor=0.13025, force_upcast=True), text_encoder=clip(), text_encoder_2=clip(projected=True),
        tokenizer=words, tokenizer_2=words, unet=network, scheduler=diffusers.EulerDiscreteScheduler(**SD),
        force_zeros_for_empty_prompt=True, add_watermarker=False,
    )  # fmt: skip
    return saved(pipeline, folder)


def deepfloyd(folder: Path) -> Path:
    network = unet(
        in_channels=3, out_channels=6, sample_size=16, down_block_types=("ResnetDownsampleBlock2D",
        "SimpleCrossAttnDownBlock2D"), up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", encoder_hid_dim=24, addition_embed_type="text",
        addition_embed_type_num_heads=2, cross_attention_norm="group_norm", resnet_time_scale_shift="scale_shift",
        act_fn="gelu",
    )  # fmt: skip
    encoder, words = t5(24)
    scheduler = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range")
    pipeline = diffusers.IFPipeline(
        tokenizer=words, text_encoder=encoder, unet=network, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, watermarker=None, requires_safety_checker=False,
    )  # fmt: skip
    return saved(pipeline, folder)


def sd3(folder: Path, *, with_t5: bool = True) -> Path:
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=4, caption_projection_dim=32, joint_attention_dim=72, pooled_projection_dim=2 * WIDTH,
    )  # fmt: skip
    words = clip_tokenizer(folder.with_name("words"))
    encoder, long_words = t5(72) if with_t5 else (None, None)
    pipeline = diffusers.StableDiffusion3Pipeline(
        transformer=transformer, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip(projected=True), tokenizer=words, text_encoder_2=clip(projected=True), tokenizer_2=words,
        text_encoder_3=encoder, tokenizer_3=long_words,
    )  # fmt: skip
    return saved(pipeline, folder)


def saved(pipeline: Any, folder: Path) -> Path:
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def mvdream_of_ashawkey(folder: Path, state: dict[str, torch.Tensor]) -> Path:
    """The layout of that folder on the hub: a class of its own, whose code is missing here, around original names."""
    mvdream(folder)
    return with_original_unet(folder, state)


def imagedream_of_ashawkey(folder: Path, state: dict[str, torch.Tensor], *, encoder: CLIPVisionModel) -> Path:
    """The same of ImageDream: with the tokens that a picture is in the UNet's configuration, and CLIP's half that reads
    it.
    """
    mvdream(folder)
    encoder.save_pretrained(folder / "image_encoder", safe_serialization=True)
    (folder / "feature_extractor").mkdir()
    (folder / "feature_extractor" / "preprocessor_config.json").write_text(json.dumps(CLIP_PICTURES))
    more = {"image_encoder": ["transformers", "CLIPVisionModel"], "feature_extractor": ["transformers", CLIP_READER]}
    tokens = state["image_embed.latents"].shape[1]
    return with_original_unet(folder, state, index=more, ip_dim=tokens, image_size=8)


def vision(*, width: int, side: int, patch: int) -> CLIPVisionModel:
    config = CLIPVisionConfig(
        hidden_size=width, intermediate_size=2 * width, num_hidden_layers=3, num_attention_heads=4, image_size=side,
        patch_size=patch, hidden_act="gelu",
    )  # fmt: skip
    return CLIPVisionModel(config).eval()


def with_original_unet(
    folder: Path, state: dict[str, torch.Tensor], *, index: dict[str, Any] | None = None, **config: Any
) -> Path:
    """MVDream's folder with a UNet of these weights, in place of its own."""
    found = json.loads((folder / "model_index.json").read_text()) | (index or {})
    found |= {"_class_name": ["pipeline", "MVDreamPipeline"], "unet": ["mv_unet", "MultiViewUNetModel"]}
    (folder / "model_index.json").write_text(json.dumps(found))
    for path in (folder / "unet").iterdir():
        path.unlink()
    config = {"image_size": 32, **config, "_class_name": "MultiViewUNetModel", "in_channels": 4, "out_channels": 4}
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "unet" / "diffusion_pytorch_model.safetensors")
    return folder


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "sd15": sd15, "sd21": sd21, "mvdream": mvdream, "sdxl": sdxl, "if": deepfloyd, "sd3": sd3,
}  # fmt: skip
