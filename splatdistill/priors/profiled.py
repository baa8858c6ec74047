"""A prior that measures itself: the seconds and the evaluations of its network.

All that networks compute in a run passes here, so here their settings on CUDA are put into force.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from splatdistill.priors.base import Condition, Prior, VariationalScore
from splatdistill.scene.types import NoisyBatch
from splatdistill.utils.device import Stopwatch, for_networks


class ProfiledPrior:
    """A prior that adds up the seconds spent in its network, its encoder and the score of the renders, and the images
    that the two networks evaluated.
    """

    def __init__(self, prior: Prior, watch: Stopwatch) -> None:
        self.inner = prior
        self.stopwatch = watch
        self.alphas_cumprod, self.num_views = prior.alphas_cumprod, prior.num_views
        self.image_size, self.dtype, self.knows_cameras = prior.image_size, prior.dtype, prior.knows_cameras
        self.supports_single_view_cameras = prior.supports_single_view_cameras
        self.sees_alpha, self.origin = prior.sees_alpha, prior.origin
        self.begin, self.decode, self.embed = prior.begin, prior.decode, prior.embed

    @property
    def seconds(self) -> float:
        return self.stopwatch.seconds

    @property
    def network_engine(self) -> str:
        """A CUDA graph or compiled code may turn out not to be possible."""
        return self.inner.network_engine

    @contextmanager
    def running(self) -> Iterator[None]:
        """For what networks compute, backward included: timed, and with their settings."""
        with self.stopwatch.timed(), for_networks(self.stopwatch.device, dtype=self.dtype):
            yield

    def encode(self, rgb: Tensor) -> Tensor:
        with self.running():
            return self.inner.encode(rgb)

    def predict(self, xt: Tensor, t: Tensor, conditions: Sequence[Condition]) -> list[Tensor]:
        self.stopwatch.images += len(xt) * len(conditions)
        with self.running():
            return self.inner.predict(xt, t, conditions)


class ProfiledScore:
    """A score of the renders whose seconds and network evaluations are added to those of its prior."""

    def __init__(self, score: VariationalScore, prior: ProfiledPrior, *, particles: int) -> None:
        self._score = score
        self._prior = prior
        self._particles = particles
        self.state_dict, self.load_state_dict = score.state_dict, score.load_state_dict

    def predict(self, batch: NoisyBatch, with_camera: Sequence[bool]) -> list[Tensor]:
        self._prior.stopwatch.images += len(batch.xt) * len(with_camera)
        with self._prior.running():
            return self._score.predict(batch, with_camera)

    def update(self, batch: NoisyBatch, *, seed: int, step: int, measure: bool) -> dict[str, Tensor]:
        self._prior.stopwatch.images += len(batch.xt) // self._particles  # each particle shows one view in turn
        with self._prior.running():
            return self._score.update(batch, seed=seed, step=step, measure=measure)
