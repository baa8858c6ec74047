"""Pictures to what a diffusion model denoises, and back: the latents of a VAE, or the pixels themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from splatdistill.priors.offload import MicroBatches, release
from splatdistill.utils.memory import ran_out


class PixelSpace:
    """Images are denoised as they are, in -1..1."""

    def encode(self, images: Tensor) -> Tensor:
        return images

    def decode(self, x0: Tensor) -> Tensor:
        return x0


class LatentSpace:
    """The latents of a frozen VAE with the scale and shift of its folder. It runs in fp32, or as a whole in bf16, whose
    range holds what fp16 overflows on.
    """

    tiny = False

    @classmethod
    def channels(cls, config: Mapping[str, Any]) -> int:
        """Of the latents of a VAE with this configuration."""
        return config["latent_channels"]

    @classmethod
    def shrinks(cls, config: Mapping[str, Any]) -> int:
        """Pixels along one side of a latent."""
        return 2 ** (len(config["block_out_channels"]) - 1)

    def __init__(self, vae: nn.Module, *, dtype: str) -> None:
        """vae: one of diffusers' autoencoders."""
        self.vae: Any
        config: Any = vae.config
        device = next(vae.parameters()).device
        self.vae, self.bf16 = vae, dtype == "bf16"
        self.micro_batches = MicroBatches()
        self.recompute = False  # after memory ran out once: nothing is kept for the backward
        mean, std = config.get("latents_mean") or [0.0], config.get("latents_std") or [1.0]
        self._mean, self._std = (torch.tensor(x, device=device).view(1, -1, 1, 1) for x in (mean, std))
        self._mean = self._mean + (config.get("shift_factor") or 0.0)
        self._std = self._std / config.get("scaling_factor", 1.0)

    def encode(self, images: Tensor) -> Tensor:
        """[V,3,H,W] in -1..1 to [V,C,h,w], differentiable; in micro-batches when memory runs out, with the same
        gradient.
        """
        if images.requires_grad and torch.is_grad_enabled():
            return _Encode.apply(images, self)  # type: ignore[return-value]
        return self.micro_batches.run(lambda part: self.latents(images[part]), len(images))

    def latents(self, images: Tensor) -> Tensor:
        """As `LatentSpace.encode`, all at once."""
        return (self._encoded(self._as_read(images)).float() - self._mean) / self._std

    def _encoded(self, images: Tensor) -> Tensor:
        """The mean of the posterior: its spread vanishes beside the noise that is added."""
        return self.vae.encode(images, return_dict=False)[0].mode()

    @torch.no_grad()
    def decode(self, x0: Tensor) -> Tensor:
        """x0 [V,C,h,w] to pictures [V,3,H,W] in -1..1, without a gradient."""

        def pictures(part: slice) -> Tensor:
            return self._decoded(self._as_read(x0[part] * self._std + self._mean)).float()

        return self.micro_batches.run(pictures, len(x0))

    def _decoded(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents, return_dict=False)[0]

    def _as_read(self, x: Tensor) -> Tensor:
        return x.bfloat16() if self.bf16 else x

    def save_memory(self) -> None:
        """From now on the backward repeats the forward, block by block where its class can."""
        self.recompute = True
        if self.vae._supports_gradient_checkpointing:
            self.vae.enable_gradient_checkpointing()
        release()


class PatchedLatentSpace(LatentSpace):
    """FLUX.2: each 2 x 2 latents are one, normalised by the statistics of the VAE's batch norm."""

    def __init__(self, vae: nn.Module, *, dtype: str) -> None:
        super().__init__(vae, dtype=dtype)
        norm = self.vae.bn
        variance = norm.running_var.float() + self.vae.config["batch_norm_eps"]
        self._mean, self._std = (x.float().view(1, -1, 1, 1) for x in (norm.running_mean, variance.sqrt()))

    @classmethod
    def channels(cls, config: Mapping[str, Any]) -> int:
        return 4 * super().channels(config)

    @classmethod
    def shrinks(cls, config: Mapping[str, Any]) -> int:
        return 2 * super().shrinks(config)

    def _encoded(self, images: Tensor) -> Tensor:
        return F.pixel_unshuffle(super()._encoded(images), 2)

    def _decoded(self, latents: Tensor) -> Tensor:
        return super()._decoded(F.pixel_shuffle(latents, 2))


