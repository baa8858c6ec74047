"""A run, from its first step or its last checkpoint to its last step, in a folder or in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict, replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, cast

import torch

from splatdistill import priors
from splatdistill.config import settings
from splatdistill.config.schema import GUIDANCE, TrainConfig
from splatdistill.guidance import group_of
from splatdistill.io.lock import Claim
from splatdistill.io.runs import Run
from splatdistill.priors.base import Prior
from splatdistill.priors.metadata import check_group
from splatdistill.priors.precision import Precision, measured
from splatdistill.training import checkpoint
from splatdistill.training.errors import Stopped
from splatdistill.training.remote_control import RemoteControl
from splatdistill.training.room import refuse_too_large
from splatdistill.training.run_log import Log, Logs, RunLog
from splatdistill.training.signals import SignalHandler
from splatdistill.training.trainer import Trainer
from splatdistill.utils.device import pick_device
from splatdistill.utils.distributed import SINGLE_PROCESS, ProcessGroup
from splatdistill.utils.process_state import num_threads, random_numbers
from splatdistill.utils.progress import Progress

NOTHING_SAVED = checkpoint.Saved({}, {})
Callback = Callable[[Trainer, Mapping[str, float]], object]
"""Called after each step, with the numbers that it logged or none. Whatever it raises ends the run."""


def train(
    config: TrainConfig,
    *,
    folder: Path | None,
    progress: Progress | None = None,
    resume: bool = False,
    command: str = "",
    profile: bool = False,
    ranks: ProcessGroup = SINGLE_PROCESS,
    load: Callable[..., Prior] | None = None,
    precision: Precision | None = None,
    logs: Callable[[int], Sequence[Log]] = lambda _: (),
    callback: Callback | None = None,
    handle_signals: bool = True,
) -> Trainer:
    """Run (or go on with) the run in `folder` to its last step; writes everything a run folder holds. Without a folder
    it stays in memory.

    ValueError, one sentence, for anything the user can put right; nothing is written before the prior and the
    initial splats have loaded. profile: trace a few steps into trace.json.gz. Raises Stopped, a KeyboardInterrupt, when
    it was asked to stop through the run folder or by a signal, and RunFailure when it cannot go on. ranks: who else
    draws views of a step; the first alone writes. load: takes the place of `priors.load`. precision: what dtype auto
    comes to on a CPU, where that is settled already; else it is timed here. logs: makes those that hear of the run
    beside its folder, from the step that they are given on. The caller's threads and random numbers are as before at
    the end; signals are handled only where `handle_signals` asks for it. One process alone writes into a folder: a
    second one gets a ValueError that names the first. resume: the folder is there; without a checkpoint the run begins
    again.
    """
    progress = progress or Progress(total=config.steps, stream=StringIO())
    with ExitStack() as held:
        new = folder is not None and not folder.exists()  # looked at once: another process may be about to make it
        if folder and not new and ranks.is_main:
            Run(folder).refuse_strange()
            held.enter_context(Claim(folder))
        saved = _saved(config, folder, progress) if resume and folder else NOTHING_SAVED
        meta = saved.meta
        held.enter_context(num_threads(meta.get("threads") or config.threads))
        trainer, settled = prepare(config, meta, load=load, precision=precision, ranks=ranks)
        if meta:
            trainer.restore(saved)
        heard: list[Log] = []
        if ranks.is_main:
            heard += [RunLog(folder, config, command=command, start_step=trainer.step, new=new)] if folder else []
            heard += logs(trainer.step)
        with closing(Logs(heard)) as log:
            timed = {"precision": asdict(settled)} if settled else {}
            log.summary(priors={name: teacher.origin for name, teacher in trainer.priors.items()}, **timed)
            if meta:
                _catch_up(trainer, log, notes=saved.notes)
            with SignalHandler(enabled=handle_signals) as signals:
                control = RemoteControl(folder, log, signals=signals) if folder and ranks.is_main else None
                _loop(trainer, log, folder=folder, progress=progress, profile=profile, control=control,
                      signals=signals, callback=callback)  # fmt: skip
            if folder and ranks.is_main:
                trainer.finish(folder, progress)
            log.event("done", step=trainer.step, num_splats=trainer.num_splats)
    return trainer


def _saved(config: TrainConfig, folder: Path, progress: Progress) -> checkpoint.Saved:
    """What the run in `folder` goes on from, which is said. ValueError where none is whole, or is of other settings."""
    root = folder / "checkpoints"
    if not checkpoint.exists(root):
        progress.note(f"Note: {folder} has no checkpoint yet; it begins again at step 0.")
        return NOTHING_SAVED
    saved = checkpoint.load(root)
    notes = checkpoint.about_version(saved.meta, Run(folder).summary())
    saved = saved._replace(notes=(*saved.notes, *notes))
    checkpoint.refuse_others(saved.meta, settings.flatten(config), may_change=settings.MAY_CHANGE_ON_RESUME)
    for sentence in saved.notes:
        progress.note(f"Note: {sentence}")
    progress.note(f"Going on from step {saved.meta['step']} of {config.steps}.")
    return saved


def _catch_up(trainer: Trainer, log: Log, *, notes: Sequence[str]) -> None:
    """Makes what comes after a checkpoint and may have been cut off: the facts of the summary, and the previews."""
    log.summary(**trainer.facts())
    for sentence in notes:
        log.event("warning", step=trainer.step, message=sentence)
    if log.shows and trainer.step % trainer.config.output.preview_every == 0:
        trainer.preview(log)


def prepare(
    config: TrainConfig,
    meta: Mapping[str, Any] | None = None,
    *,
    load: Callable[..., Prior] | None = None,
    precision: Precision | None = None,
    ranks: ProcessGroup = SINGLE_PROCESS,
) -> tuple[Trainer, Precision | None]:
    """The state of step 0, and what dtype auto came to where it was timed. meta: of a checkpoint. Bits depend on
    threads, engine and dtype, so a resumed run takes these from there; threads are for the caller to set.
    """
    meta = meta or {}
    device, stages = pick_device(config.device), [stage for _, stage in settings.stages(config)]
    for stage in stages if device.type == "cpu" else ():
        refuse_too_large(stage.num_views, size=stage.size, share=settings.particles(config) / ranks.world)
    names = dict.fromkeys(stage.prior for stage in stages)  # all now: a missing one is reported at once
    engine = meta.get("network_engine", "torch") if meta else config.network_engine
    dtype, settled = meta.get("dtype", config.dtype), None
    if dtype == "auto" and device.type == "cpu" and set(names) != {"analytic"}:
        settled = _agree(precision or measured(), ranks)
        dtype = settled.dtype
    some = partial(
        load or priors.load, device=device, dtype=dtype, max_memory=config.max_memory, encoder=config.encoder,
        image_size=config.prior_size, loras=config.lora,
    )  # fmt: skip
    with random_numbers():
        teachers = {name: _load_alike(partial(some, name), engine, ranks) for name in names}
        for stage in stages:
            teacher, group = teachers[stage.prior], stage.camera.views_per_group
            if not GUIDANCE[stage.method].single_view:
                single = teacher.supports_single_view_cameras
                check_group(teacher.num_views, group=group, supports_single_view_cameras=single)
            ranks.check(stage.num_views, group=group_of(stage.method, stage.camera))
        return Trainer(config, prior=teachers[config.prior], device=device, others=teachers, ranks=ranks), settled


def _loop(
    trainer: Trainer,
    log: Log,
    *,
    folder: Path | None,
    progress: Progress,
    profile: bool,
    control: RemoteControl | None,
    signals: SignalHandler,
    callback: Callback | None,
) -> None:
    """Steps until the last one, with a log, previews and checkpoints on the way."""
    output, last, ranks = trainer.config.output, trainer.config.steps, trainer.ranks
    progress.update(trainer.step)
    with tracer(folder / "trace.json.gz") if profile and folder else nullcontext() as trace:
        while trainer.step < last:
            numbers = trainer.advance(log)
            if numbers:
                progress.update(trainer.step, **numbers)
                if said := trainer.starvation():
                    log.event("warning", step=trainer.step, message=said)
                    progress.note(f"Note: {said}")
            failure = trainer.nonfinite.verdict(numbers, step=trainer.step)
            asked = control.obey(trainer.splats, step=trainer.step) if control else signals.number > 0
            objection = _call(callback, trainer, numbers)
            stop = ranks.any(asked) or failure is not None or objection is not None
            if stop or trainer.step % output.save_every == 0 or trainer.step == last:
                trainer.report(log)
                if folder:
                    trainer.save(folder / "checkpoints")
            if log.shows and trainer.step % output.preview_every == 0:
                trainer.preview(log)
            if stop:
                raise objection or failure or Stopped(folder, step=trainer.step, signal=signals.number)
            if trace is not None:
                trace.step()


def _call(callback: Callback | None, trainer: Trainer, numbers: Mapping[str, float]) -> BaseException | None:
    """What the callback raised, for the step to be saved before that ends the run."""
    if callback is None:
        return None
    try:
        callback(trainer, numbers)
    except BaseException as objection:
        return objection
    return None


def _agree(found: Precision, ranks: ProcessGroup) -> Precision:
    """bf16 only where every rank is faster with it."""
    return replace(found, dtype="fp32") if ranks.any(found.dtype == "fp32") else found


def _load_alike(load: Callable[..., Prior], engine: str, ranks: ProcessGroup) -> Prior:
    """A prior with one engine on every rank: torch, where auto came to torch on one of them."""
    prior = load(engine=engine)
    if engine != "auto" or not ranks.any(prior.network_engine == "torch") or prior.network_engine == "torch":
        return prior
    return load(engine="torch")


def tracer(path: Path) -> torch.profiler.profile:
    """Traces four steps, once the first four are over, and writes them to `path` for chrome://tracing or Perfetto."""

    def write(trace: torch.profiler.profile) -> None:
        trace.export_chrome_trace(str(path))  # pyright: ignore[reportUnknownMemberType]

    when = cast(Any, torch.profiler).schedule(wait=2, warmup=2, active=4, repeat=1)
    return torch.profiler.profile(schedule=when, on_trace_ready=write)
