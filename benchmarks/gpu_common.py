"""What the GPU benchmarks share: the device's own clock, launches, the copy to compare with, the record they write.

`--device cpu` runs the same Python where there is no GPU, to try it out: its records say so and prove nothing.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import common
import evidence
import gpu_facts
import torch
from evidence import Record
from torch import Tensor

from splatdistill.utils.device import pick_device

NO_DEVICE = 77  # exit code: nothing was measured
ROTATED = 256e6  # bytes of buffers in turn, more than any cache holds
RUN_AHEAD = 20_000_000  # cycles that the device sleeps while calls are queued (about 10 ms): it never waits for Python
Call = Callable[[], object]


def parser(doc: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the records")
    made.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu only tries the script out")
    made.add_argument("--quick", action="store_true", help="fewer and smaller cells")
    return made


def require(device: str) -> torch.device:
    """The device, or exit code 77 with one sentence."""
    if device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: torch sees none here, so nothing was measured.", file=sys.stderr)
        raise SystemExit(NO_DEVICE)
    return pick_device(device)


def record(bench: str, device: torch.device, out: Path, **known: Any) -> Record:
    """The record of a bench, begun: OUT/gpu_<device>_<bench>.json, over one that is there."""
    found = gpu_facts.device_facts(device.type)
    path = evidence.path_of(bench, found["device"], out)
    path.unlink(missing_ok=True)
    return Record(path, bench=bench, **found, commit=evidence.commit(), command=evidence.command(), **known)


def device_seconds(
    calls: Mapping[str, Call], device: torch.device, *, rounds: int = 5, inner: int = 20
) -> common.Samples:
    """Seconds per call on the device, taken in turn, without the time that Python takes to queue them."""
    for call in calls.values():
        for _ in range(3):
            call()
    samples: common.Samples = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            if device.type == "cuda":
                samples[name].append(_queued(call, inner))
            else:
                begun = time.perf_counter()
                call()
                samples[name].append(time.perf_counter() - begun)
    return samples


def _queued(call: Call, inner: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    torch.cuda._sleep(RUN_AHEAD)
    start.record()
    for _ in range(inner):
        call()
    end.record()
    end.synchronize()
    return 1e-3 * start.elapsed_time(end) / inner


def wall_seconds(
    calls: Mapping[str, Call], device: torch.device, *, rounds: int = 5, inner: int = 20
) -> common.Samples:
    """Seconds per call as a program sees them: queued one after another, with one wait at the end."""
    samples: common.Samples = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            wait(device)
            begun = time.perf_counter()
            for _ in range(inner):
                call()
            wait(device)
            samples[name].append((time.perf_counter() - begun) / inner)
    return samples


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def launches(call: Call, device: torch.device) -> dict[str, int] | None:
    """Kernels, copies and fills, and waits of one call, as torch.profiler sees them; None on a CPU."""
    call()
    return launches_of_one(lambda: call, device)


def launches_of_one(make: Callable[[], Call], device: torch.device) -> dict[str, int] | None:
    """The same for a call that works once only and is made outside the count."""
    if device.type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    call = make()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as trace:
        call()
        torch.cuda.synchronize()
    events = [event for event in trace.events() or [] if not getattr(event, "is_user_annotation", False)]
    names = [event.name for event in events if event.device_type.name == "CUDA"]
    moved = [name for name in names if name.startswith(("Memcpy", "Memset"))]
    waits = [event for event in events if event.name in ("cudaStreamSynchronize", "cudaEventSynchronize")]
    return {"kernels": len(names) - len(moved), "copies": len(moved), "waits": len(waits)}


def rotating(make: Callable[[], Sequence[Tensor]], *, num_bytes: float) -> Callable[[], Sequence[Tensor]]:
    """A function that gives one set of buffers after another, so that none is still in a cache when it comes again."""
    sets = [make() for _ in range(min(256, max(2, int(ROTATED // max(num_bytes, 1)) + 1)))]
    return itertools.cycle(sets).__next__


def copy_call(num_bytes: int, device: torch.device) -> Call:
    """A copy on the device that reads and writes `num_bytes` in all."""
    half = max(4, num_bytes // 2)

    def make() -> list[Tensor]:
        return [torch.empty(half, dtype=torch.uint8, device=device).fill_(1) for _ in range(2)]

    buffers = rotating(make, num_bytes=num_bytes)

    def copy() -> None:
        source, target = buffers()
        target.copy_(source)

    return copy
