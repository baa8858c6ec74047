"""`batch`: many prompts from a file, on this machine, on the ranks of torchrun, or on a Ray cluster."""

from __future__ import annotations

import functools
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Fixed, Suppress

from splatdistill.batch import plan
from splatdistill.batch.dispatch import work
from splatdistill.batch.ledger import DONE as RUN_DONE
from splatdistill.batch.ledger import WAITING, Ledger
from splatdistill.batch.plan import Job
from splatdistill.batch.progress_board import ProgressBoard
from splatdistill.batch.rank import Rank
from splatdistill.commands.common import DONE, FAILED, File, Folder, about_threads, note
from splatdistill.commands.train import parse_settings, sources
from splatdistill.config import presets, settings, validation
from splatdistill.config.schema import TrainConfig
from splatdistill.io import names
from splatdistill.io.records import NUMBER, of_kinds
from splatdistill.io.runs import SPLATS, Run
from splatdistill.priors.precision import Precision, measured
from splatdistill.training.advice import about_priors
from splatdistill.training.run_log import check_writable
from splatdistill.training.signals import not_ignored
from splatdistill.utils.system import num_cores

MOST_PLACES = 10  # that one sentence names


@dataclass(frozen=True)
class Batch(TrainConfig):
    """Make an object from each prompt of a file. The same command again goes on where it was stopped, and tries again
    what failed. Under torchrun each rank takes its share.
    """

    prompt: Suppress[Fixed[str]] = ""
    prompts: File = None
    """Text file with one prompt a line, or YAML with a list of prompts and of settings."""
    out: Folder = None
    """Folder for the runs, the ledger and report.html; runs/NAME, after the file, if not given."""
    config: File = None
    """YAML file of settings, or the name of a shipped recipe such as smoke."""
    engine: Literal["local", "ray"] = "local"
    """local: processes on this machine; ray: actors on a Ray cluster, or on a Ray started here."""
    workers: int = 0
    """Runs at once; 0 is one for each GPU, or for each `threads` processors. Every worker holds its own weights."""
    gpus_per_worker: float = 0.0
    """GPUs of a worker; 0.25 lets four share one, and 0 is one each where there are any."""
    ray_address: str = ""
    """With --engine ray: a cluster to join, as ray.init takes it."""
    retries: int = 1
    """How often a prompt is tried again after a failure, or after the death of its worker."""


def batch(args: list[str]) -> int:
    flags, file, jobs = _plan(args)
    rank = Rank.here()
    _check(flags, rank)
    out = flags.out or Path("runs") / names.slug(file.path.stem)
    check_writable(out)
    _check_folders(jobs, out)
    for sentence in _about(jobs, fetch=flags.engine == "local"):
        if rank.rank == 0:
            note(sentence)
    if flags.engine == "local":
        _prepare_renderers(jobs)
    ledger = Ledger(out)
    ledger.make()
    share = jobs[rank.rank :: rank.world]
    todo = [job for job in share if not _is_done(job, out, ledger)]
    for sentence in _changed(share, out, ledger):
        note(sentence)
    for job in todo:
        ledger.update(job.run, prompt=job.config.prompt, state=WAITING)
    command = shlex.join(["splatdistill", "batch", *args])
    from splatdistill.batch import gallery as report

    failed: dict[str, str] = {}
    any_failed = False
    try:
        if todo:
            precision = _precision(todo, ledger)
            with _worker_pool(flags, todo, rank, out, command, precision) as pool, _stoppable():
                with ProgressBoard(todo, total=len(share), out=out) as progress:
                    failed = work(todo, pool, ledger=ledger, retries=flags.retries, progress=progress)
        any_failed = rank.any(bool(failed))
    finally:
        if rank.is_first:
            report.write(out, jobs, ledger)
    for job in share:
        if job.run in failed:
            print(f"failed: {job.config.prompt} ({job.run}): {failed[job.run]}", file=sys.stderr)
    again = "; the same command tries again what failed" if failed else ""
    print(f"{len(share) - len(failed)} of {len(share)} done{again}")
    if rank.is_first:
        print(out / "report.html")
    return FAILED if any_failed else DONE


