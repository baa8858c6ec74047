"""From a prompt to an object in one call: the same path as `splatdistill train`."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splatdistill.api import notebook
from splatdistill.api.choices import Config, configure, loader, shown_call, warn_of
from splatdistill.api.splats import Splats
from splatdistill.api.steps import Step, step_of
from splatdistill.training import trackers
from splatdistill.training.run import train
from splatdistill.training.run_log import MemoryLog, check_writable
from splatdistill.utils.progress import Progress

if TYPE_CHECKING:
    from splatdistill.priors.base import Prior


@dataclass(frozen=True)
class Result:
    """What a run came to.

    splats: the object, of the first particle, with means [N,3] and what else `Splats` has. particles: the objects of
    all particles of VSD and ESD. config: all settings. metrics: a record for each logged step, with `step`. seconds: of
    the steps, wall time. threads: CPU threads that computed it; with dtype (fp32 or bf16) and network_engine they fix
    the bits. prior: where its weights are from. folder: of the run, None where it was in memory.

    Raises: nothing. Source: made by `distill`.

    Example:
        >>> import splatdistill
        >>> splatdistill.distill("a red ball", prior="analytic", steps=2, size=16, threads=1)
        Result('a red ball' by sds, 2 steps, 5500 Gaussians, 1 thread, fp32)
    """

    splats: Splats
    particles: tuple[Splats, ...]
    config: Config
    metrics: tuple[dict[str, float], ...] = field(repr=False)
    seconds: float
    threads: int
    dtype: str
    network_engine: str
    prior: str
    folder: Path | None

    def __repr__(self) -> str:
        c, threads = self.config, f"{self.threads} thread{'s' * (self.threads != 1)}"
        return (
            f"Result({c.prompt!r} by {c.method}, {c.steps} steps, {len(self.splats)} Gaussians, {threads}, "
            f"{self.dtype})"
        )


def distill(
    prompt: str | Config,
    *,
    method: str | None = None,
    prior: str | Prior | None = None,
    steps: int | None = None,
    seed: int | None = None,
    threads: int | None = None,
    file: str | Path | None = None,
    out: str | Path | None = None,
    callback: Callable[[Step], object] | None = None,
    log: str | Sequence[str] = (),
    progress: bool = False,
    view: bool = False,
    **settings: Any,
) -> Result:
    """Makes a 3D object from a prompt, as `splatdistill train` does: the same bits at equal threads, dtype and engine.

    prompt: what to make, or settings of `configure`, which then say everything. method, prior, threads, file, settings:
    as of `configure`. steps: of the optimisation; seed: fixes every random draw. out: a run folder to be made, with
    logs, previews and checkpoints; None keeps all in memory. callback: called with a `Step` after each step. log:
    tensorboard, wandb or both, into the run folder. progress: print how far it is to stderr. view: in a notebook, show
    the page of the viewer while it trains, and the object in it afterwards; it needs `out`, and a browser on this
    machine to see it live.

    Nothing else is printed and no file is written; threads, signal handlers, random numbers and working directory of
    the caller are as before. What the prior does not know of the prompt is a UserWarning.

    Returns: `Result`; its splats hold [N,3] means and the other tensors of `Splats`.
    Raises: ValueError, one sentence, for bad input; RunFailure where too many numbers are not finite; what the
    callback raises, after a checkpoint where there is a folder; Stopped, a KeyboardInterrupt, where the viewer's page
    asked for it.
    Source: DreamFusion (arXiv 2209.14988) for sds; `list_methods()` has the other papers.

    Example:
        >>> import splatdistill
        >>> result = splatdistill.distill("a red ball", prior="analytic", steps=2, size=16, threads=1)
        >>> result.splats
        Splats(5500 Gaussians, colour harmonics of degree 0, cpu)
    """
    named: dict[str, Any] = {"method": method, "steps": steps, "seed": seed, "threads": threads, "file": file}
    given = {name: value for name, value in {**named, **settings}.items() if value is not None}
    if isinstance(prompt, Config):
        if given or isinstance(prior, str):
            raise ValueError(f"distill: settings that are made already take no {next(iter(given), 'prior')}.")
        config = prompt
    else:
        config = configure(prompt, prior=prior, **given)
    folder = Path(out) if out is not None else None
    names = _trackers(log, folder)
    if view and folder is None:
        raise ValueError("view: the page shows the folder of a run; name one with out=.")
    warn_of(config, stacklevel=2)
    if view and not notebook.is_here():
        warnings.warn(
            f"view: this is no notebook; `splatdistill view {shlex.quote(str(folder))}` shows the run.", stacklevel=2
        )
    page = notebook.live_page(folder) if view and folder and notebook.is_here() else nullcontext()
    memory = MemoryLog()
    shown = Progress(total=config.steps, log_every=config.output.log_every) if progress else nullcontext()
    with page, shown as bar:
        engine = train(
            config,
            folder=folder,
            progress=bar,
            command=shown_call(config, given),
            logs=lambda step: [memory, *(trackers.make(names, folder, step=step) if folder else ())],
            callback=None if callback is None else lambda engine, numbers: callback(step_of(engine, numbers)),
            handle_signals=False,
            load=loader(prior),
        )
    particles = tuple(Splats.of(particle.shown, config.camera) for particle in engine.particles)
    facts = {name: memory.facts[name] for name in ("threads", "dtype", "network_engine")}
    return Result(
        particles[0], particles, config, tuple(memory.records), engine.seconds, prior=engine.prior.origin,
        folder=folder, **facts,
    )  # fmt: skip


def _trackers(log: str | Sequence[str], folder: Path | None) -> tuple[str, ...]:
    """The names of trackers. ValueError, one sentence, for a folder that cannot be made and a log that needs one."""
    if folder is not None and folder.exists():
        raise ValueError(f"out: {folder} is there already; name another folder, or go on with it: train --resume.")
    if folder is not None:
        check_writable(folder.parent)
    names = trackers.chosen(log)
    if names and folder is None:
        raise ValueError(f"log: {names[0]} writes into the folder of the run; name one with out=.")
    return names
