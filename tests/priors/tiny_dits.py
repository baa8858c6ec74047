"""Tiny random diffusion transformers of every family, saved by diffusers' own pipelines: the layout of the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.priors.families import saved, sd3, t5, vae

WIDTH = 16  # of the states of language models
SIDE = 16  # pixels that the tests have these see
WORDS = ["<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz "]


def words(*, chat: bool = False) -> Any:
    """Single letters and an end, padded on the right; with a template for chats if asked."""
    tokenizer = Tokenizer(models.Unigram([(word, -1.0) for word in WORDS], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    )
    if chat:
        fast.chat_template = "{% for m in messages %}user {{ m['content'] }} now {% endfor %}assistant"
    return fast


LANGUAGE: dict[str, Any] = {
    "vocab_size": len(WORDS), "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 2048, "pad_token_id": 0,
}  # fmt: skip


def qwen3(layers: int, *, causal: bool = False) -> Any:
    config = transformers.Qwen3Config(**LANGUAGE, num_hidden_layers=layers)
    return (transformers.Qwen3ForCausalLM if causal else transformers.Qwen3Model)(config).eval()


def gemma2() -> Any:
    return transformers.Gemma2Model(transformers.Gemma2Config(**LANGUAGE, num_hidden_layers=2)).eval()


def qwen_vl() -> Any:
    rope = {"rope_type": "default", "type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6}
    config = transformers.Qwen2_5_VLConfig(
        text_config=LANGUAGE | {"num_hidden_layers": 2, "rope_scaling": rope},
        vision_config={"depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 2, "out_hidden_size": WIDTH},
    )
    return transformers.Qwen2_5_VLForConditionalGeneration(config).eval()


def pixart(folder: Path) -> Path:
    network = diffusers.PixArtTransformer2DModel(
        sample_size=8, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4,
        out_channels=8, cross_attention_dim=16, caption_channels=24, use_additional_conditions=False,
    )  # fmt: skip
    pipeline = diffusers.PixArtSigmaPipeline(
        tokenizer=words(), text_encoder=t5(24)[0], vae=vae(scaling_factor=0.13025), transformer=network,
        scheduler=diffusers.DPMSolverMultistepScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear"),
    )  # fmt: skip
    return saved(pipeline, folder)


def z_image(folder: Path) -> Path:
    network = diffusers.ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=WIDTH,
        axes_dims=[8, 4, 4], axes_lens=[1024, 64, 64],
    )  # fmt: skip
    for token in (network.x_pad_token, network.cap_pad_token):  # zeros as made, and whatever else once trained
        drawn(token)
    pipeline = diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=6.0), vae=flux_vae(), text_encoder=qwen3(3),
        tokenizer=words(chat=True), transformer=network,
    )  # fmt: skip
    return saved(pipeline, folder)


def drawn(parameter: Any) -> None:
    parameter.data.normal_()


def flux_vae() -> Any:
    return vae(scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False)


def flux2(folder: Path) -> Path:
    network = diffusers.Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=3 * WIDTH, timestep_guidance_channels=32, axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=False,
    )  # fmt: skip
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    autoencoder = diffusers.AutoencoderKLFlux2(
        **kinds, block_out_channels=(8, 16), norm_num_groups=4, latent_channels=4, layers_per_block=1
    )
    drawn(autoencoder.bn.running_mean)
    autoencoder.bn.running_var.data.uniform_(0.5, 2)
    pipeline = diffusers.Flux2KleinPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True), vae=autoencoder,
        text_encoder=qwen3(28, causal=True), tokenizer=words(chat=True), transformer=network,
    )  # fmt: skip
    return saved(pipeline, folder)


def lumina2(folder: Path) -> Path:
    network = diffusers.Lumina2Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, hidden_size=32, num_layers=1, num_refiner_layers=1,
        num_attention_heads=4, num_kv_heads=2, multiple_of=16, axes_dim_rope=(4, 2, 2), axes_lens=(300, 64, 64),
        cap_feat_dim=WIDTH,
    )  # fmt: skip
    pipeline = diffusers.Lumina2Pipeline(
        transformer=network, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=6.0), vae=flux_vae(),
        text_encoder=gemma2(), tokenizer=words(),
    )  # fmt: skip
    return saved(pipeline, folder)


def qwen_image(folder: Path) -> Path:
    network = diffusers.QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=WIDTH, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    autoencoder = diffusers.AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 2.0, 0.5, 1.0],
    )  # fmt: skip
    shifts = {"base_shift": 0.5, "max_shift": 0.9, "base_image_seq_len": 256, "max_image_seq_len": 8192}
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
        shift=1.0, use_dynamic_shifting=True, shift_terminal=0.02, **shifts
    )
    pipeline = diffusers.QwenImagePipeline(
        scheduler=scheduler, vae=autoencoder, text_encoder=qwen_vl(), tokenizer=words(), transformer=network
    )
    return saved(pipeline, folder)


def sana(folder: Path) -> Path:
    network = diffusers.SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=4, num_layers=1,
        num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=WIDTH,
        sample_size=8, timestep_scale=0.5,
    )  # fmt: skip
    blocks: dict[str, Any] = {
        f"{half}_{name}": value
        for half in ("encoder", "decoder")
        for name, value in {
            "block_types": ("ResBlock", "EfficientViTBlock"), "block_out_channels": (8, 8),
            "layers_per_block": (1, 1), "qkv_multiscales": ((), (5,)),
        }.items()
    }  # fmt: skip
    autoencoder = diffusers.AutoencoderDC(latent_channels=4, attention_head_dim=2, scaling_factor=0.41407, **blocks)
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    pipeline = diffusers.SanaPipeline(
        tokenizer=words(), text_encoder=gemma2(), vae=autoencoder, transformer=network, scheduler=scheduler
    )
    return saved(pipeline, folder)


DITS: dict[str, Callable[[Path], Path]] = {
    "sd3": sd3, "pixart": pixart, "z-image": z_image, "flux2": flux2, "lumina2": lumina2, "qwen-image": qwen_image,
    "sana": sana,
}  # fmt: skip
