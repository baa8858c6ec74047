"""What this version does not distil, in one sentence each: models of other kinds, and models that are distilled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from splatdistill.priors.diffusers_checkpoint import DiffusersCheckpoint

READ = (
    "Stable Diffusion 1, 2, XL and 3, DeepFloyd IF, MVDream, ImageDream, PixArt-Sigma, Z-Image, FLUX.2 klein, "
    "Lumina Image 2, Qwen-Image and SANA"
)
_KNOWN = {
    "FluxTransformer2DModel": "FLUX.1, whose guidance is distilled into the network",
    "ChromaTransformer2DModel": "Chroma",
    "HiDreamImageTransformer2DModel": "HiDream",
    "AuraFlowTransformer2DModel": "AuraFlow",
    "CogView4Transformer2DModel": "CogView 4",
    "HunyuanDiT2DModel": "Hunyuan-DiT",
    "WanTransformer3DModel": "Wan, which makes videos",
    "CogVideoXTransformer3DModel": "CogVideoX, which makes videos",
    "HunyuanVideoTransformer3DModel": "HunyuanVideo, which makes videos",
    "LTXVideoTransformer3DModel": "LTX-Video, which makes videos",
    "UNet3DConditionModel": "a UNet of videos",
    "UNetSpatioTemporalConditionModel": "Stable Video Diffusion, which makes videos",
}
"""By the class of the network: what people call it."""
_FEW_STEPS = ("LCMScheduler", "TCDScheduler", "SCMScheduler")
_WORDS = re.compile(
    r"(?<!de)(?<!de[-_])(?:\b|(?<=_))(turbo|lightning|lcm|schnell|sprint|hyper|dmd2?|distilled|flash)(?:\b|(?=_))"
)
_TURBO_SHIFT = 3.0  # of Z-Image-Turbo, whose folder differs from that of Z-Image, with 6, in nothing else


def about_unread(root: str, *, network: str, pipeline: str) -> str:
    """The sentence for a network or a pipeline, by their classes, that this version does not read."""
    known = f" ({_KNOWN[network]})" if network in _KNOWN else ""
    return f"prior: {root} holds {network}{known} for {pipeline}, which this version does not read; it reads {READ}."


def refuse_distilled(folder: DiffusersCheckpoint, config: Mapping[str, Any], *, origin: str) -> None:
    """ValueError, one sentence, for a model made to need few steps or no guidance. config: of its network."""
    if reason := _why(folder, config, origin):
        raise ValueError(
            f"prior: {origin} is distilled: {reason}; score distillation compares answers with and without a prompt, "
            "so take the model that it was distilled from."
        )


def _why(folder: DiffusersCheckpoint, config: Mapping[str, Any], origin: str) -> str:
    """In a few words, or "" where nothing says so."""
    if folder.index.get("is_distilled"):
        return "its model_index.json says is_distilled"
    if name := next((name for name in ("guidance_embeds", "time_cond_proj_dim") if config.get(name)), ""):
        return f"its network takes the guidance scale as an input ({name})"
    scheduler = folder.scheduler()
    if (kind := scheduler.get("_class_name")) in _FEW_STEPS:
        return f"its scheduler is {kind}, for pictures in a few steps"
    if config.get("_class_name") == "ZImageTransformer2DModel" and scheduler.get("shift") == _TURBO_SHIFT:
        return f"its scheduler has the shift of Z-Image-Turbo, {_TURBO_SHIFT:g}, where that of Z-Image has 6"
    for name in _names(origin, config):
        if word := _WORDS.search(name.lower()):
            return f"{word[1]!r} in its name {name!r} says so (rename the folder if that is wrong)"
    return ""


def _names(origin: str, config: Mapping[str, Any]) -> list[str]:
    """What the model is called: its id on the hub, or its folder."""
    path = Path(origin.split("@")[0])
    cached = [part.split("--")[-1] for part in path.parts if part.startswith("models--")]
    before = str(config.get("_name_or_path") or "")
    return [*(cached or [path.name]), Path(before).name]
