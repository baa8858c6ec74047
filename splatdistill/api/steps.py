"""A training in memory, one step at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from splatdistill.api.choices import Config, loader, warn_of
from splatdistill.api.splats import Image, Splats
from splatdistill.training.run import prepare
from splatdistill.training.run_log import MemoryLog
from splatdistill.training.trainer import Trainer as Engine
from splatdistill.utils.process_state import num_threads

if TYPE_CHECKING:
    from splatdistill.priors.base import Prior


@dataclass(frozen=True)
class Step:
    """A step that is done, for a callback or a loop.

    number: steps done, from 1. total: steps of the run. numbers: what this step logged, for example grad_norm and
    num_splats; empty for steps between two log lines. num_splats: Gaussians of all objects. images [V,H,W,3] in 0..1,
    grad_norm and splats are read when they are asked for.

    Raises: nothing. Source: the four parts of a step are in `splatdistill/training/step.py`.

    Example:
        >>> import splatdistill
        >>> config = splatdistill.configure("a red ball", prior="analytic", steps=2, size=16)
        >>> [step.images.shape for step in splatdistill.Trainer(config)]
        [(4, 16, 16, 3), (4, 16, 16, 3)]
    """

    number: int
    total: int
    numbers: Mapping[str, float]
    num_splats: int
    _engine: Engine = field(repr=False)

    @property
    def images(self) -> Image:
        """[V,H,W,3] in 0..1: what the prior saw of the first object in the newest step."""
        seen = self._engine.observed
        assert seen is not None
        return cast(Image, seen.images[0][..., :3].clamp(0, 1).cpu().numpy())

    @property
    def grad_norm(self) -> float:
        """Mean over the views of the norm of dL/dx0, the distillation gradient in the prior's space. Score distillation
        has no loss of which the value means anything; this is what falls. On CUDA, reading it waits for the step.
        """
        seen = self._engine.observed
        assert seen is not None
        return float(seen.norms.mean())

    @property
    def splats(self) -> Splats:
        """A copy of the first object as it is now."""
        return Splats.of(self._engine.splats, self._engine.config.camera)


class Trainer:
    """A training in memory: iterate over it, or call `step()`. It writes no file and handles no signal.

    config: of `configure`. prior: a loaded one in the place of the one that config names. The threads of `config` are
    in force during a step alone. `splats` is a copy of the object, `log` what was measured so far. A `Step` has the
    renders [V,H,W,3] in 0..1 and the norm of the gradient.

    Raises: ValueError, one sentence, for settings and words that the prior cannot take; RunFailure when too many steps
    had numbers that are not finite.
    Source: DreamFusion (arXiv 2209.14988), algorithm of section 3; the methods are those of `list_methods()`.

    Example:
        >>> import splatdistill
        >>> trainer = splatdistill.Trainer(splatdistill.configure("a red ball", prior="analytic", steps=3, size=16))
        >>> [step.number for step in trainer], len(trainer.splats)
        ([1, 2, 3], 5500)
    """

    def __init__(self, config: Config, *, prior: Prior | None = None) -> None:
        warn_of(config, stacklevel=2)
        self.config = config
        self.log = MemoryLog()
        with num_threads(config.threads):
            self._engine, _ = prepare(config, load=loader(prior))

    def step(self) -> Step:
        """One optimisation step. ValueError after the last one: learning rates are made for so many."""
        engine = self._engine
        if engine.step >= self.config.steps:
            raise ValueError(f"step: all {self.config.steps} steps are done; configure more of them.")
        with num_threads(self.config.threads):
            numbers = engine.advance(self.log)
        if failure := engine.nonfinite.verdict(numbers, step=engine.step):
            raise failure
        return step_of(engine, numbers)

    def __iter__(self) -> Iterator[Step]:
        while self._engine.step < self.config.steps:
            yield self.step()

    def __len__(self) -> int:
        """Steps of the run."""
        return self.config.steps

    @property
    def splats(self) -> Splats:
        """A copy of the first object as it is now."""
        return Splats.of(self._engine.splats, self.config.camera)


def step_of(engine: Engine, numbers: Mapping[str, float]) -> Step:
    """What a user sees of the step that an engine has just made."""
    return Step(engine.step, engine.config.steps, numbers, engine.num_splats, engine)
