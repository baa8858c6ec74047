"""A network call beside two busy processes, over the same call on an idle machine, for several limits on how long the
threads of OpenMP spin before they sleep.

Each setting has a process of its own, because libgomp reads its variables when it loads. All are loaded first; then
they take turns while the others sleep. The call is the one of a default step: four views, two conditions. A turn in
which other programs used a core is left out, on both sides.

In the cells, ours is the call on the idle machine, baseline the call beside the two processes, and ratio the slow-down.
`spread` holds the fastest and slowest turn of both, in ms; `digest` is of the answer, equal where the bits are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import common
import torch

from splatdistill import priors

NEIGHBOURS = 2
WARM_UP = 3
CALLS = 4  # of a turn, after one that wakes the process
CALM = 0.08  # cores that other programs may use in a turn
PATIENCE = 8  # times as many turns as are wanted, before the machine is called too busy
SHIPPED = "as shipped"
LIBGOMP = "300000"  # what libgomp takes where no variable is set
SPINS = (LIBGOMP, "20000", "10000", "5000", "2500", "1000")
PASSIVE = "passive"
HZ = os.sysconf("SC_CLK_TCK")


def main() -> None:
    made = common.parser(__doc__, threads=2)
    made.add_argument("--spins", nargs="+", default=SPINS, metavar="N", help="values of GOMP_SPINCOUNT to compare")
    args = made.parse_args()
    names = [SHIPPED, *args.spins, PASSIVE]
    common.write(measure(names, threads=args.threads, turns=2 if args.quick else 8, quick=args.quick), args.json)


def measure(names: Sequence[str], *, threads: int, turns: int, quick: bool) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        callers = {name: stack.enter_context(caller(name, threads)) for name in names}
        for process in callers.values():
            ask(process, 0)
        loaded = {name: ask(process, WARM_UP) for name, process in callers.items()}
        idle = take_turns(callers, turns, beside=[])
        with busy(NEIGHBOURS) as neighbours:
            beside = take_turns(callers, turns, beside=neighbours)
    cells = []
    for name in names:
        cells.append(common.cell(name, idle[name], beside[name], digest=loaded[name]["digest"]))
        cells[-1]["ratio"] = common.significant(cells[-1]["baseline_ms"] / cells[-1]["ours_ms"])
        cells[-1]["spread"] = [[common.significant(1e3 * f(x[name])) for f in (min, max)] for x in (idle, beside)]
        common.progress(common.shown(cells[-1]))
    return common.record(
        "neighbour", cells, quick=quick, threads=threads, neighbours=NEIGHBOURS, turns=turns,
        dtype=loaded[names[0]]["dtype"], shipped=loaded[SHIPPED]["variables"],
    )  # fmt: skip


def take_turns(
    callers: dict[str, subprocess.Popen[str]], turns: int, *, beside: Sequence[int]
) -> dict[str, list[float]]:
    """Seconds of a call, of so many turns by setting. beside: processes that belong to the measurement."""
    seconds: dict[str, list[float]] = {name: [] for name in callers}
    for _ in range(PATIENCE * turns):
        for name, process in callers.items():
            if len(seconds[name]) == turns:
                continue
            ours = [process.pid, *beside]
            begun, foreign = time.perf_counter(), machine_seconds() - seconds_of(ours)
            found = ask(process, 1 + CALLS)["seconds"][1:]
            foreign = machine_seconds() - seconds_of(ours) - foreign
            calm = foreign <= max(3 / HZ, CALM * (time.perf_counter() - begun))
            if calm:
                seconds[name].append(sum(found) / len(found))
            common.progress(f"{name}: {1e3 * sum(found) / len(found):.1f} ms{'' if calm else ', disturbed'}")
        if all(len(found) == turns for found in seconds.values()):
            return seconds
    raise SystemExit("Other programs use this machine all the time; stop them and measure again.")


def machine_seconds() -> float:
    """CPU seconds of all programs since the machine started."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / HZ


def seconds_of(processes: Sequence[int]) -> float:
    """Their CPU seconds."""
    words = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in processes)
    return sum(int(x[11]) + int(x[12]) for x in words) / HZ


@contextlib.contextmanager
def busy(count: int) -> Iterator[list[int]]:
    """So many processes that compute all the time."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    time.sleep(1.0)
    try:
        yield [process.pid for process in loops]
    finally:
        for process in loops:
            process.kill()
            process.wait()


@contextlib.contextmanager
def caller(name: str, threads: int) -> Iterator[subprocess.Popen[str]]:
    """A process that makes calls under the setting `name`."""
    environment = {key: x for key, x in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    if name == PASSIVE:
        environment["OMP_WAIT_POLICY"] = "passive"
    elif name != SHIPPED:
        environment["GOMP_SPINCOUNT"] = name
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), environment.get("PYTHONPATH", "")])
    # The package before torch, as in every command of ours: it sets what OpenMP reads.
    words = [sys.executable, "-c", f"import splatdistill, bm_neighbour; bm_neighbour.serve({threads})"]
    process = subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ask(process: subprocess.Popen[str], calls: int) -> dict[str, Any]:
    """What `serve` says of so many calls."""
    assert process.stdin is not None and process.stdout is not None
    print(calls, file=process.stdin, flush=True)
    return json.loads(process.stdout.readline())


def serve(threads: int) -> None:
    """Answers each line, a number of calls, with their seconds and a digest of the last."""
    torch.set_num_threads(threads)
    prior = priors.load("embedded", device=torch.device("cpu"), dtype="fp32")
    conditioned = prior.embed("a red armchair", None)
    draw = torch.Generator().manual_seed(0)
    xt, t = torch.randn(4, 48, 16, 16, generator=draw), torch.full((4,), 500)
    variables = {name: x for name, x in os.environ.items() if name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    for line in sys.stdin:
        seconds, out = [], xt
        for _ in range(int(line)):
            start = time.perf_counter()
            out = prior.predict(xt, t, [conditioned, conditioned])[0]
            seconds.append(time.perf_counter() - start)
        digest = hashlib.sha256(out.numpy().tobytes()).hexdigest()[:16]
        said = {"seconds": seconds, "digest": digest, "dtype": prior.dtype, "variables": variables}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
