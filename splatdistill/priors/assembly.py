"""The parts of a diffusers folder that surround its network, each read on its own and put where it works."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import diffusers
import torch
from torch import nn

from splatdistill.priors.diffusers_checkpoint import DiffusersCheckpoint
from splatdistill.priors.latent_space import KINDS, LatentSpace, PixelSpace
from splatdistill.priors.offload import Estimate, estimate
from splatdistill.priors.resolve import ModelSource
from splatdistill.priors.schedule import Schedule
from splatdistill.priors.text_encoders import EncodePrompts, TextCache, TextEncoder, fingerprint
from splatdistill.priors.tiny_encoder import TINY, TinyEncoder, TinyLatentSpace
from splatdistill.priors.user_loras import UserLoRA, add_to_text_encoder


def read_schedule(folder: DiffusersCheckpoint, *, tokens: int) -> Schedule:
    """tokens: patches of a picture."""
    try:
        return Schedule.from_config(folder.scheduler(), tokens=tokens)
    except ValueError as error:
        raise ValueError(f"prior: {folder.root} cannot be used: {error}") from error
    except (NotImplementedError, TypeError) as error:
        raise ValueError(
            f"prior: the scheduler in {folder.root} has levels of noise that are not known here."
        ) from error


def square(folder: DiffusersCheckpoint, size: Any) -> int:
    """Side of the squares that a network was made for. ValueError, one sentence, for other shapes."""
    sides = set(size if isinstance(size, list | tuple) else [size])
    if len(sides) != 1 or not isinstance(side := sides.pop(), int):
        raise ValueError(f"prior: {folder.root} was made for pictures of {size}; only square ones are supported.")
    return side


def read_estimate(
    folder: DiffusersCheckpoint,
    network: str,
    vae: dict[str, Any] | None,
    *,
    image_size: int,
    dtype: str,
    tiny: TinyEncoder | None,
) -> Estimate:
    """What a folder needs with its part `network` and this VAE. ValueError, one sentence, for an encoder that does not
    fit.
    """
    kinds = {"network": folder.config(network).get("_class_name", "")}
    if tiny is None:
        weights, encoder = folder.num_parameters(network, "vae"), encoder_dtype(folder, dtype)
        kinds["vae"] = (vae or {}).get("_class_name", "AutoencoderKL")
        return estimate(weights, image_size=image_size, encoder=encoder, dtype=dtype, **kinds)
    tiny.check(vae, prior=str(folder.root))
    weights = folder.num_parameters(network) + tiny.num_parameters()
    return estimate(weights, image_size=image_size, encoder=dtype, dtype=dtype, vae=TINY, **kinds)


def make_latent_space(
    folder: DiffusersCheckpoint, *, device: torch.device, dtype: str, tiny: TinyEncoder | None = None
) -> LatentSpace | PixelSpace:
    if tiny:
        return TinyLatentSpace(place(tiny.load(), device=device, dtype=dtype), dtype=dtype)
    encoder = encoder_dtype(folder, dtype)
    if not encoder:
        return PixelSpace()
    name = folder.config("vae").get("_class_name", "AutoencoderKL")
    vae = folder.load("vae", getattr(diffusers, name))
    return KINDS[name](place(vae, device=device, dtype=encoder), dtype=encoder)


def encoder_dtype(folder: DiffusersCheckpoint, dtype: str) -> str:
    """The VAE's precision: that of the network, or fp32 where the folder asks for it; "" without a VAE."""
    if "vae" not in folder.parts:
        return ""
    return "fp32" if folder.config("vae").get("force_upcast") else dtype


def make_texts(
    folder: DiffusersCheckpoint,
    read: EncodePrompts,
    *,
    device: torch.device,
    dtype: str,
    loras: Sequence[UserLoRA] = (),
    network: Any = None,
    prefix: str = "",
) -> TextCache:
    """loras: for a network in the folder `prefix`, of which some have parts for text encoders too."""

    def load() -> dict[str, TextEncoder]:
        found = {part: folder.load_text_encoder(part, device=device, dtype=dtype) for part in folder.text_encoders}
        for part, encoder in found.items():
            add_to_text_encoder(
                loras, encoder.model, part=part, pipeline=folder.pipeline, network=network, prefix=prefix
            )
        return found

    return TextCache(
        load,
        read,
        key=folder.fingerprint(dtype, *loras, *(fingerprint([lora.source.path]) for lora in loras)),
        device=device,
        empty_is_zero=bool(folder.index.get("force_zeros_for_empty_prompt")),
    )


def place(model: nn.Module, *, device: torch.device, dtype: str, offload: bool = False) -> Any:
    """A frozen model in `dtype` on `device`, or in main memory with its layers sent there one by one."""
    if dtype == "bf16":
        model = model.bfloat16()  # as a whole: norms add up in fp32 inside, and nothing is converted on the way
    model = model.eval().requires_grad_(False)
    if not offload:
        volumes = any(parameter.dim() == 5 for parameter in model.parameters())  # of a VAE of videos
        layout = torch.preserve_format if volumes else torch.channels_last
        return model.to(device, memory_format=layout)  # type: ignore[call-overload]
    from diffusers.hooks.group_offloading import apply_group_offloading

    apply_group_offloading(model, onload_device=device, offload_type="leaf_level", use_stream=device.type == "cuda")
    return model


def origin_of(source: ModelSource, tiny: TinyEncoder | None, loras: Sequence[UserLoRA]) -> str:
    encoder = [f"encoder {tiny.source.origin}"] if tiny else []
    return ", ".join([source.origin, *encoder, *(f"lora {lora}" for lora in loras)])
