"""A run on disk, from its first or its last checkpoint to its last step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from splatdistill import priors
from splatdistill.config import settings
from splatdistill.config.schema import TrainConfig
from splatdistill.guidance import group_of
from splatdistill.priors.base import Prior
from splatdistill.priors.metadata import check_group
from splatdistill.priors.precision import Precision, measured
from splatdistill.scene.gaussians import Splats
from splatdistill.training import checkpoint
from splatdistill.training.errors import Stopped
from splatdistill.training.remote_control import RemoteControl
from splatdistill.training.run_log import NoLog, RunLog
from splatdistill.training.signals import SignalHandler
from splatdistill.training.trainer import Trainer
from splatdistill.utils.device import pick_device
from splatdistill.utils.distributed import SINGLE_PROCESS, ProcessGroup
from splatdistill.utils.progress import Progress


def train(
    config: TrainConfig,
    *,
    folder: Path,
    progress: Progress,
    resume: bool = False,
    command: str = "",
    profile: bool = False,
    ranks: ProcessGroup = SINGLE_PROCESS,
    load: Callable[..., Prior] | None = None,
    precision: Precision | None = None,
) -> Splats:
    """Run (or go on with) the run in `folder` to its last step; writes everything a run folder holds.

    ValueError, one sentence, for anything the user can put right; nothing is written before the prior and the
    initial splats have loaded. profile: trace a few steps into trace.json.gz. Raises Stopped, a KeyboardInterrupt, when
    it was asked to stop through the run folder or by a signal, and RunFailure when it cannot go on. ranks: who else
    draws views of a step; the first alone writes. load: takes the place of `priors.load`. precision: what dtype auto
    comes to on a CPU, where that is settled already; else it is timed here.
    """
    tensors, meta = checkpoint.load(folder / "checkpoints") if resume else ({}, {})
    # Bits depend on these three, so a resumed run takes them from its checkpoint.
    torch.set_num_threads(meta.get("threads") or config.threads or torch.get_num_threads())
    device = pick_device(config.device)
    names = dict.fromkeys(stage.prior for _, stage in settings.stages(config))  # all now: a missing one is told at once
    engine = meta.get("network_engine", "torch") if meta else config.network_engine
    dtype, settled = meta.get("dtype", config.dtype), None
    if dtype == "auto" and device.type == "cpu" and set(names) != {"analytic"}:
        settled = _agree(precision or measured(), ranks)
        dtype = settled.dtype
    load = load or priors.load
    teachers = {}
    for name in names:
        some = partial(load, name, device=device, dtype=dtype, max_memory=config.max_memory, encoder=config.encoder)
        teachers[name] = _load_alike(some, engine, ranks)
    for _, stage in settings.stages(config):
        check_group(
            teachers[stage.prior].num_views,
            stage,
            supports_single_view_cameras=teachers[stage.prior].supports_single_view_cameras,
        )
        ranks.check(stage.num_views, group=group_of(stage))
    trainer = Trainer(config, prior=teachers[config.prior], device=device, others=teachers, ranks=ranks)
    if resume:
        trainer.restore(tensors, meta)
    log = RunLog(folder, config, command=command, start_step=trainer.step) if ranks.is_main else NoLog()
    timed = {"precision": asdict(settled)} if settled else {}
    log.summary(priors={name: teacher.origin for name, teacher in teachers.items()}, **timed)
    progress.update(trainer.step)
    with ExitStack() as stack:
        signals = stack.enter_context(SignalHandler())
        control = RemoteControl(folder, log, signals=signals) if isinstance(log, RunLog) else None
        trace = stack.enter_context(tracer(folder / "trace.json.gz")) if profile else None
        while trainer.step < config.steps:
            numbers = trainer.advance(log)
            if numbers:
                progress.update(trainer.step, **numbers)
                if said := trainer.starvation():
                    log.event("warning", step=trainer.step, message=said)
                    progress.note(f"Note: {said}")
            failure = trainer.nonfinite.verdict(numbers, step=trainer.step)
            asked = control.obey(trainer.splats, step=trainer.step) if control else signals.number > 0
            stop = ranks.any(asked) or failure is not None
            if stop or trainer.step % config.output.save_every == 0 or trainer.step == config.steps:
                trainer.report(log)
                trainer.save(folder / "checkpoints")
            if ranks.is_main and trainer.step % config.output.preview_every == 0:
                trainer.preview(folder / "preview")
            if stop:
                raise failure or Stopped(folder, step=trainer.step, signal=signals.number)
            if trace is not None:
                trace.step()
    if ranks.is_main:
        trainer.finish(folder, log, progress)
    return trainer.splats


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
    return torch.profiler.profile(
        schedule=torch.profiler.schedule(wait=2, warmup=2, active=4, repeat=1),
        on_trace_ready=lambda trace: trace.export_chrome_trace(str(path)),
    )
