"""What VSD and ESD share: the guided score of the prior minus scores of the run's own renders."""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeVar

from torch import Tensor

from splatdistill.config.schema import VSDConfig
from splatdistill.guidance.base import AnnealedGuidance, assemble, evaluate
from splatdistill.guidance.schedules import weights
from splatdistill.priors.base import Prior, VariationalScore
from splatdistill.priors.scores import make_score
from splatdistill.scene.types import NoisyBatch, Residual

V = TypeVar("V", bound=VSDConfig)


class VariationalGuidance(AnnealedGuidance[V]):
    """Every view is scored on its own. The prior is conditioned on the camera of a view if it supports that of a
    single one, else on the side in words; the score of the renders on its camera.
    """

    score: VariationalScore
    conditioned_on_cameras: bool = False

    @property
    def particles(self) -> int:
        return self.config.particles

    @property
    def words(self) -> bool:
        return not (self.views.token and self.conditioned_on_cameras)

    def bind(self, prior: Prior) -> None:
        c = self.config
        self.conditioned_on_cameras = prior.supports_single_view_cameras
        self.score = make_score(
            prior,
            self.prompt,
            particles=c.particles,
            rank=c.lora_rank,
            lr=c.lora_lr,
            dropout=c.camera_dropout,
            seed=self.seed,
        )

    @abstractmethod
    def row(self) -> list[tuple[float, bool]]:
        """Coefficients of the second score, each with whether the score is conditioned on the cameras."""

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        s, cameras = self.config.guidance_scale, batch.cameras
        single_view = {"use_camera_embedding": self.views.token, "cross_view_attention": False}
        cond = prior.embed(self.view_dependent_prompts(cameras), cameras, **single_view)
        uncond = prior.embed(self.config.negative_prompt, cameras, **single_view)
        guided = evaluate(batch, prior, [(s, cond), (1.0 - s, uncond)])
        row = [(c, with_camera) for c, with_camera in self.row() if c != 0.0]
        second = self.score.predict(batch, [with_camera for _, with_camera in row])
        terms = [*guided, *((c, eps) for (c, _), eps in zip(row, second, strict=True))]
        return assemble(terms, weight=weights(self.config.weight, batch))

    def update(self, batch: NoisyBatch, *, seed: int, step: int, measure: bool) -> dict[str, Tensor]:
        return self.score.update(batch, seed=seed, step=step, measure=measure)

    def state_dict(self) -> dict[str, Tensor]:
        return self.score.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.score.load_state_dict(state)
