"""What VSD and ESD share: the guided score of the prior minus scores of the run's own renders."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

from annotated_types import Ge
from tyro.conf import arg

from splatdistill.config.base import AnnealedConfig, FileOnly, Fraction, NonNegative
from splatdistill.guidance.base import AnnealedGuidance, assemble, evaluate
from splatdistill.guidance.schedules import weights

if TYPE_CHECKING:
    from torch import Tensor

    from splatdistill.priors.base import Prior, VariationalScore
    from splatdistill.scene.types import NoisyBatch, Residual


@dataclass(frozen=True)
class VariationalConfig(AnnealedConfig):
    """Settings of a method that learns the score of the run's own renders."""

    guidance_scale: NonNegative = 7.5
    """Classifier-free guidance in the diffusers form eps_u + s (eps_c - eps_u)."""
    particles: Annotated[int, Ge(1), arg(aliases=("--particles",))] = 1
    """Objects that are made at once and share the learned score; each is rendered in every step."""
    lora_rank: Annotated[int, Ge(1)] = 4
    """Rank of the adapters that turn the prior into the score of the renders."""
    lora_lr: NonNegative = 1e-4
    """Learning rate of the adapters and of their camera."""
    camera_dropout: FileOnly[Fraction] = 0.1
    """Chance of a render to come without its camera when the adapters learn, 0..1."""


V = TypeVar("V", bound=VariationalConfig)


class VariationalGuidance(AnnealedGuidance[V]):
    """Every view is scored on its own. The prior is conditioned on the camera of a view if it supports that of a
    single one, else on the side in words; the score of the renders on its camera.
    """

    single_view = True
    learned = frozenset({"particles", "lora_rank", "lora_lr", "camera_dropout"})
    score: VariationalScore

    @property
    def particles(self) -> int:
        return self.config.particles

    def bind(self, prior: Prior) -> None:
        from splatdistill.priors.scores import make_score

        super().bind(prior)
        c = self.config
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
        """Coefficients of the variational score, each with whether the score is conditioned on the cameras."""

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        s, cameras = self.config.guidance_scale, batch.cameras
        single_view = {"use_camera_embedding": self.views.camera_embedding, "cross_view_attention": False}
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
