"""Notes in a stage's record how it ended, for benchmarks/gpu.sh; makes the record where the stage itself left none."""

from __future__ import annotations

import argparse
import json
import shlex
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import gpu_common
import torch

OUTCOMES = {0: "passed", 77: "not run", 124: "out of time", 137: "out of time"}
TAIL = 30  # lines of the log that are kept
REPORTS = {"tests": ["tests"], "sanitizer": ["memcheck", "racecheck"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--code", type=int, required=True, help="exit code of the stage")
    parser.add_argument("--begun", type=int, required=True, help="when the stage began, seconds since 1970")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--junit", type=Path, required=True, help="folder of pytest's reports")
    args = parser.parse_args()
    device = torch.device(args.device)
    path = gpu_common.path_of(args.stage, device, args.out)
    tests = {name: counts(args.junit / f"{name}.xml") for name in REPORTS.get(args.stage, [])}
    outcome = OUTCOMES.get(args.code, "failed")
    if outcome == "passed" and any(found is None or found["passed"] == 0 for found in tests.values()):
        outcome = "not run"  # all were skipped, and the log says why
    ending = {
        "outcome": outcome,
        "exit_code": args.code,
        "seconds": round(time.time() - args.begun),
        "tests": tests,
        "log": args.log.read_text(errors="replace").splitlines()[-TAIL:] if args.log.exists() else [],
    }
    if path.exists() and path.stat().st_mtime >= args.begun:  # else it is of another call
        path.write_text(json.dumps({**json.loads(path.read_text()), **ending}, indent=1) + "\n")
    else:
        command = shlex.join(["benchmarks/gpu.sh", "OUT", "--only", args.stage])
        gpu_common.write(args.stage, device, args.out, **{**ending, "command": command})


def counts(report: Path) -> dict[str, int] | None:
    """How many tests passed, failed and were skipped; None when pytest did not end."""
    try:
        suites = list(ET.parse(report).iter("testsuite"))  # noqa: S314  pytest wrote it a moment ago
    except (OSError, ET.ParseError):
        return None
    total = {key: sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")}
    failed = total["failures"] + total["errors"]
    return {"passed": total["tests"] - failed - total["skipped"], "failed": failed, "skipped": total["skipped"]}


if __name__ == "__main__":
    main()
