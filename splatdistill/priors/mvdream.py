"""MVDream (Shi et al., arXiv 2308.16512) from its original checkpoint: every weight by its name there, or an error.

The file holds three networks under the names of the latent-diffusion code, and the noise levels. They become diffusers'
UNet2DConditionModel with a camera token, AutoencoderKL, and transformers' CLIPTextModel.
"""

from __future__ import annotations

import gzip
import html
import json
import re
import tempfile
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from splatdistill.priors.text_encoders import TextEncoder

NUM_VIEWS = 4  # that it was trained on
IMAGE_SIZE = 256  # pixels
STEP = 64  # what the sides of its pictures are multiples of: 8 pixels are a latent, and its UNet halves those thrice
HEAD = 64  # channels of an attention head, in all its networks
SCALE = 0.18215  # of its latents; it predicts epsilon
MERGES = Path(__file__).with_name("clip_merges.txt.gz")
_PREFIXES = {"unet": "model.diffusion_model.", "vae": "first_stage_model.", "text": "cond_stage_model.model."}
_LEVELS = (
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance",
    "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2",
)  # fmt: skip
_RESNET = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.0": "norm2",
    "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
}  # fmt: skip
_UNET = {
    "time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
    "camera_embed.0": "class_embedding.linear_1", "camera_embed.2": "class_embedding.linear_2",
    "input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out",
    "middle_block.0": "mid_block.resnets.0", "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
}  # fmt: skip
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_LAYER = {
    "ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}  # fmt: skip
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class MVDreamNetworks:
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    alphas_cumprod: Tensor


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a .pt or .ckpt file, from which nothing but tensors is taken."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ValueError(f"prior: {path} cannot be read: {reason}.") from error
    except Exception as error:  # torch names what it refused in many lines
        raise ValueError(
            f"prior: {path} holds more than tensors, or is cut, and is not opened, as that could run code."
        ) from error
    found = found.get("state_dict", found) if isinstance(found, dict) else {}
    if not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"prior: {path} holds no weights.")
    return found


def load(path: Path) -> MVDreamNetworks:
    """UNet and VAE in fp32, and the noise levels. ValueError, one sentence, names a weight that has no place."""
    state = _split(read(path), path)
    return MVDreamNetworks(make_unet(state["unet"]), make_vae(state["vae"]), state["levels"]["alphas_cumprod"].float())


def load_text_encoder(path: Path, *, device: torch.device) -> TextEncoder:
    """The text encoder inside the file, with the tokenizer that comes with us."""
    model: Any = make_text_encoder(_split(read(path), path)["text"])
    return TextEncoder(model.to(device), make_tokenizer())


def _split(state: State, path: Path) -> dict[str, dict[str, Tensor]]:
    """unet, vae, text and levels, each with its own names."""
    out: dict[str, dict[str, Tensor]] = {"unet": {}, "vae": {}, "text": {}, "levels": {}}
    for key, value in state.items():
        part = next((part for part, prefix in _PREFIXES.items() if key.startswith(prefix)), None)
        if part is None and key not in _LEVELS:
            raise ValueError(f"prior: {path} is no MVDream checkpoint: there is no place for its {key}.")
        out[part or "levels"][key.removeprefix(_PREFIXES[part]) if part else key] = value
    missing = [name for name, found in out.items() if not found]
    if missing or "alphas_cumprod" not in out["levels"]:
        raise ValueError(f"prior: {path} is no MVDream checkpoint: it has no {(missing or ['alphas_cumprod'])[0]}.")
    return out


def unet_name(name: str) -> str | None:
    """What diffusers calls a weight of the UNet; None when it has none."""
    for old, new in _UNET.items():
        if name.startswith(f"{old}."):
            return _inner(new + name.removeprefix(old))
    match = re.fullmatch(r"(input|output)_blocks\.(\d+)\.(\d)\.(.+)", name)
    if match is None:
        return None
    side, index, slot, rest = match[1], int(match[2]), int(match[3]), match[4]
    block, layer = divmod(index - 1 if side == "input" else index, 3)
    if side == "input" and layer == 2:
        return f"down_blocks.{block}.downsamplers.0.conv.{rest.removeprefix('op.')}" if slot == 0 else None
    if side == "output" and slot > 0 and rest.startswith("conv."):
        return f"up_blocks.{block}.upsamplers.0.{rest}"
    kind = ("resnets", "attentions")[slot] if slot < 2 else None
    return kind and _inner(f"{'down' if side == 'input' else 'up'}_blocks.{block}.{kind}.{layer}.{rest}")


