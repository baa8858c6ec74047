"""A gate on speed that needs no quiet machine: instructions executed inside our extension, counted by callgrind.

Small fixed workloads of every operator run under `valgrind --tool=callgrind` on one thread at the x86-64-v3 level
(valgrind knows no AVX-512). Only what is executed in the extension itself counts, not torch, libc or Python. The counts
are compared with results/instructions.json: more than TOLERANCE above it fails.

When it fails: the printed functions are where today's instructions are. If the growth was not meant, find it there.
If it was (a new feature, a trade for fewer cache misses, shown by bm_*.py), say so in the commit and run
`python benchmarks/instructions.py --update`. Update it also after an improvement: the gate says when it is due.

Counts depend on the compiler, so the table records it. With another compiler, or without valgrind, nothing is compared:
the script says SKIPPED and exits with 77, and that is not a pass.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

TABLE = Path(__file__).parent / "results" / "instructions.json"
LEVEL = "x86_64_v3"
TOLERANCE = 0.05
SKIPPED = 77  # exit code, as automake has it
NUM_SHOWN = 6  # functions named for an operator that fails


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the table instead of comparing with it")
    parser.add_argument("--workload", type=Path, help=argparse.SUPPRESS)  # the process under valgrind
    args = parser.parse_args()
    if args.workload:
        run_workloads(args.workload)
        return 0
    from bm_rasterize import levels

    from splatdistill import ops

    info = ops.build_info()
    table = {} if args.update else json.loads(TABLE.read_text())
    reason = why_not(levels(), info["compiler"], table.get("compiler"))
    if reason:
        print(f"SKIPPED, nothing was compared: {reason}")
        return SKIPPED
    counts = measure()
    if args.update:
        totals = {name: sum(functions.values()) for name, functions in counts.items()}
        record = {"compiler": info["compiler"], "flags": info["flags"], "level": LEVEL, "instructions": totals}
        TABLE.write_text(json.dumps(record, indent=1) + "\n")
        print(f"written: {TABLE}")
        return 0
    report, good = compare(counts, table["instructions"])
    print("\n".join(report))
    return 0 if good else 1


def why_not(levels: list[str], compiler: str, table_compiler: str | None) -> str | None:
    """Why nothing can be counted here, or not compared with a table made by `table_compiler` (None: there is none)."""
    if shutil.which("valgrind") is None:
        return "valgrind is not installed"
    if LEVEL not in levels:
        return f"the extension or this machine has no level {LEVEL}"
    if table_compiler not in (None, compiler):
        return f"the table was made with {table_compiler}, the extension with {compiler}"
    return None


def compare(counts: dict[str, Counter[str]], table: dict[str, int]) -> tuple[list[str], bool]:
    """Lines to print, and whether no operator needs more than TOLERANCE above the table; unknown names fail."""
    lines, good = [], True
    for name in sorted(counts.keys() | table.keys()):
        now, before = sum(counts.get(name, Counter()).values()), table.get(name, 0)
        if bool(now) != bool(before):
            side = "this run" if now else "the table"
            lines.append(f"{name:<24} {now:>13,} {before:>13,}   FAILED, only in {side}: see --update")
            good = False
            continue
        change = now / before - 1 if before else 0.0  # both 0: done in torch
        verdict = "ok"
        if change > TOLERANCE:
            verdict, good = f"FAILED, more than {TOLERANCE:.0%} above the table", False
        elif change < -TOLERANCE:
            verdict = "better: run with --update to keep it"
        lines.append(f"{name:<24} {now:>13,} {before:>13,} {change:+8.2%}   {verdict}")
        if change > TOLERANCE:
            lines += [f"    {count:>13,} {function}" for function, count in counts[name].most_common(NUM_SHOWN)]
    return lines, good


def measure() -> dict[str, Counter[str]]:
    """For each workload, the instructions executed in each function of the extension."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        marks = folder / "marks.so"
        source = Path(__file__).with_name("callgrind_marks.c")
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(marks), str(source)], check=True)  # noqa: S603
        command = ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", "--compress-strings=no"]
        command += [f"--callgrind-out-file={folder / 'out'}", sys.executable, __file__, "--workload", str(marks)]
        environment = os.environ | {"SPLATDISTILL_SIMD": LEVEL, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, check=True)  # noqa: S603
        counts = {}
        for dump in sorted(folder.glob("out.*")):
            title, functions = parse(dump.read_text().splitlines())
            if title:
                counts[title] = functions
        return counts


def parse(lines: Iterable[str]) -> tuple[str, Counter[str]]:
    """Name of a dump, and the self cost of each function of our extension in it.

    In callgrind's format `ob=` and `fn=` say whose costs follow: a position and a count a line. The line after
    `calls=` is what a callee cost and counts there.
    """
    title, inside, function, skip = "", False, "", False
    functions: Counter[str] = Counter()
    for line in lines:
        if line.startswith("desc: Trigger: Client Request: "):
            title = line.partition("Client Request: ")[2]
        elif line.startswith("ob="):
            inside = Path(line[3:]).name.startswith("_C.")
        elif line.startswith("fn="):
            function = line[3:]
        elif line.startswith("calls="):
            skip = True
        elif re.match(r"[+\-*\d]", line):
            if inside and not skip:
                functions[function] += int(line.split()[1])
            skip = False
    return title, functions


def run_workloads(marks: Path) -> None:
    """Every workload once to warm up, once counted."""
    import torch

    torch.set_num_threads(1)
    mark = ctypes.CDLL(str(marks))
    for name, call in workloads().items():
        call()
        mark.start()
        mark.zero()
        call()
        mark.dump(name.encode())


def workloads() -> dict[str, Callable[[], object]]:
    from bm_densify import event_calls, statistics_calls
    from bm_residual import noising_calls, residual_calls
    from scenes import Shape, ball, picture_weights

    from splatdistill import ops

    shape = Shape(1000, 2, 64)
    scene = ball(shape)
    loss = (ops.rasterize(*scene).rgb * picture_weights(shape)).sum()
    pictures = (4, 3, 32, 32)
    return {
        "rasterize forward": lambda: ops.rasterize(*scene),
        "rasterize backward": lambda: loss.backward(retain_graph=True),
        "residual": residual_calls(pictures)["ours"],
        "noising": noising_calls(pictures)["ours"],
        "densify event": event_calls(1000)["ours"],
        "densify statistics": statistics_calls(1000)["ours"],
    }


if __name__ == "__main__":
    sys.exit(main())
