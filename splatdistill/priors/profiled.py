"""A prior that measures itself: the seconds of its network and the pictures that went through it.

All that networks compute in a run passes here, so here their settings on CUDA are put into force.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from splatdistill.priors.base import Condition, Prior, Variational
from splatdistill.scene.types import NoisyBatch
from splatdistill.utils.device import Stopwatch, for_networks


class TimedPrior:
    """A prior that adds up the seconds spent in its network, its encoder and the second score, and the pictures that
    went forward through the two networks.
    """

    def __init__(self, prior: Prior, watch: Stopwatch) -> None:
        self._prior = prior
        self.watch = watch
        self.alphas_cumprod, self.num_views = prior.alphas_cumprod, prior.num_views
        self.image_size, self.dtype, self.knows_cameras = prior.image_size, prior.dtype, prior.knows_cameras
        self.lone_cameras, self.sees_alpha, self.origin = prior.lone_cameras, prior.sees_alpha, prior.origin
        self.begin, self.decode, self.embed = prior.begin, prior.decode, prior.embed

    @property
    def seconds(self) -> float:
        return self.watch.seconds

    @property
    def network_engine(self) -> str:
        """A CUDA graph or compiled code may turn out not to be possible."""
        return self._prior.network_engine

    @contextmanager
    def running(self) -> Iterator[None]:
        """For what networks compute, backward included: timed, and with their settings."""
        with self.watch.timed(), for_networks(self.watch.device, dtype=self.dtype):
            yield

    def encode(self, rgb: Tensor) -> Tensor:
        with self.running():
            return self._prior.encode(rgb)

    def predict(self, xt: Tensor, t: Tensor, conditions: Sequence[Condition]) -> list[Tensor]:
        self.watch.pictures += len(xt) * len(conditions)
        with self.running():
            return self._prior.predict(xt, t, conditions)

    def variational(
        self, prompt: str, *, particles: int, rank: int, lr: float, dropout: float, seed: int
    ) -> Variational:
        score = self._prior.variational(prompt, particles=particles, rank=rank, lr=lr, dropout=dropout, seed=seed)
        return TimedScore(score, self, particles=particles)


class TimedScore:
    """A second score whose seconds and pictures are added to those of its prior."""

    def __init__(self, score: Variational, prior: TimedPrior, *, particles: int) -> None:
        self._score = score
        self._prior = prior
        self._particles = particles
        self.state_dict, self.load_state_dict = score.state_dict, score.load_state_dict

    def predict(self, batch: NoisyBatch, told: Sequence[bool]) -> list[Tensor]:
        self._prior.watch.pictures += len(batch.xt) * len(told)
        with self._prior.running():
            return self._score.predict(batch, told)

    def update(self, batch: NoisyBatch, *, seed: int, step: int, measure: bool) -> dict[str, Tensor]:
        self._prior.watch.pictures += len(batch.xt) // self._particles  # each particle shows one view in turn
        with self._prior.running():
            return self._score.update(batch, seed=seed, step=step, measure=measure)
