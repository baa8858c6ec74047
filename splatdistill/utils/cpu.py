"""The processor: its name, the cores we may use, how threads wait for each other, and whether they got a core."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import MutableMapping
from dataclasses import dataclass

from splatdistill.utils.system import proc, waiting_seconds

# Spins before a thread sleeps; libgomp's own limit is 300,000, which a busy neighbour turns into whole time slices at
# every barrier. Fewer spins suffer less from neighbours and may cost an idle machine: benchmarks/bm_neighbour.py.
SPIN_COUNT = 10_000
STARVED = 0.25  # of the time in which a thread is ready: its work then takes 1 / (1 - 0.25) times as long, a third more
ENOUGH = 5.0  # seconds ready before that is judged: a thousand time slices


def limit_spinning(environment: MutableMapping[str, str], *, loaded: bool) -> None:
    """Lets threads of libgomp (torch's and our operators') sleep sooner at a barrier, unless the user has set how they
    wait. loaded: whether torch is in the process; libgomp has read the environment then, and nothing is changed.
    """
    if not loaded and "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))


def waiting_policy() -> str:
    """What the environment says of how threads of OpenMP wait at a barrier."""
    named = [f"{name}={os.environ[name]}" for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY") if name in os.environ]
    return ", ".join(named) or "OpenMP's default"


def processor() -> str:
    """The model of the processor, as Linux names it; elsewhere what Python knows."""
    lines = proc("cpuinfo").splitlines()
    known = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = known.get("model name", platform.machine())
    if "cpu family" in known:
        name += f" (family {known['cpu family']}, model {known['model']})"
    return name


@dataclass(frozen=True)
class Usage:
    """Seconds of all threads of this process. busy: on a core; waiting: ready to run, but without a core (None where
    the system does not say).
    """

    busy: float
    waiting: float | None

    @classmethod
    def now(cls) -> Usage:
        """Since the process began, of threads that are still there."""
        return cls(time.process_time(), waiting_seconds())

    def since(self, begun: Usage) -> Usage:
        waiting = None
        if self.waiting is not None and begun.waiting is not None:
            waiting = max(0.0, self.waiting - begun.waiting)  # threads that have ended are no longer counted
        return Usage(self.busy - begun.busy, waiting)

    def plus(self, other: Usage) -> Usage:
        waiting = None if self.waiting is None or other.waiting is None else self.waiting + other.waiting
        return Usage(self.busy + other.busy, waiting)

    @property
    def starved(self) -> bool:
        """Whether others held the cores so long that it was felt. On a free machine `waiting` is about 0, whatever part
        of the work one thread does alone: a thread that sleeps is not ready.
        """
        ready = self.busy + (self.waiting or 0.0)
        return ready >= ENOUGH and (self.waiting or 0.0) >= STARVED * ready