def _inner(name: str) -> str:
    """A name whose block is diffusers' and whose layer inside a residual block may still be the old one."""
    head, found, rest = name.partition(".resnets.")
    if not found:
        return name
    number, _, layer = rest.partition(".")
    old, _, end = layer.rpartition(".")
    return f"{head}.resnets.{number}.{_RESNET.get(old, old)}.{end}"


def vae_name(name: str) -> str | None:
    """The same of the VAE."""
    name = name.replace("norm_out", "conv_norm_out").replace("nin_shortcut", "conv_shortcut")
    if match := re.fullmatch(r"(encoder|decoder)\.mid\.block_(\d)\.(.+)", name):
        return f"{match[1]}.mid_block.resnets.{int(match[2]) - 1}.{match[3]}"
    if match := re.fullmatch(r"(encoder|decoder)\.mid\.attn_1\.(\w+)\.(weight|bias)", name):
        return f"{match[1]}.mid_block.attentions.0.{_ATTENTION[match[2]]}.{match[3]}"
    if match := re.fullmatch(r"(encoder\.down|decoder\.up)\.(\d)\.(block|downsample|upsample)\.(.+)", name):
        block = int(match[2]) if match[1] == "encoder.down" else 3 - int(match[2])  # counted from the picture
        kind = {"block": "resnets.", "downsample": "downsamplers.0.", "upsample": "upsamplers.0."}[match[3]]
        return f"{match[1]}_blocks.{block}.{kind}{match[4]}"
    plain = r"(quant_conv|post_quant_conv|(encoder|decoder)\.(conv_in|conv_out|conv_norm_out))\.(weight|bias)"
    return name if re.fullmatch(plain, name) else None


def make_unet(state: State) -> UNet2DConditionModel:
    """From the weights under their original names."""
    return fill(empty_unet(state), renamed(state, unet_name))


