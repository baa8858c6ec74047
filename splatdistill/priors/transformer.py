"""Diffusion transformers of diffusers folders, one class for all: what sets each apart is a row of `dits.DITS`.

Most are rectified flows: x = (1 - s) x0 + s eps, and the network predicts eps - x0 or its negative. What guidance gets
is epsilon, as from any prior. The flow's own residual v_cfg - (eps - x0) is (eps_cfg - eps) / (1 - s): the weight
"flow" of the methods.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
from torch import Tensor, nn

from splatdistill.priors.diffusers_checkpoint import DiffusersCheckpoint
from splatdistill.priors.diffusion import LatentPrior
from splatdistill.priors.dits import DITS, DiT, Question
from splatdistill.priors.latent_space import kind_of
from splatdistill.priors.network import DenoiserInput
from splatdistill.priors.schedule import Schedule, alpha_sigma
from splatdistill.priors.text_encoders import EncodePrompts
from splatdistill.priors.unread import about_unread


class TransformerPrior(LatentPrior):
    """A transformer that predicts a velocity or the noise in the latents of a VAE."""

    part = "transformer"

    def __init__(self, transformer: nn.Module, *, schedule: Schedule, **settings: Any) -> None:
        super().__init__(transformer, schedule=schedule, **settings)
        self.kind: DiT = DITS[type(transformer).__name__]
        self.ragged = self.kind.ragged
        self._times = schedule.times.to(self.device)

    @classmethod
    def check_network(
        cls, folder: DiffusersCheckpoint, config: dict[str, Any], vae: dict[str, Any] | None
    ) -> EncodePrompts:
        kind = find(folder, config)
        vae = vae or folder.config("vae")
        if kind.channels(config) != kind_of(vae).channels(vae):
            raise ValueError(f"prior: the transformer of {folder.root} takes more than a picture: it edits pictures.")
        if missing := [name for name in kind.encoders if name not in folder.text_encoders]:
            raise ValueError(f"prior: {folder.root} is not whole: {kind.what} reads prompts with its {missing[0]}.")
        return partial(kind.read, config=config)

    @classmethod
    def check_schedule(cls, folder: DiffusersCheckpoint, schedule: Schedule) -> None:
        kind = find(folder, folder.config(cls.part))
        if (schedule.prediction == "flow") != kind.flow:
            wanted = "that of a flow" if kind.flow else "that of a network which predicts noise"
            raise ValueError(f"prior: the scheduler in {folder.root} is not {wanted}, as {kind.what} has it.")

    @classmethod
    def load_network(cls, folder: DiffusersCheckpoint, config: dict[str, Any]) -> nn.Module:
        return folder.load("transformer", getattr(diffusers, config["_class_name"]))

    @classmethod
    def native_latents(cls, config: dict[str, Any]) -> Any:
        return config.get("sample_size") or DITS[config["_class_name"]].side

    @classmethod
    def patch_of(cls, config: dict[str, Any]) -> int:
        return DITS[config["_class_name"]].patch(config)

    @property
    def time_embedding(self) -> nn.Module:
        return self.kind.time_embedding(self.network)

    def denoise(self, inputs: DenoiserInput, *, run: Callable[..., Any] | None = None) -> Tensor:
        """As `NetworkPrior.denoise`."""
        xt, rows = inputs.xt, len(inputs.xt)
        if self.kind.flow:
            alpha, sigma = alpha_sigma(self.alphas_cumprod, inputs.t)
            xt = xt / (alpha + sigma)  # on the flow's own path
        question = Question(
            self._as_read(xt),
            self.kind.time(self._times[inputs.t]),
            self._as_read(inputs.text).expand(rows, -1, -1),
            lengths=inputs.lengths if len(inputs.lengths) == rows else inputs.lengths * rows,
            pooled=None if inputs.pooled is None else self._as_read(inputs.pooled).expand(rows, -1),
            config=self.network.config,  # type: ignore[union-attr]
        )
        return self.kind.sign * self.kind.ask(run or self.network, question).float()


def find(folder: DiffusersCheckpoint, config: dict[str, Any]) -> DiT:
    """The row of the transformer in a folder. ValueError, one sentence, for one that is not read or not installed."""
    name = str(config.get("_class_name"))
    kind = DITS.get(name)
    if kind is None or folder.pipeline != kind.pipeline:
        raise ValueError(about_unread(str(folder.root), network=name, pipeline=folder.pipeline))
    if not hasattr(diffusers, name) or not hasattr(diffusers, kind.pipeline):
        raise ValueError(
            f"prior: {folder.root} holds {kind.what}, which diffusers {diffusers.__version__} does not have; "
            "`pip install -U diffusers` brings a newer one."
        )
    return kind