def _plan(args: list[str]) -> tuple[Batch, plan.PromptFile, list[Job]]:
    """Flags, the file of prompts and its runs."""
    if {"-h", "--help"} & set(args):
        parse_settings(Batch, args, verb="batch")
    asked = sources(args)
    if asked.prompts is None:
        parse_settings(Batch, args, verb="batch")  # a wrong flag is reported first
        raise ValueError("prompts: name a file with one prompt a line, for example --prompts prompts.txt.")
    file = plan.read(asked.prompts)
    defaults = (f"{file.path}, defaults", file.defaults)

    @functools.cache
    def parsed(method: str | None, prior: str | None) -> tuple[Any, TrainConfig, presets.Origins]:
        return parse_settings(Batch, args, verb="batch", method=method, prior=prior, defaults=defaults)

    try:
        jobs = plan.jobs(file, method=asked.method, base=lambda method, prior: parsed(method, prior)[1])
    except plan.BadLines as bad:
        raise plan.BadLines([*bad.sentences, *_other_faults(bad.sound)]) from None
    return parsed(asked.method or file.defaults.get("method"), None)[0], file, jobs


def _check(flags: Batch, rank: Rank) -> None:
    for name in ("workers", "gpus_per_worker", "retries"):
        if getattr(flags, name) < 0:
            raise ValueError(f"{name} must not be negative; it is {getattr(flags, name):g}.")
    if flags.engine == "ray":
        from splatdistill.batch.cluster import check_ray

        check_ray()
        if rank.world > 1:
            raise ValueError("engine: torchrun and ray both spread the prompts; take one of them.")
    elif flags.ray_address:
        raise ValueError("ray_address: only --engine ray reads it.")


def _check_folders(jobs: Sequence[Job], out: Path) -> None:
    """ValueError for a run folder that another run has; those named after their settings cannot be."""
    for job in jobs:
        folder = out / job.run
        if folder.exists() and (different := settings.differences(job.config, Run(folder).settings())):
            raise ValueError(
                f"{job.where}: {folder} is there already, with another {different[0]}; choose another name or --out."
            )


def _about(jobs: Sequence[Job], *, fetch: bool) -> list[str]:
    """What the priors will make of the prompts, each sentence once. fetch: look for the priors too, and get those that
    come from a hub: once, and not by every worker. BadLines for prompts that they cannot take.
    """
    from splatdistill.priors.resolve import resolve

    said: dict[str, None] = {}
    faults: dict[str, list[str]] = {}  # each once, with the entries that have it
    found: set[str] = {"embedded", "analytic"}
    for job in jobs:
        try:
            wanted = {stage.prior for _, stage in settings.stages(job.config)} - found
            for name in wanted if fetch else ():
                resolve(name)
            found |= wanted
            said |= dict.fromkeys([*validation.validate(job.config), *about_priors(job.config)])
        except ValueError as error:
            faults.setdefault(str(error), []).append(job.where)
    if faults:
        raise plan.BadLines([f"{_places(where)}: {sentence}" for sentence, where in faults.items()])
    return list(said)


def _places(where: Sequence[str]) -> str:
    """Several entries of a file as one phrase."""
    numbers = [place.rpartition(", ")[2] for place in where[1:MOST_PLACES]]
    rest = len(where) - MOST_PLACES
    return ", ".join([where[0], *numbers]) + (f" and {rest} more" if rest > 0 else "")


def _other_faults(jobs: Sequence[Job]) -> list[str]:
    """What the priors refuse of entries that are sound in all else, so that one look at the file puts all right."""
    try:
        _about(jobs, fetch=False)
    except plan.BadLines as bad:
        return bad.sentences
    return []


def _prepare_renderers(jobs: Sequence[Job]) -> None:
    """What compiles at its first use does so here, once and seen, and what cannot draw is refused before any run."""
    import torch

    from splatdistill.rendering.renderer import make_renderer

    for config in {(job.config.device, job.config.renderer): job.config for job in jobs}.values():
        if config.device != "cpu" and config.renderer != "cpu" and torch.cuda.is_available():
            make_renderer(torch.device("cuda"), config.renderer)


