"""A step with a model of Stable Diffusion 1.5's exact size and random weights, for SDS and VSD: where the time goes.

Four views of 512 pixels, 50,000 splats. `outside_share` is what is neither network nor VAE: 0.15 at most is the aim.
With --device cpu the networks are tiny, and only the script is tried out.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import gpu_common
import gpu_step
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from splatdistill.config.presets import load
from splatdistill.config.schema import TrainConfig
from splatdistill.priors.assembly import place
from splatdistill.priors.diffusion import DiffusionPrior
from splatdistill.priors.latent_space import LatentSpace
from splatdistill.priors.network import Text
from splatdistill.priors.schedule import Schedule
from splatdistill.priors.text_encoders import TextCache
from splatdistill.training.trainer import Trainer

PROMPT = "a red lamp"
METHODS = ("sds", "vsd")
SECONDS = 10.0  # for each method
WARM_UP = 3


class NoText(TextCache):
    """Random token states in CLIP's shape."""

    def __init__(self, width: int, device: torch.device) -> None:
        self.text = Text(torch.randn(1, 77, width, generator=torch.Generator().manual_seed(0)).to(device))

    def get(self, prompt: str) -> Text:
        return self.text


def main() -> None:
    args = gpu_common.parser(__doc__).parse_args()
    device = gpu_common.require(args.device)
    tiny = device.type == "cpu"
    if tiny:
        torch.set_num_threads(1)
    record = gpu_common.record("diffusion", device, args.out, prompt=PROMPT, tiny=tiny, runs=[])
    for method in METHODS:
        config = settings(method, tiny=tiny)
        trainer = Trainer(config, prior=make_prior(device, tiny=tiny), device=device)
        steps = WARM_UP + (2 if tiny else 10 if args.quick else 60)
        found = gpu_step.measure(trainer, device, warm_up=WARM_UP, steps=steps, seconds=SECONDS)
        outside = round(1 - found["network_share"], 4)
        run = {"method": method, "outside_share": outside, **found, "config": asdict(config)}
        record.write(runs=[*record.found["runs"], run])
        del trainer
        if not tiny:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def settings(method: str, *, tiny: bool) -> TrainConfig:
    config = replace(load(method)[0], prompt=PROMPT, device="cpu" if tiny else "cuda", size=64 if tiny else 512)
    count = 500 if tiny else 50_000
    return replace(
        config,
        splats=replace(config.splats, num_init=count),
        densify=replace(config.densify, max_splats=2 * count),
    )


def make_prior(device: torch.device, *, tiny: bool) -> DiffusionPrior:
    """Random weights; the sizes are those of the folder stable-diffusion-v1-5 unless tiny."""
    unet, vae = networks(device, tiny=tiny)
    return prior_of(unet, vae, device=device, dtype="fp32" if tiny else "bf16")


def networks(device: torch.device, *, tiny: bool) -> tuple[UNet2DConditionModel, AutoencoderKL]:
    """UNet and VAE with random weights."""
    with torch.device(device):
        unet = UNet2DConditionModel(
            sample_size=8 if tiny else 64,
            cross_attention_dim=16 if tiny else 768,
            attention_head_dim=8,
            block_out_channels=(8, 8, 8, 8) if tiny else (320, 640, 1280, 1280),
            norm_num_groups=8 if tiny else 32,
        )
        sizes: Any = (4, 4, 4, 4) if tiny else (128, 256, 512, 512)
        down: Any = ("DownEncoderBlock2D",) * 4
        up: Any = ("UpDecoderBlock2D",) * 4
        vae = AutoencoderKL(
            down_block_types=down,
            up_block_types=up,
            block_out_channels=sizes,
            layers_per_block=2,
            latent_channels=4,
            norm_num_groups=4 if tiny else 32,
        )
    return unet, vae


def prior_of(unet: Any, vae: Any, *, device: torch.device, dtype: str) -> DiffusionPrior:
    levels = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return DiffusionPrior(
        place(unet, device=device, dtype=dtype),
        latent_space=LatentSpace(place(vae, device=device, dtype=dtype), dtype=dtype),
        texts=NoText(unet.config["cross_attention_dim"], device),
        schedule=Schedule.from_config(levels),
        num_views=1,
        image_size=8 * unet.config["sample_size"],
        dtype=dtype,
        origin="random weights",
    )


if __name__ == "__main__":
    main()
