"""What the benchmarks share: fair timing of A against B in one run, their flags, and the record they write.

A record is {"bench", "machine", "commit", "command", "quick", "cells": [{"name", "ours_ms", "baseline_ms", "ratio",
...}]}, ratio = baseline / ours. baseline_ms and ratio are null where the baseline was not run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import evidence
import torch
from evidence import ROOT as ROOT
from evidence import command, commit

from splatdistill.utils.cpu import processor
from splatdistill.utils.malloc import keep_freed_memory

MIN_SAMPLE = 20e-3  # seconds: shorter calls are repeated within a sample
Clock = Callable[[], float]
Samples = dict[str, list[float]]


def alternate(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    budget: float = 30.0,
    clock: Clock = time.process_time,
) -> Samples:
    """Seconds per call of each of `calls`, taken in turn, so that what slows the machine slows all of them alike.

    One warm-up each, then `rounds` rounds, or at least three when they take longer than `budget` seconds. A sample
    begins with a call that is not timed, so that none pays for what the one before left in the caches, and freed memory
    is kept, as the command line does. `clock`: process CPU time, which other programs disturb least, or
    `time.perf_counter` where threads are compared.
    """
    keep_freed_memory()
    repeats = {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        repeats[name] = max(1, round(MIN_SAMPLE / max(time.perf_counter() - start, 1e-6)))
    samples: Samples = {name: [] for name in calls}
    begun = time.perf_counter()
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - begun > budget:
            break
        for name, call in calls.items():
            call()
            start = clock()
            for _ in range(repeats[name]):
                call()
            samples[name].append((clock() - start) / repeats[name])
    return samples


def cell(name: str, ours: list[float], baseline: list[float] | None, **more: Any) -> dict[str, Any]:
    """One line of a record from samples in seconds: medians, and the median of the rounds' ratios."""
    return {
        "name": name,
        "ours_ms": milliseconds(ours),
        "baseline_ms": milliseconds(baseline) if baseline else None,
        "ratio": ratio(baseline, ours) if baseline else None,
        **more,
    }


def milliseconds(samples: list[float]) -> float:
    return significant(1e3 * statistics.median(samples))


def ratio(over: list[float], under: list[float]) -> float:
    return significant(statistics.median(a / b for a, b in zip(over, under, strict=True)))


def significant(value: float) -> float:
    """Four digits: no timing here is better."""
    return float(f"{value:.4g}")


def parser(doc: str | None, *, threads: int = 1) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="fewer and smaller cells, about a minute")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    made.add_argument("--threads", type=int, default=threads, help="of torch and the operators (default %(default)s)")
    return made


def record(bench: str, cells: list[dict[str, Any]], *, quick: bool, **more: Any) -> dict[str, Any]:
    return {"bench": bench, "machine": machine(), "commit": commit(), "command": command(), "quick": quick} | more | {
        "cells": cells
    }  # fmt: skip


def write(result: dict[str, Any], path: Path | None) -> None:
    if path:
        evidence.write_json(result, path)
        progress(f"written: {path}")


def progress(text: str) -> None:
    """A line for who waits; the results of a long run appear as they come."""
    print(text, file=sys.stderr, flush=True)


def shown(c: Mapping[str, Any]) -> str:
    """A cell as a line of text."""
    baseline = "n/a" if c["baseline_ms"] is None else f"{c['baseline_ms']:10.3f} ms  x{c['ratio']:.1f}"
    return f"{c['name']:<28} {c['ours_ms']:10.3f} ms   baseline {baseline}"


def machine() -> str:
    """Processor, cores, torch version and the instruction-set level that the operators run on."""
    from splatdistill import ops

    return f"{processor()}, {os.cpu_count()} cores, torch {torch.__version__}, {ops.build_info()['simd_level']}"


def with_section(text: str, made: str, *, name: str, script: str) -> str:
    """`text`, a page of docs, with what stands between the two marks of a section replaced."""
    marks = f"<!-- {name}: written by benchmarks/{script} -->", f"<!-- end of {name} -->"
    before, begin, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise SystemExit(f"There is no section between {marks[0]!r} and {marks[1]!r}.")
    return f"{before}{begin}\n{made}\n{end}{after}"
