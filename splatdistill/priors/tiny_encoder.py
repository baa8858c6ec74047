"""A tiny autoencoder in the place of a model's VAE: TAESD of diffusers, distilled to make the same latents."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError, safe_open
from torch import Tensor

from splatdistill.io.foreign import refuse_gaps
from splatdistill.priors.latent_space import LatentSpace
from splatdistill.priors.offload import release
from splatdistill.priors.resolve import ENCODER_WEIGHTS, ModelSource

TINY = "AutoencoderTiny"
_REPLACED = "AutoencoderKL"  # the VAE that these were made to imitate
_BROKEN = (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError)


class TinyLatentSpace(LatentSpace):
    """The latents of a frozen AutoencoderTiny, with the scale and shift of its own folder, not of the VAE's.

    Those are 1 and 0 for TAESD: what it makes is already scaled as the network wants it.
    """

    tiny = True

    def _encoded(self, images: Tensor) -> Tensor:
        return self.vae.encode(images, return_dict=False)[0]

    def save_memory(self) -> None:
        """From now on the backward repeats the forward. Not block by block: with its checkpoints on, diffusers leaves
        out the step from -1..1 to 0..1 that its encoder begins with.
        """
        self.recompute = True
        release()


@dataclass(frozen=True)
class TinyEncoder:
    """A folder that holds an AutoencoderTiny. config: of the folder."""

    source: ModelSource
    config: Mapping[str, Any]

    @classmethod
    def read(cls, source: ModelSource) -> TinyEncoder:
        """ValueError, one sentence, for a folder of something else."""
        path = source.path / "config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            kind = config.get("_class_name")
        except (OSError, ValueError, AttributeError) as error:
            raise ValueError(f"encoder: {path} cannot be read as the settings of an encoder.") from error
        if kind != TINY:
            raise ValueError(f"encoder: {source.path} holds {kind}, not {TINY}; take one that was made for the prior.")
        if not (source.path / ENCODER_WEIGHTS).is_file():
            raise ValueError(f"encoder: {source.path} is not whole: it has no {ENCODER_WEIGHTS}; download it again.")
        return cls(source, config)

    def check(self, vae: Mapping[str, Any] | None, *, prior: str) -> None:
        """ValueError, one sentence, where a prior with this VAE, None for none, cannot take its latents."""
        if vae is None:
            raise ValueError(
                f"encoder: {prior} has no VAE whose place an encoder could take: it denoises pixels; leave it out."
            )
        if (kind := vae.get("_class_name", _REPLACED)) != _REPLACED:
            raise ValueError(
                f"encoder: {self.source.path} can stand in for an {_REPLACED}, and {prior} has {kind}; leave it out."
            )
        where, channels = self.source.path, self.config.get("in_channels", 3)
        if channels != 3:
            raise ValueError(f"encoder: {where} reads pictures of {channels} channels, and ours have 3; take another.")
        found, wanted = self.config.get("latent_channels", 4), vae["latent_channels"]
        if found != wanted:
            raise ValueError(
                f"encoder: {where} makes latents of {found} channels, and {prior} denoises {wanted}; take the one that "
                "was made for this prior."
            )
        # Each stage but the first halves the sides.
        found = 2 ** (len(self.config.get("num_encoder_blocks", (1, 3, 3, 3))) - 1)
        wanted = 2 ** (len(vae["block_out_channels"]) - 1)
        if found != wanted:
            raise ValueError(
                f"encoder: {where} makes one latent of {found} x {found} pixels, and {prior} of {wanted} x {wanted}; "
                "take the one that was made for this prior."
            )

    def num_parameters(self) -> int:
        """Counted from the header of its file."""
        try:
            with safe_open(self.source.path / ENCODER_WEIGHTS, "pt") as file:
                return sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())
        except _BROKEN as error:
            raise self._broken(error) from error

    def load(self) -> AutoencoderTiny:
        """Frozen, fp32, on the CPU. ValueError, one sentence, for weights that do not fit."""
        diffusers_logging.disable_progress_bar()
        try:
            found: Any = AutoencoderTiny.from_pretrained(
                self.source.path,
                torch_dtype=torch.float32,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
            model, info = found
            refuse_gaps(info, model.state_dict())
        except Exception as error:  # a stranger's configuration can make the library raise anything
            raise self._broken(error) from error
        return model.eval().requires_grad_(False)

    def _broken(self, reason: object) -> ValueError:
        first = (str(reason).strip().splitlines() or [type(reason).__name__])[0].split(". ")[0].rstrip(".")
        return ValueError(f"encoder: {self.source.path} cannot be loaded: {first}.")
