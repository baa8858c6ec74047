"""Rectified flows of diffusers folders, as Stable Diffusion 3: x = (1 - s) x0 + s eps; the network predicts eps - x0.

What guidance gets is epsilon, as from any prior. The flow's own residual v_cfg - (eps - x0) is
(eps_cfg - eps) / (1 - s): the weight "flow" of the methods.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor, nn

from splatdistill.priors.diffusion import (
    CodedPrior,
    make_codec,
    make_texts,
    native_side,
    origin_of,
    place,
    read_estimate,
    read_schedule,
)
from splatdistill.priors.find import Source
from splatdistill.priors.folder import Folder
from splatdistill.priors.network import pick_dtype
from splatdistill.priors.offload import must_offload
from splatdistill.priors.schedule import Schedule, alpha_sigma
from splatdistill.priors.text import read_three
from splatdistill.priors.tiny_encoder import TinyEncoder


class FlowPrior(CodedPrior):
    """A transformer that predicts the velocity of a straight path in the latents of a VAE."""

    def __init__(self, transformer: nn.Module, *, schedule: Schedule, **settings: Any) -> None:
        super().__init__(transformer, schedule=schedule, **settings)
        self._times = schedule.times.to(self.device)

    @classmethod
    def load(
        cls,
        source: Source,
        *,
        device: torch.device,
        dtype: str = "auto",
        max_memory: float = 0.0,
        tiny: TinyEncoder | None = None,
    ) -> FlowPrior:
        """From a diffusers folder; max_memory and tiny as in DiffusionPrior. ValueError, one sentence, if it cannot be
        used.
        """
        folder, dtype = Folder(source.path), pick_dtype(dtype, device=str(device))
        config, vae = folder.config("transformer"), folder.config("vae")
        if (kind := config.get("_class_name")) != "SD3Transformer2DModel":
            raise ValueError(
                f"prior: {folder.root} holds a {kind}; of the flows only Stable Diffusion 3 can be distilled, others "
                "have no guidance of their own or make films."
            )
        if config["in_channels"] != vae["latent_channels"]:
            raise ValueError(f"prior: the transformer of {folder.root} takes more than a picture: it edits pictures.")
        if folder.towers[:2] != ["text_encoder", "text_encoder_2"]:
            raise ValueError(f"prior: {folder.root} is not whole: Stable Diffusion 3 reads prompts with two encoders.")
        for tower in folder.towers:
            folder.check(tower)
        schedule, side = read_schedule(folder), native_side(folder, config, vae)
        if schedule.prediction != "flow":
            raise ValueError(f"prior: the scheduler in {folder.root} is not that of a flow.")
        need = read_estimate(folder, "transformer", vae, image_size=side, dtype=dtype, tiny=tiny)
        offload = must_offload(need, device=device, max_memory=max_memory, where=str(source.path))
        read = partial(read_three, width=config["joint_attention_dim"])
        return cls(
            place(folder.load("transformer", SD3Transformer2DModel), device=device, dtype=dtype, offload=offload),
            codec=make_codec(folder, device=device, dtype=dtype, tiny=tiny),
            texts=make_texts(folder, read, device=device, dtype=dtype),
            schedule=schedule,
            num_views=1,
            image_size=side,
            dtype=dtype,
            origin=origin_of(source, tiny),
            device=device,
            offloaded=offload,
        )

    @property
    def time_embedding(self) -> nn.Module:
        embed: Any = self.network.time_text_embed
        return embed.timestep_embedder

    def denoise(
        self,
        xt: Tensor,
        t: Tensor,
        *,
        text: Tensor,
        cameras: Tensor | None,
        pooled: Tensor | None = None,
        joint_rows: int = 0,
        run: Callable[..., Any] | None = None,
    ) -> Tensor:
        assert pooled is not None
        alpha, sigma = alpha_sigma(self.alphas_cumprod, t)
        out = (run or self.network)(
            self._as_read(xt / (alpha + sigma)),  # on the flow's own path
            encoder_hidden_states=self._as_read(text).expand(len(xt), -1, -1),
            pooled_projections=self._as_read(pooled).expand(len(xt), -1),
            timestep=self._times[t],
            return_dict=False,
        )[0]
        return out.float()
