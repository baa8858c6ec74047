"""Diffusion models of diffusers folders: Stable Diffusion 1, 2 and XL, DeepFloyd IF, MVDream; nothing is assumed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor, nn

from splatdistill.priors import mvdream
from splatdistill.priors.assembly import (
    make_latent_space,
    make_texts,
    origin_of,
    place,
    read_estimate,
    read_schedule,
    square,
)
from splatdistill.priors.diffusers_checkpoint import DiffusersCheckpoint
from splatdistill.priors.latent_space import LatentSpace, PixelSpace, kind_of
from splatdistill.priors.network import NetworkPrior, Text, UNetPrior, pick_dtype, resize
from splatdistill.priors.offload import estimate, must_offload
from splatdistill.priors.resolve import ModelSource
from splatdistill.priors.schedule import Schedule
from splatdistill.priors.text_encoders import EncodePrompts, TextCache, encode_clip, encode_sdxl, encode_t5, fingerprint
from splatdistill.priors.tiny_encoder import TINY, TinyEncoder, TinyLatentSpace
from splatdistill.priors.unet_numbers import check_numbers
from splatdistill.priors.unread import about_unread, refuse_distilled
from splatdistill.priors.user_loras import UserLoRA, add

_STAGES = 4  # of a UNet in the original names, which says nothing of them


class LatentPrior(NetworkPrior):
    """A network on the latents of a VAE, or on pixels, which takes the embeddings of its prompts from a cache."""

    part = ""
    """Folder of the network."""

    def __init__(
        self, network: nn.Module, *, latent_space: LatentSpace | PixelSpace, texts: TextCache, **settings: Any
    ) -> None:
        super().__init__(network, **settings)
        self.latent_space, self.texts = latent_space, texts

    @classmethod
    def load(
        cls,
        source: ModelSource,
        *,
        device: torch.device,
        dtype: str = "auto",
        max_memory: float = 0.0,
        tiny: TinyEncoder | None = None,
        image_size: int = 0,
        loras: Sequence[UserLoRA] = (),
    ) -> Self:
        """From a diffusers folder. max_memory: GB that the model may take, 0 for all. tiny: what encodes in place of
        the VAE. image_size: side in pixels of the pictures that it is to see, 0 for the one it was made for. loras:
        what is added to its weights.

        ValueError, one sentence, for a folder that is not whole or holds another kind of model.
        """
        folder = DiffusersCheckpoint(source.path)
        dtype = pick_dtype(dtype, device=str(device))
        config = folder.config(cls.part)
        refuse_distilled(folder, config, origin=source.origin)
        vae = folder.config("vae") if "vae" in folder.parts else None
        encode = cls.check_network(folder, config, vae)
        for name in folder.text_encoders:
            folder.check(name)
        native, side, tokens = cls.sides(folder, config, vae, image_size)
        schedule = read_schedule(folder, tokens=tokens)
        cls.check_schedule(folder, schedule)
        need = read_estimate(folder, cls.part, vae, image_size=side, dtype=dtype, tiny=tiny)
        offload = must_offload(need, device=device, max_memory=max_memory, where=str(source.path))
        network: Any = cls.load_network(folder, config)
        add(loras, network, pipeline=folder.pipeline, prefix=cls.part)
        texts = make_texts(folder, encode, device=device, dtype=dtype, loras=loras, network=network, prefix=cls.part)
        network = place(network, device=device, dtype=dtype, offload=offload)
        return cls(
            network,
            latent_space=make_latent_space(folder, device=device, dtype=dtype, tiny=tiny),
            texts=texts,
            schedule=schedule,
            num_views=cls.views_of(network),
            image_size=side,
            native_size=native,
            dtype=dtype,
            origin=origin_of(source, tiny, loras),
            device=device,
            offloaded=offload,
        )

    @classmethod
    def sides(
        cls, folder: DiffusersCheckpoint, config: dict[str, Any], vae: dict[str, Any] | None, image_size: int
    ) -> tuple[int, int, int]:
        """The side in pixels that a network was made for, the one that it is to see, and how many patches that has.
        image_size: 0 for the former. ValueError, one sentence, for a side that it cannot see.
        """
        pixels = kind_of(vae).shrinks(vae) if vae else 1
        native = square(folder, cls.native_latents(config)) * pixels
        step = cls.patch_of(config) * pixels
        side = image_size or native
        if side % step:
            raise ValueError(
                f"prior_size: the side of pictures for {folder.root} must be a multiple of {step} pixels, and {side} "
                "is not."
            )
        return native, side, (side // step) ** 2

    @classmethod
    def native_latents(cls, config: dict[str, Any]) -> Any:
        """Side of the latents, or pixels, that a network was made for, as its configuration has it."""
        return config.get("sample_size", config.get("image_size"))

    @classmethod
    @abstractmethod
    def patch_of(cls, config: dict[str, Any]) -> int:
        """What the side of its latents must be a multiple of."""

    @classmethod
    @abstractmethod
    def check_network(
        cls, folder: DiffusersCheckpoint, config: dict[str, Any], vae: dict[str, Any] | None
    ) -> EncodePrompts:
        """How the prompts of this model are encoded. config, vae: of the network and of the VAE, None for none.
        ValueError, one sentence, for another kind of model.
        """

    @classmethod
    def check_schedule(cls, folder: DiffusersCheckpoint, schedule: Schedule) -> None:
        """ValueError, one sentence, for a schedule of another kind of model."""

    @classmethod
    @abstractmethod
    def load_network(cls, folder: DiffusersCheckpoint, config: dict[str, Any]) -> nn.Module:
        """The network of a folder that was checked, in fp32 on the CPU."""

    @classmethod
    def views_of(cls, network: nn.Module) -> int:
        """How many views of an object the network denoises jointly."""
        return 1

    def encode(self, rgb: Tensor) -> Tensor:
        return self.latent_space.encode(resize(rgb, self.image_size).permute(0, 3, 1, 2) * 2 - 1)

    def decode(self, x0: Tensor) -> Tensor:
        return (self.latent_space.decode(x0) * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)

    def _encode(self, prompt: str) -> Text:
        return self.texts.get(prompt)


class DiffusionPrior(LatentPrior, UNetPrior):
    """A UNet that predicts epsilon, v or x0 in the latents of a VAE or in pixels."""

    part = "unet"

    @classmethod
    def check_network(
        cls, folder: DiffusersCheckpoint, config: dict[str, Any], vae: dict[str, Any] | None
    ) -> EncodePrompts:
        return check_unet(folder, config, channels=kind_of(vae).channels(vae) if vae else 3)

    @classmethod
    def patch_of(cls, config: dict[str, Any]) -> int:
        return 2 ** (len(config.get("block_out_channels", range(_STAGES))) - 1)

    @classmethod
    def load_network(cls, folder: DiffusersCheckpoint, config: dict[str, Any]) -> nn.Module:
        if config["_class_name"] == "UNet2DConditionModel":
            return folder.load("unet", UNet2DConditionModel)
        # As ashawkey has MVDream: its own class, whose code is not run, around the original names.
        return mvdream.make_unet({k: v for path in folder.check("unet") for k, v in load_file(path).items()})

    @classmethod
    def views_of(cls, network: Any) -> int:
        return mvdream.NUM_VIEWS if network.config["class_embed_type"] == "projection" else 1

    @classmethod
    def load_mvdream(
        cls,
        source: ModelSource,
        *,
        device: torch.device,
        dtype: str = "auto",
        max_memory: float = 0.0,
        tiny: TinyEncoder | None = None,
        image_size: int = 0,
        loras: Sequence[UserLoRA] = (),
    ) -> DiffusionPrior:
        """From MVDream's original checkpoint, a file."""
        if image_size % mvdream.STEP:
            raise ValueError(f"prior_size: MVDream takes pictures whose side is a multiple of {mvdream.STEP} pixels.")
        side = image_size or mvdream.IMAGE_SIZE
        dtype = pick_dtype(dtype, device=str(device))
        parts = mvdream.load(source.path)
        add(loras, parts.unet, pipeline="StableDiffusionPipeline", prefix="unet")
        if tiny:
            tiny.check(parts.vae.config, prior=str(source.path))
        encoder = tiny.load() if tiny else parts.vae
        weights = sum(p.numel() for part in (parts.unet, encoder) for p in part.parameters())
        kind = {"vae": TINY} if tiny else {}
        need = estimate(weights, image_size=side, encoder=dtype, dtype=dtype, **kind)
        offload = must_offload(need, device=device, max_memory=max_memory, where=str(source.path))
        texts = TextCache(
            lambda: {"text_encoder": mvdream.load_text_encoder(source.path, device=device)},
            encode_clip,
            key=fingerprint([source.path], "open_clip"),
            device=device,
        )
        kind = TinyLatentSpace if tiny else LatentSpace
        return cls(
            place(parts.unet, device=device, dtype=dtype, offload=offload),
            latent_space=kind(place(encoder, device=device, dtype=dtype), dtype=dtype),
            texts=texts,
            schedule=Schedule.of(parts.alphas_cumprod),
            num_views=mvdream.NUM_VIEWS,
            image_size=side,
            native_size=mvdream.IMAGE_SIZE,
            dtype=dtype,
            origin=origin_of(source, tiny, loras),
            device=device,
            offloaded=offload,
        )


