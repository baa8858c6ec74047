"""Who makes the runs: one after another, with the weights loaded once."""

from __future__ import annotations

import hashlib
import os
import platform
import traceback
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from signal import SIGINT
from typing import Any

import torch

from splatdistill import priors
from splatdistill.batch.dispatch import Outcome
from splatdistill.batch.ledger import DONE, RUNNING, WAITING, Ledger
from splatdistill.batch.plan import Job
from splatdistill.config import settings
from splatdistill.io.files import NotWritten
from splatdistill.io.runs import Run
from splatdistill.priors import engine as engines
from splatdistill.priors.base import Prior
from splatdistill.priors.precision import Precision
from splatdistill.training.errors import RunFailure, Stopped
from splatdistill.training.run import train
from splatdistill.utils.malloc import keep_freed_memory
from splatdistill.utils.progress import Progress

ASKED = 128 + SIGINT  # the code of a run that was stopped through its folder, or by Ctrl-C


class Teachers:
    """`priors.load` that keeps what it loaded until a run needs others.

    ledger: where the workers agree on what engine auto comes to: the first to load a prior settles it for all.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._held: dict[tuple[Any, ...], Prior] = {}

    def keep(self, wanted: Collection[str]) -> None:
        """Drops all priors but those of these names."""
        self._held = {key: prior for key, prior in self._held.items() if key[0] in wanted}

    def __call__(self, name: str, *, device: torch.device, dtype: str, engine: str, **settings: Any) -> Prior:
        place = (name, str(device), *sorted(settings.items()))
        for (*where, asked, wanted), prior in self._held.items():
            # A resumed run names what auto came to.
            if tuple(where) == place and dtype in (asked, prior.dtype) and engine in (wanted, prior.network_engine):
                return prior

        def load(engine: str) -> Prior:
            return priors.load(name, device=device, dtype=dtype, engine=engine, **settings)

        self._held[*place, dtype, engine] = prior = (
            self._settled(load, name, dtype) if engine == "auto" else load(engine)
        )
        return prior

    def _settled(self, load: Callable[[str], Prior], name: str, dtype: str) -> Prior:
        """What engine auto loads: as the first worker of this folder that loaded this prior found it."""
        mine: list[Prior] = []

        def settle() -> dict[str, Any]:
            mine.append(load("auto"))
            return {"prior": name, "dtype": dtype, "network_engine": mine[0].network_engine}

        digest = hashlib.sha256(f"{name} {dtype}".encode()).hexdigest()[:8]
        name_of_it = f"engine-{digest}"
        engine = self._ledger.settle(name_of_it, settle).get("network_engine")
        if engine not in engines.NAMES:
            raise ValueError(f"{self._ledger.folder / f'.{name_of_it}.json'} is damaged; take it away.")
        if engine == "onnx" and not engines.installed():
            raise ValueError(
                f"network_engine: onnxruntime is not installed on {platform.node()}, and other runs of this batch are "
                "computed with it; install it there, or take --network-engine torch."
            )
        return mine[0] if mine else load(engine)


class Worker:
    """Makes runs in the folder `out`. command: for the record of each run. precision: what dtype auto comes to on a
    CPU, for all workers alike.
    """

    def __init__(self, out: Path, *, command: str, precision: Precision | None = None) -> None:
        keep_freed_memory()
        self.out = out
        self.ledger = Ledger(out)
        self.teachers = Teachers(self.ledger)
        self._command, self._precision = command, precision

    def run(self, job: Job) -> Outcome:
        """Makes a run, goes on with it, or finds it done."""
        if not self.ledger.folder.is_dir():
            return Outcome(error=f"{platform.node()} does not see {self.out}; --out must be a folder of all machines.")
        try:
            with self.ledger.claim(job.run):
                return Outcome(self._made(job))
        except Stopped as stop:  # by a person, or because this machine is wanted: then another may go on
            self.ledger.update(job.run, state=WAITING)
            said = "It was asked to stop; the same command goes on with it."
            return Outcome(error=said, again=stop.code != ASKED)
        except ValueError as error:  # bad input stays bad
            return Outcome(error=_sentence(error))
        except Exception as error:
            with suppress(NotWritten):
                self.ledger.update(job.run, traceback=traceback.format_exc().splitlines())
            kind = "" if isinstance(error, RunFailure | NotWritten) else f"{type(error).__name__}: "
            return Outcome(error=f"{kind}{_sentence(error)}", again=True)

    def _made(self, job: Job) -> float:
        """Seconds of training, by whoever it was."""
        folder = self.out / job.run
        if not Run(folder).is_done(steps=job.config.steps):
            tries = self.ledger.read(job.run).get("tries", 0) + 1
            where = {"host": platform.node(), "pid": os.getpid()}
            self.ledger.update(job.run, prompt=job.config.prompt, state=RUNNING, tries=tries, **where)
            self._train(job, folder)
        return self.ledger.update(job.run, prompt=job.config.prompt, **finished(folder))["seconds"]

    def _train(self, job: Job, folder: Path) -> None:
        self.teachers.keep({stage.prior for _, stage in settings.stages(job.config)})
        with (
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            Progress(total=job.config.steps, stream=nowhere) as progress,
        ):
            train(
                job.config,
                folder=folder,
                progress=progress,
                resume=folder.exists(),
                command=self._command,
                load=self.teachers,
                precision=self._precision,
            )


def finished(folder: Path) -> dict[str, Any]:
    """What the ledger says of a run that is done."""
    run = Run(folder)
    seconds = round(float(run.summary().get("seconds_total") or 0.0), 3)
    return {"state": DONE, "sha256": run.digest(), "seconds": seconds, "error": None, "traceback": None}


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())