class FrameLatentSpace(LatentSpace):
    """Qwen-Image: its VAE is one of videos, and a picture is one frame."""

    @classmethod
    def channels(cls, config: Mapping[str, Any]) -> int:
        return config["z_dim"]

    @classmethod
    def shrinks(cls, config: Mapping[str, Any]) -> int:
        return 2 ** len(config["temperal_downsample"])

    def _encoded(self, images: Tensor) -> Tensor:
        return super()._encoded(images.unsqueeze(2)).squeeze(2)

    def _decoded(self, latents: Tensor) -> Tensor:
        return super()._decoded(latents.unsqueeze(2)).squeeze(2)


class CertainLatentSpace(LatentSpace):
    """SANA: its autoencoder answers with the latents themselves, not with a distribution."""

    @classmethod
    def shrinks(cls, config: Mapping[str, Any]) -> int:
        return 2 ** (len(config["encoder_block_out_channels"]) - 1)

    def _encoded(self, images: Tensor) -> Tensor:
        return self.vae.encode(images, return_dict=False)[0]


class _Encode(torch.autograd.Function):
    """`LatentSpace.latents` whose backward survives a lack of memory: it repeats the forward for fewer views."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, latent_space: LatentSpace) -> Tensor:
        """images [V,3,H,W] to x0 [V,C,h,w]."""
        ctx.latent_space, ctx.kept = latent_space, None
        ctx.save_for_backward(images)
        if not latent_space.recompute:
            try:
                ctx.kept = _kept(latent_space, images)
                return ctx.kept[1].detach()
            except (RuntimeError, MemoryError) as error:
                if not ran_out(error):
                    raise
            latent_space.save_memory()
        return latent_space.micro_batches.run(lambda part: latent_space.latents(images[part]), len(images))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The gradient of the images [V,3,H,W] from grad [V,C,h,w], that of x0."""
        latent_space: LatentSpace = ctx.latent_space
        (images,) = ctx.saved_tensors
        kept, ctx.kept = ctx.kept, None
        if kept is not None:
            try:
                return torch.autograd.grad(kept[1], kept[0], grad)[0], None
            except (RuntimeError, MemoryError) as error:
                if not ran_out(error):
                    raise
            kept = None
            latent_space.save_memory()

        def pulled(part: slice) -> Tensor:
            leaf, out = _kept(latent_space, images[part])
            return torch.autograd.grad(out, leaf, grad[part])[0]

        return latent_space.micro_batches.run(pulled, len(images)), None


def _kept(latent_space: LatentSpace, images: Tensor) -> tuple[Tensor, Tensor]:
    """A leaf and its latents, with the graph between them."""
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        return leaf, latent_space.latents(leaf)


KINDS: dict[str, type[LatentSpace]] = {
    "AutoencoderKL": LatentSpace,
    "AutoencoderKLFlux2": PatchedLatentSpace,
    "AutoencoderKLQwenImage": FrameLatentSpace,
    "AutoencoderDC": CertainLatentSpace,
}
"""By the class of the VAE."""


def kind_of(config: Mapping[str, Any]) -> type[LatentSpace]:
    """What a VAE with this configuration makes of pictures. ValueError, one sentence, for one that is not read."""
    name = config.get("_class_name", "AutoencoderKL")
    if name not in KINDS:
        raise ValueError(f"prior: its VAE is a {name}, and this version reads {', '.join(KINDS)}.")
    return KINDS[name]