def empty_unet(state: State) -> UNet2DConditionModel:
    """Without weights; the sizes are read from the shapes of those in `state`."""
    widths = [width(state, f"input_blocks.{i}.0.out_layers.3.weight") for i in (1, 4, 7, 10)]
    heads: Any = tuple(max(1, channels // HEAD) for channels in widths)
    with torch.device("meta"):
        return UNet2DConditionModel(
            sample_size=IMAGE_SIZE // 8,
            in_channels=width(state, "input_blocks.0.0.weight", side=1),
            out_channels=width(state, "out.2.weight"),
            block_out_channels=tuple(widths),
            cross_attention_dim=width(state, "middle_block.1.transformer_blocks.0.attn2.to_k.weight", side=1),
            attention_head_dim=heads,  # diffusers means their number
            use_linear_projection=True,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=width(state, "camera_embed.0.weight", side=1),
        )


def make_vae(state: State) -> AutoencoderKL:
    widths: Any = tuple(width(state, f"encoder.down.{i}.block.0.conv1.weight") for i in range(4))
    down: Any = ("DownEncoderBlock2D",) * 4
    up: Any = ("UpDecoderBlock2D",) * 4
    with torch.device("meta"):
        vae = AutoencoderKL(
            down_block_types=down,
            up_block_types=up,
            block_out_channels=widths,
            layers_per_block=2,
            latent_channels=width(state, "post_quant_conv.weight"),
            sample_size=IMAGE_SIZE,
            scaling_factor=SCALE,
        )
    found = renamed(state, vae_name)
    return fill(vae, {k: v[..., 0, 0] if ".attentions." in k and v.ndim == 4 else v for k, v in found.items()})


def make_text_encoder(state: State) -> CLIPTextModel:
    """All but the last layer: MVDream reads the state before it, through the final norm."""
    layers = 1 + max((int(k.split(".")[2]) for k in state if k.startswith("transformer.resblocks.")), default=0)
    hidden = width(state, "token_embedding.weight", side=1)
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        if key in ("text_projection", "logit_scale") or key.startswith(f"transformer.resblocks.{layers - 1}."):
            continue
        found |= _text_weights(key, value)
    config = CLIPTextConfig(
        vocab_size=width(state, "token_embedding.weight"),
        hidden_size=hidden,
        intermediate_size=width(state, "transformer.resblocks.0.mlp.c_fc.weight"),
        num_hidden_layers=layers - 1,
        num_attention_heads=max(1, hidden // HEAD),
        max_position_embeddings=width(state, "positional_embedding"),
        hidden_act="gelu",
    )
    model = CLIPTextModel(config)
    prefix = "text_model." if any(key.startswith("text_model.") for key in model.state_dict()) else ""
    return fill(model, {prefix + key: value for key, value in found.items()})


def _text_weights(key: str, value: Tensor) -> dict[str, Tensor]:
    """A weight of open_clip's text encoder, of any shape, under the names that transformers has for it or its parts."""
    whole = {"token_embedding": "embeddings.token_embedding", "ln_final": "final_layer_norm"}
    if key == "positional_embedding":
        return {"embeddings.position_embedding.weight": value}
    if (head := key.rpartition(".")[0]) in whole:
        return {key.replace(head, whole[head]): value}
    match = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)", key)
    if match and match[2] == "attn.in_proj":
        names = [f"encoder.layers.{match[1]}.self_attn.{x}_proj.{match[3]}" for x in "qkv"]
        return dict(zip(names, value.chunk(3), strict=True))
    if match and match[2] in _LAYER:
        return {f"encoder.layers.{match[1]}.{_LAYER[match[2]]}.{match[3]}": value}
    raise ValueError(f"prior: there is no place for {_PREFIXES['text']}{key} of the checkpoint.")


class OpenClipTokenizer:
    """Reads prompts as open_clip does, which MVDream was trained with. It pads with token 0: a mere "!" elsewhere."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self._tokenizer, self.model_max_length = tokenizer, tokenizer.model_max_length

    def __call__(self, prompts: Sequence[str], *, max_length: int, **_: Any) -> dict[str, Tensor]:
        """Tokens [P,max_length] of P prompts, and the mask that tells them from padding."""
        found = self._tokenizer(
            [clean(prompt) for prompt in prompts],
            padding="max_length",
            truncation=True,
            max_length=max_length,
            return_tensors="pt",
        )
        mask = found["attention_mask"]
        return {"input_ids": found["input_ids"] * mask, "attention_mask": mask}


def clean(text: str) -> str:
    """Text with entities of HTML spelt out, straight quotes, and letters as they are usually written: what open_clip
    asks ftfy for, but for mending text that was decoded wrongly.
    """
    plain = html.unescape(html.unescape(text))
    plain = re.sub("[\u201c-\u201f]", '"', re.sub("[\u02bc\u2018-\u201b]", "'", plain))
    plain = re.sub("[\ufb00-\ufb06\uff01-\uff60]", lambda found: unicodedata.normalize("NFKC", found[0]), plain)
    return unicodedata.normalize("NFC", plain)


def make_tokenizer() -> OpenClipTokenizer:
    """CLIP's byte-pair vocabulary, rebuilt from its merges."""
    merges = gzip.decompress(MERGES.read_bytes()).decode("utf-8").splitlines()
    letters = _byte_letters()
    words = [*letters, *(f"{x}</w>" for x in letters), *(merge.replace(" ", "") for merge in merges)]
    vocab = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    with tempfile.TemporaryDirectory() as folder:  # the one way in that all versions of transformers share
        (Path(folder) / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
        (Path(folder) / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
        return OpenClipTokenizer(CLIPTokenizer.from_pretrained(folder, model_max_length=77))


def _byte_letters() -> list[str]:
    """A printable character for each byte, in CLIP's order: printable ones stand for themselves, then the others."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


def renamed(state: State, rule: Callable[[str], str | None]) -> dict[str, Tensor]:
    """The weights under the names that `rule` gives them. ValueError, one sentence, for one that gets none."""
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        name = rule(key)
        if name is None:
            raise ValueError(f"prior: there is no place for {key} of the checkpoint.")
        out[name] = value
    return out


def fill(model: Any, state: State) -> Any:
    """`model` with these weights, all of them and no others."""
    try:
        model.load_state_dict({key: value.float().contiguous() for key, value in state.items()}, assign=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise ValueError(f"prior: the checkpoint does not fit: {' '.join(lines[1:2])[:200].rstrip('. ')}.") from error
    assert isinstance(model, nn.Module)
    return model.eval().requires_grad_(False)


def width(state: State, key: str, *, side: int = 0) -> int:
    """Of a weight along one of its sides. ValueError, one sentence, where it is missing."""
    if key not in state:
        raise ValueError(f"prior: the checkpoint is no MVDream: it has no {key}.")
    return int(state[key].shape[side])
