"""What a file or a folder is that is no diffusers model, by the names of files and weights; no weight is read."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from safetensors import SafetensorError, safe_open

from splatdistill.priors.resolve import INDEX, read_small

_MVDREAM = "model.diffusion_model.camera_embed."
_PICKLES = (".pt", ".ckpt", ".bin", ".pth")
_LORA = ("lora_", ".lora.", "lokr_", "hada_", "lora.down")
_INVERSION = ({"emb_params"}, {"clip_l", "clip_g"})
_NETWORKS = {
    "double_blocks.": "FLUX",
    "joint_blocks.": "Stable Diffusion 3",
    "cap_embedder.": "Lumina or Z-Image",
    "img_in.": "Qwen-Image or FLUX",
    "transformer_blocks.": "a diffusion transformer",
    "down_blocks.": "a UNet",
}
"""How names of weights begin in files that hold a network alone."""
_CONVERT = "python -c \"from diffusers import {pipeline} as P; P.from_single_file('{path}').save_pretrained('FOLDER')\""


def refuse_file(path: Path) -> None:
    """ValueError, one sentence, for a file that is not MVDream's checkpoint, if its names tell."""
    if path.suffix == ".gguf":
        raise ValueError(f"prior: {path} holds quantised weights (GGUF), and a prior needs a diffusers folder.")
    if path.suffix not in (*_PICKLES, ".safetensors"):
        raise ValueError(f"prior: {path} is no file of weights; a prior is a diffusers folder or MVDream's checkpoint.")
    if path.suffix == ".safetensors" and (reason := _about(_keys(path), path)):
        raise ValueError(f"prior: {path} {reason}.")


def is_lora(path: Path) -> bool:
    """Whether a file of safetensors holds a LoRA."""
    return _is_lora(_keys(path))


def is_inversion(path: Path) -> bool:
    """Whether a file of safetensors holds a textual inversion."""
    return set(_keys(path)) in _INVERSION


def refuse_folder(folder: Path) -> ValueError:
    """The sentence for a folder without model_index.json."""
    return ValueError(f"prior: {folder} {_about_folder(folder)}.")


def _about_folder(folder: Path) -> str:
    config = read_small(folder / "config.json")
    files = sorted(folder.glob("*.safetensors"))
    inside = sorted(path.parent for path in folder.glob(f"*/{INDEX}"))
    if (folder / "splats.ply").is_file():
        return "is the folder of a run, which has no prior in it; `splatdistill view` shows what it made"
    if (folder / "adapter_config.json").is_file() or (files and is_lora(files[0])):
        return "holds a LoRA, which changes a model; give it to --lora, and to --prior the model that it was made for"
    if name := config.get("_class_name"):
        above = (
            f"name the folder above it, {folder.parent}" if (folder.parent / INDEX).is_file() else "name a whole one"
        )
        return f"is one part of a model, its {name}; {above}"
    if config.get("architectures") or config.get("model_type"):
        kind = (config.get("architectures") or [config.get("model_type")])[0]
        return f"is a model of transformers, {kind}, which makes no pictures by diffusion"
    if inside:
        return f"has no {INDEX}, but {inside[0].name} in it has; name {inside[0]}"
    if files:
        reason = _about(_keys(files[0]), files[0]) or "is a file of weights"
        return f"has no {INDEX}; {files[0].name} in it {reason}"
    if not any(folder.iterdir()):
        return "is empty"
    return f"has neither splatdistill.json nor {INDEX}; name a diffusers model's folder"


def _about(keys: Collection[str], path: Path) -> str:
    """What weights of these names are, "" for MVDream's or none that is known here."""
    if any(key.startswith(_MVDREAM) for key in keys):
        return ""
    if _is_lora(keys):
        return "is a LoRA, which changes a model; give it to --lora, and to --prior the model that it was made for"
    if set(keys) in _INVERSION:
        return "is a textual inversion, a word for a prompt, which this version does not read"
    if any(key.startswith(("control_model.", "controlnet_")) for key in keys):
        return "is a ControlNet, which guides by pictures; a prior needs the text-to-image model"
    if any(key.startswith("model.diffusion_model.") for key in keys):
        xl = any(key.startswith("conditioner.embedders.1.") for key in keys)
        pipeline = "StableDiffusionXLPipeline" if xl else "StableDiffusionPipeline"
        convert = _CONVERT.format(pipeline=pipeline, path=path)
        return f"is a checkpoint in one file, and a prior needs a diffusers folder; `{convert}` writes one"
    if any(key.startswith("encoder.") for key in keys) and any(key.startswith("decoder.") for key in keys):
        return "is a VAE alone; a prior needs the whole model, a diffusers folder"
    for start, name in _NETWORKS.items():
        if any(key.startswith(start) for key in keys):
            return f"is a network alone, of {name}; a prior needs the whole model, a diffusers folder"
    return ""


def _is_lora(keys: Collection[str]) -> bool:
    return bool(keys) and any(part in key for key in keys for part in _LORA)


def _keys(path: Path) -> list[str]:
    try:
        with safe_open(path, "pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise ValueError(f"prior: {path} cannot be read as safetensors; download it again.") from error
