"""The long forms of the reliability and security tests: `python -m tests.soak [--json FILE]`, or `make soak`.

Kills, faults at every place of a save, flipped bits, two processes in one folder, what the costliest bad files take,
and the fuzzer for every reader; .ply gets most of the time. Ends with exit code 1 when anything was lost, or any error
was foreign.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import commit, machine, progress, write

from tests.reliability.test_injection import preloaded
from tests.security import hostile
from tests.security.fuzz import TARGETS

ROOT = Path(__file__).resolve().parents[1]
REFUSED_WITHIN = 0.1  # s, for any bad file of a megabyte


def run(module: str, *arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True)


def ended(folder: Path, *, kills: int, seed: int) -> dict[str, Any]:
    folder.mkdir()
    done = run("tests.reliability.ends", folder, "--kills", kills, "--seed", seed)
    return json.loads(done.stdout) if done.returncode == 0 else {"bad": [done.stderr[-500:]]}


def injected(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    done = run("tests.reliability.injection", folder, env=preloaded(folder))
    return json.loads(done.stdout) if done.returncode == 0 else {"bad": [done.stderr[-500:]]}


def printed(module: str, folder: Path, *arguments: object) -> dict[str, Any]:
    """The JSON on the last line of what a program prints."""
    folder.mkdir()
    done = run(module, folder, *arguments)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"bad": [done.stderr[-500:]]}


def refused() -> dict[str, Any]:
    times = {f"{target}: {name}": hostile.refusal(target, data) for target, name, data in hostile.files()}
    slowest = max(times, key=times.__getitem__)
    bad = [f"{name} takes {seconds:.3f} s" for name, seconds in times.items() if seconds > REFUSED_WITHIN]
    return {"files": len(times), "slowest": slowest, "slowest_s": round(times[slowest], 4), "bad": bad}


def fuzzed(folder: Path, target: str, *, runs: int, seconds: int, seed: int) -> dict[str, Any]:
    words = ["--runs", runs, "--seconds", seconds, "--seed", seed]
    done = run("tests.security.fuzz", target, folder, *words)
    counts = folder / "counts.json"
    found = json.loads(counts.read_text()) if counts.is_file() else {"executions": 0}
    said = done.stdout[-300:] + done.stderr[-700:]
    return {**found, "seconds_at_most": seconds, "bad": [] if done.returncode == 0 else [said]}


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--flips", type=int, default=500, help="bits of a checkpoint, with a resume after each")
    parser.add_argument("--tries", type=int, default=100, help="of two processes in one run folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1_000_000, help="of the fuzzer on .ply (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=600, help="at most, on .ply; a twentieth for each of the others")
    flags = parser.parse_args(args)
    found: dict[str, Any] = {}
    facts = {"bench": "soak", "machine": machine(), "commit": commit(), "seed": flags.seed}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found["injection"] = injected(folder / "injection")
        progress(f"injection: {found['injection']}")
        found["ends"] = ended(folder / "ends", kills=flags.kills, seed=flags.seed)
        progress(f"ends: {found['ends']}")
        found["flips"] = printed("tests.reliability.flips", folder / "flips", "--flips", flags.flips)
        progress(f"flips: {found['flips']}")
        found["writers"] = printed("tests.reliability.writers", folder / "writers", "--tries", flags.tries)
        progress(f"writers: {found['writers']}")
        found["refusals"] = refused()
        progress(f"refusals: {found['refusals']}")
        for target in TARGETS:
            share = 1 if target == "ply" else 20
            limits = {"runs": flags.runs // share, "seconds": flags.seconds // share}
            found[f"fuzz {target}"] = fuzzed(folder / target, target, seed=flags.seed, **limits)
            progress(f"fuzz {target}: {found[f'fuzz {target}']}")
    bad = [line for part in found.values() for line in part["bad"]]
    write({**facts, "command": shlex.join(["python", "-m", "tests.soak", *args]), **found}, flags.json)
    print("\n".join(bad) or "Nothing was lost and no error was foreign.")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
