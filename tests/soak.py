"""The long forms of the reliability and security tests: `python -m tests.soak [--json FILE]`, or `make soak`.

Kills, faults at every place of a save, flipped bits, two processes in one folder, a run as long as a day, two hosts,
damaged run folders under every verb, what the costliest bad files take, and the fuzzer for every reader; .ply gets most
of the time. `--only NAME` runs one and keeps the records of the others. Ends with exit code 1 when anything was lost,
or any error was foreign.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from common import commit, machine, progress, write
from evidence import read_json

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


def parts(folder: Path, flags: argparse.Namespace) -> dict[str, Callable[[], dict[str, Any]]]:
    """What there is to do, by name."""

    def fuzz(target: str) -> dict[str, Any]:
        share = 1 if target == "ply" else 20
        limits = {"runs": flags.runs // share, "seconds": flags.seconds // share}
        return fuzzed(folder / target, target, seed=flags.seed, **limits)

    return {
        "injection": lambda: injected(folder / "injection"),
        "ends": lambda: ended(folder / "ends", kills=flags.kills, seed=flags.seed),
        "flips": lambda: printed("tests.reliability.flips", folder / "flips", "--flips", flags.flips),
        "writers": lambda: printed("tests.reliability.writers", folder / "writers", "--tries", flags.tries),
        "long life": lambda: printed("tests.reliability.long_life", folder / "long", "--steps", flags.steps),
        "two hosts": lambda: printed("tests.reliability.two_hosts", folder / "hosts"),
        "verbs": lambda: printed("tests.security.verbs", folder / "verbs", "--cases", flags.cases),
        "refusals": refused,
        **{f"fuzz {target}": partial(fuzz, target) for target in TARGETS},
    }


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="of a part; may be given several times")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--flips", type=int, default=500, help="bits of a checkpoint, with a resume after each")
    parser.add_argument("--tries", type=int, default=100, help="of two processes in one run folder")
    parser.add_argument("--cases", type=int, default=2000, help="of a damaged run folder, with seven verbs each")
    parser.add_argument("--steps", type=int, default=200_000, help="of a run that must stay flat in memory")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1_000_000, help="of the fuzzer on .ply (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=600, help="at most, on .ply; a twentieth for each of the others")
    flags = parser.parse_args(args)
    facts = {"machine": machine(), "commit": commit(), "command": shlex.join(["python", "-m", "tests.soak", *args])}
    bad: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        todo = parts(Path(name), flags)
        if unknown := set(flags.only or ()) - todo.keys():
            parser.error(f"there is no part {sorted(unknown)[0]!r}; there are {', '.join(todo)}")
        for part in flags.only or todo:
            made = todo[part]() | facts
            progress(f"{part}: {made}")
            bad += made["bad"]
            kept = read_json(flags.json) if flags.json else {}
            record = {name: kept[name] for name in todo if name in kept} | {part: made}
            write({"bench": "soak", "seed": flags.seed, **record}, flags.json)
    print("\n".join(bad) or "Nothing was lost and no error was foreign.")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