def _is_done(job: Job, out: Path, ledger: Ledger) -> bool:
    """Whether the run is there and the ledger knows; a worker sets right what it does not know."""
    return Run(out / job.run).is_done(steps=job.config.steps) and ledger.read(job.run).get("state") == RUN_DONE


def _changed(jobs: Sequence[Job], out: Path, ledger: Ledger) -> list[str]:
    """A sentence for each run whose splats are no longer those that it ended with. They may be a person's work."""
    known = {job.run: ledger.read(job.run) for job in jobs if _is_done(job, out, ledger)}
    return [
        f"{out / run / SPLATS} is not what the run ended with: it was edited or damaged. It stays; take it away to "
        "have it made again."
        for run, record in known.items()
        if "sha256" in record and Run(out / run).digest() != record["sha256"]
    ]


def _precision(todo: Sequence[Job], ledger: Ledger) -> Precision | None:
    """What dtype auto comes to on a CPU: timed by the first command or rank in this folder, and kept for all others."""
    if all(job.config.dtype != "auto" or job.config.prior == "analytic" for job in todo):
        return None
    kept = ledger.settle("precision", lambda: asdict(measured()))
    known = {"dtype": str, "fp32_ms": NUMBER, "bf16_ms": NUMBER, "processor": str}
    if kept.keys() != known.keys() or of_kinds(kept, known) != kept or kept["dtype"] not in ("fp32", "bf16"):
        raise ValueError(f"{ledger.folder / '.precision.json'} is damaged; take it away.")
    return Precision(**kept)


def _worker_pool(
    flags: Batch, todo: Sequence[Job], rank: Rank, out: Path, command: str, precision: Precision | None
) -> Any:
    """The workers: no more of them than there is to do."""
    threads = max(job.config.threads for job in todo)
    cores = num_cores()
    share = flags.gpus_per_worker
    if flags.engine == "ray":
        from splatdistill.batch.cluster import RayPool, connect

        has = connect(flags.ray_address, cpus=max(cores, flags.workers * threads))
        num_gpus = 0.0 if flags.device == "cpu" else has.get("GPU", 0.0)
        share = share or float(num_gpus >= 1)
        count = flags.workers or _how_many(num_gpus, share, cores=int(has.get("CPU", 1)), threads=threads)
        gpus = share if num_gpus else 0.0
        count = min(count, len(todo))
        room = int(min(has.get("CPU", 0) / threads, num_gpus / gpus if gpus else count))
        if room < count:
            note(f"Ray has room for {room} of {count} workers now; the others wait.")
        return RayPool(count, threads=threads, gpus=gpus, out=out, command=command, precision=precision)
    from splatdistill.batch.local import LocalPool

    gpus = [] if flags.device == "cpu" else _gpus()
    if rank.world > 1:
        gpus = gpus[rank.local % len(gpus) :][:1] if gpus else []
        cores = threads  # torchrun shares out the machine: one run at once for each rank
    count = flags.workers or _how_many(len(gpus), share or 1.0, cores=cores, threads=threads)
    count = min(count, len(todo))
    for sentence in about_threads(threads, runs=count):
        note(sentence)
    return LocalPool(count, out=out, command=command, gpus=gpus, label=str(rank.rank), precision=precision)


def _how_many(num_gpus: float, share: float, *, cores: int, threads: int) -> int:
    return max(1, int(num_gpus / share) if num_gpus else cores // threads)


def _gpus() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(index) for index in range(count)]


class Ended(KeyboardInterrupt):
    """A signal asked the batch to end."""

    def __init__(self, number: int) -> None:
        super().__init__("stopped; the same command goes on.")
        self.code = 128 + number  # as shells have it


@contextmanager
def _stoppable() -> Iterator[None]:
    """A signal that asks to stop raises Ended, so that the workers end too; a second one ends the command at once."""

    def stop(number: int, _: object) -> None:
        for name in before:
            signal.signal(name, signal.SIG_DFL)
        raise Ended(number)

    before = dict.fromkeys(not_ignored())
    before |= {name: signal.signal(name, stop) for name in before}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
