"""Workers on a Ray cluster, or on a Ray that is started here for the length of the command: an actor each."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from splatdistill.batch.dispatch import SHUTDOWN_TIMEOUT_S, Outcome, ask_to_stop
from splatdistill.batch.plan import Job
from splatdistill.priors.precision import Precision

CONNECT_TIMEOUT_S = 10.0  # s that a cluster has to answer
CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # on any system: at 0 a Ray listens on 127.0.0.1 alone
OBJECTS = 100 * 2**20  # bytes of shared memory of a Ray started here; only settings and outcomes go through it


def check_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise ValueError('engine: Ray is not installed; `pip install "splatdistill[ray]"` adds it.')


class RayPool:
    """`count` actors, each with `threads` CPUs and `gpus` GPUs (a fraction shares one).

    They get jobs once Ray has found them a place, so a cluster with less room than asked for works with fewer. Ray
    starts anew those that die. out: a folder that every machine sees. precision: as for `Worker`.
    """

    def __init__(
        self, count: int, *, threads: int, gpus: float, out: Path, command: str, precision: Precision | None = None
    ) -> None:
        import ray

        self._ray, self._out = ray, out
        actor: Any = ray.remote(num_cpus=threads, num_gpus=gpus, max_restarts=-1)(_Actor)
        self._actors: list[Any] = [actor.remote(out.resolve(), command, precision) for _ in range(count)]
        self._idle: list[Any] = []
        self._coming = {self._hello(actor): actor for actor in self._actors}
        self._jobs: dict[Any, tuple[Any, Job]] = {}

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for _, job in self._jobs.values():
            ask_to_stop(self._out, job)
        if self._jobs:
            self._ray.wait(list(self._jobs), num_returns=len(self._jobs), timeout=SHUTDOWN_TIMEOUT_S)
        for actor in self._actors:
            self._ray.kill(actor)
        self._ray.shutdown()

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def busy(self) -> int:
        return len(self._jobs)

    def start(self, job: Job) -> None:
        actor = self._idle.pop()
        self._jobs[actor.run.remote(job)] = actor, job

    def wait(self, seconds: float) -> list[tuple[Job, Outcome]]:
        from ray.exceptions import RayActorError, RayError

        ready, _ = self._ray.wait([*self._jobs, *self._coming], num_returns=1, timeout=seconds)
        ended = []
        for ref in ready:
            if ref in self._coming:
                actor = self._coming.pop(ref)
                try:
                    self._ray.get(ref)
                except RayError as error:
                    self._gone(error)
                else:
                    self._idle.append(actor)
                continue
            actor, job = self._jobs.pop(ref)
            try:
                outcome = self._ray.get(ref)
            except RayActorError as error:
                outcome = Outcome(error=f"Its worker died: {_sentence(error)}", again=True)
            except RayError as error:
                outcome = Outcome(error=_sentence(error), again=True)
            else:
                if outcome.again:
                    self._ray.kill(actor, no_restart=False)
            if outcome.again:
                self._coming[self._hello(actor)] = actor
            else:
                self._idle.append(actor)
            ended.append((job, outcome))
        return ended

    def _hello(self, actor: Any) -> Any:
        """Answered when the actor has a place and has started, however often it takes."""
        return actor.hello.options(max_task_retries=-1).remote()

    def _gone(self, error: Exception) -> None:
        """An actor that cannot start; the batch goes on while there are others."""
        if not (self._idle or self._coming or self._jobs):
            raise RuntimeError(f"no worker could start: {_sentence(error)}") from error


class _Actor:
    """A `Worker` whose weights stay with it. Importing torch waits until Ray has chosen its GPUs."""

    def __init__(self, out: Path, command: str, precision: Precision | None) -> None:
        from splatdistill.batch.worker import Worker

        self._worker = Worker(out, command=command, precision=precision)

    def hello(self) -> None: ...

    def run(self, job: Job) -> Outcome:
        return self._worker.run(job)


def connect(address: str, *, cpus: int) -> dict[str, float]:
    """Joins the cluster at `address`, else that of RAY_ADDRESS (as under `ray job submit`), else starts a Ray here with
    so many CPUs, which no other machine can reach. Returns the CPUs and GPUs that it has.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = address or os.environ.get("RAY_ADDRESS", "")
    if not address:
        os.environ.setdefault(CLUSTERS, "0")
    import ray

    host, _, port = address.rpartition(":")
    here: dict[str, Any] = {"num_cpus": cpus, "object_store_memory": OBJECTS, "include_dashboard": False}
    try:
        if port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection(
                (host.rpartition("/")[2].strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S
            ).close()
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **({} if address else here))
    except (OSError, OverflowError) as error:
        hint = "" if "RAY_AUTH_MODE" in os.environ else "; if it asks for tokens, set RAY_AUTH_MODE=token"
        raise ValueError(f"ray_address: no Ray answers at {address}: {_sentence(error)}{hint}") from error
    return dict(ray.cluster_resources())


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
