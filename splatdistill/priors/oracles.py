"""The variational score of VSD and ESD where it is no network: exact for the renders at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from splatdistill.scene.types import NoisyBatch


class ParticleScore:
    """The exact score of the renders at hand, noised. Views of particle 0 come first, then those of particle 1, ...

    With the camera: of all particles' renders from the same camera. Without: of all renders from all cameras.
    temperature: of the weights of the renders, 1 is exact.
    """

    def __init__(self, *, particles: int, temperature: float = 1.0) -> None:
        self.particles, self.temperature = particles, temperature

    @torch.no_grad()
    def predict(self, batch: NoisyBatch, with_camera: Sequence[bool]) -> list[Tensor]:
        """Epsilon at x_t, one tensor [V,C,h,w] for each entry of `with_camera`."""
        return [self._score(batch, given) for given in with_camera]

    def _score(self, batch: NoisyBatch, with_camera: bool) -> Tensor:
        """fp32 epsilon like x_t [V,C,h,w], of the mixture of all renders."""
        ranks, alpha, sigma = batch.ranks, batch.alpha.view(-1, 1), batch.sigma.view(-1, 1)
        renders = ranks.gather(batch.x0.detach().flatten(1))
        away = batch.xt.flatten(1)[:, None] - alpha[:, None] * renders  # [row, render, C h w]
        logits = -away.square().sum(2) / (2 * sigma**2 * self.temperature)
        if with_camera:
            views = len(batch.xt) // self.particles
            camera = ranks.rank * views + torch.arange(len(batch.xt), device=logits.device) % views
            logits = logits.masked_fill(camera[:, None] != ranks.gather(camera), -torch.inf)
        nearest = torch.softmax(logits, 1)
        return ((nearest[..., None] * away).sum(1) / sigma).view_as(batch.xt)

    def update(self, batch: NoisyBatch, *, seed: int, step: int, measure: bool) -> dict[str, Tensor]:
        """Nothing is learned: the score follows the renders."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        assert not state
