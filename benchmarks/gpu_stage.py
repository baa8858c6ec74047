"""Notes in a stage's record how it ended, for benchmarks/gpu.sh; makes the record where the stage itself left none.

The standard library alone: a stage may have ended because torch does not load.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import evidence

OUTCOMES = {0: "passed", 77: "not run", 124: "out of time", 137: "out of time"}
TAIL = 30  # lines of the log that are kept
TESTS = ("ops", "training")  # stages that are tests
SHARED = ("preflight", "check", "sanitizer")  # stages that share the record of the check
BUILDS = ("package", "check", "gsplat")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--code", type=int, required=True, help="exit code of the stage")
    parser.add_argument("--begun", type=int, required=True, help="when the stage began, seconds since 1970")
    parser.add_argument("--work", type=Path, required=True, help="folder of the logs and of pytest's reports")
    args = parser.parse_args()
    log = args.work / f"{args.stage}.log"
    lines = lines_of(log)
    outcome = OUTCOMES.get(args.code, "failed")
    ending: dict[str, Any] = {"exit_code": args.code, "seconds": round(time.time() - args.begun), "log": lines[-TAIL:]}
    if args.stage in TESTS:
        found = counts(args.work / f"{args.stage}.xml")
        ending["tests"] = found
        if outcome == "passed" and (found is None or found["passed"] == 0):
            outcome = "not run"  # all were skipped, and the log says why
    if args.stage in SHARED:
        ending |= results(lines)
    ending["outcome"] = outcome
    record = open_record(args.stage, args.out, device=args.device, begun=args.begun)
    record.write(**({args.stage: ending} if args.stage in SHARED else ending))
    shared = open_record("check", args.out, device=args.device, begun=0)
    shared.write(builds=builds(args.work))


def builds(work: Path) -> dict[str, list[str]]:
    """The last lines of what was built in the background; the very last says how it ended, if it has."""
    logs = {name: work / f"{name}.build.log" for name in BUILDS}
    return {name: lines_of(log)[-3:] for name, log in logs.items() if log.exists()}


def lines_of(log: Path) -> list[str]:
    """Without the folder that the tree lies in, which is nobody's business."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return text.replace(f"{evidence.ROOT}/", "").replace(f"{Path.home()}/", "~/").splitlines()


def open_record(stage: str, out: Path, *, device: str, begun: int) -> evidence.Record:
    """The record that a stage writes to, begun here if the stage left none since `begun`."""
    bench = "check" if stage in SHARED else stage
    name = device_name(out, device)
    path = evidence.path_of(bench, name, out)
    started = int(os.environ.get("GPU_STARTED", "0"))  # of the whole call: what is older is of another
    if path.exists() and int(path.stat().st_mtime) >= max(started, 0 if stage in SHARED else begun):
        return evidence.Record(path)
    path.unlink(missing_ok=True)
    command = shlex.join(["benchmarks/gpu.sh", "OUT", "--only", stage])
    return evidence.Record(path, bench=bench, device=name, commit=evidence.commit(), command=command)


def device_name(out: Path, device: str) -> str:
    """As the preflight noted it, else the word of the command line."""
    for path in sorted(out.glob("gpu_*_check.json")):
        if int(path.stat().st_mtime) >= int(os.environ.get("GPU_STARTED", "0")):
            return json.loads(path.read_text()).get("device", device)
    return device


def results(lines: list[str]) -> dict[str, Any]:
    """What the check prints: a JSON object on each line of its own."""
    found = [json.loads(line) for line in lines if line.startswith('{"') and line.endswith("}")]
    kinds = {"values": "values", "timings": "timing", "failures": "failure"}
    return {many: [x for x in found if one in x] for many, one in kinds.items() if any(one in x for x in found)}


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
