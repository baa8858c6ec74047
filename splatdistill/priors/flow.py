"""Rectified flows of diffusers folders, as Stable Diffusion 3: x = (1 - s) x0 + s eps; the network predicts eps - x0.

What guidance gets is epsilon, as from any prior. The flow's own residual v_cfg - (eps - x0) is
(eps_cfg - eps) / (1 - s): the weight "flow" of the methods.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor, nn

from splatdistill.priors.diffusers_checkpoint import DiffusersCheckpoint
from splatdistill.priors.diffusion import LatentPrior
from splatdistill.priors.network import DenoiserInput
from splatdistill.priors.schedule import Schedule, alpha_sigma
from splatdistill.priors.text_encoders import EncodePrompts, encode_sd3


class FlowPrior(LatentPrior):
    """A transformer that predicts the velocity of a straight path in the latents of a VAE."""

    part = "transformer"

    def __init__(self, transformer: nn.Module, *, schedule: Schedule, **settings: Any) -> None:
        super().__init__(transformer, schedule=schedule, **settings)
        self._times = schedule.times.to(self.device)

    @classmethod
    def check_network(
        cls, folder: DiffusersCheckpoint, config: dict[str, Any], vae: dict[str, Any] | None
    ) -> EncodePrompts:
        if (kind := config.get("_class_name")) != "SD3Transformer2DModel":
            raise ValueError(
                f"prior: {folder.root} holds a {kind}; of the flows only Stable Diffusion 3 can be distilled, others "
                "have no guidance of their own or make videos."
            )
        if config["in_channels"] != (vae or folder.config("vae"))["latent_channels"]:
            raise ValueError(f"prior: the transformer of {folder.root} takes more than a picture: it edits pictures.")
        if folder.text_encoders[:2] != ["text_encoder", "text_encoder_2"]:
            raise ValueError(f"prior: {folder.root} is not whole: Stable Diffusion 3 reads prompts with two encoders.")
        return partial(encode_sd3, width=config["joint_attention_dim"])

    @classmethod
    def check_schedule(cls, folder: DiffusersCheckpoint, schedule: Schedule) -> None:
        if schedule.prediction != "flow":
            raise ValueError(f"prior: the scheduler in {folder.root} is not that of a flow.")

    @classmethod
    def load_network(cls, folder: DiffusersCheckpoint, config: dict[str, Any]) -> nn.Module:
        return folder.load("transformer", SD3Transformer2DModel)

    @property
    def time_embedding(self) -> nn.Module:
        embed: Any = self.network.time_text_embed
        return embed.timestep_embedder

    def denoise(self, inputs: DenoiserInput, *, run: Callable[..., Any] | None = None) -> Tensor:
        """As `NetworkPrior.denoise`."""
        xt, pooled = inputs.xt, inputs.pooled
        assert pooled is not None
        alpha, sigma = alpha_sigma(self.alphas_cumprod, inputs.t)
        out = (run or self.network)(
            self._as_read(xt / (alpha + sigma)),  # on the flow's own path
            encoder_hidden_states=self._as_read(inputs.text).expand(len(xt), -1, -1),
            pooled_projections=self._as_read(pooled).expand(len(xt), -1),
            timestep=self._times[inputs.t],
            return_dict=False,
        )[0]
        return out.float()