def check_unet(folder: DiffusersCheckpoint, config: dict[str, Any], *, channels: int) -> EncodePrompts:
    """How the prompts of this model are read. ValueError, one sentence, when its UNet is not asked with a noisy picture
    of `channels` and a text alone.
    """
    kind = config.get("_class_name")
    if kind == "MultiViewUNetModel":
        return encode_clip
    if kind != "UNet2DConditionModel":
        raise ValueError(about_unread(str(folder.root), network=str(kind), pipeline=folder.pipeline))
    if config["in_channels"] != channels:
        raise ValueError(
            f"prior: the UNet of {folder.root} takes {config['in_channels']} channels where a picture has {channels}: "
            "it upscales, fills in or edits pictures; take the text-to-image model."
        )
    check_numbers(folder, config)
    labels, extra = config.get("class_embed_type"), config.get("addition_embed_type")
    camera = labels == "projection" and config.get("projection_class_embeddings_input_dim") == 16
    if config.get("num_class_embeds") or (labels is not None and not camera):
        raise ValueError(f"prior: the UNet of {folder.root} wants a noise level or a class: it upscales pictures.")
    text_encoders = [folder.parts[name] for name in folder.text_encoders]
    if extra == "text_time" and text_encoders == ["CLIPTextModel", "CLIPTextModelWithProjection"]:
        return encode_sdxl
    if extra == "text" and text_encoders == ["T5EncoderModel"]:
        return encode_t5
    if extra is None and text_encoders == ["CLIPTextModel"]:
        return encode_clip
    named = ", ".join(folder.text_encoders) or "no text encoder"
    raise ValueError(f"prior: {folder.root} has {named}, which is no model known here; a refiner cannot be used.")
