"""SHA-256 of the splats after 60 seeded steps of every method: a change that must not change results is held to them.

    python benchmarks/digests.py --json before.json     # in the tree before the change
    python benchmarks/digests.py --against before.json  # in the tree after it, on the same machine

The command line makes the objects, one thread, fp32, so that this file outlives a move of the modules. Bits depend on
the processor and on torch, therefore a record of another machine or torch is refused. Exit code 1: digests differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import commit, machine, progress

from splatdistill.config.schema import METHODS

FIXED = ("--seed", "0", "--threads", "1", "--device", "cpu", "--dtype", "fp32", "--network-engine", "torch")


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--steps", type=int, default=60)
    made.add_argument("--prompt", default="a red armchair")
    made.add_argument("--json", type=Path, help="write the record here")
    made.add_argument("--against", type=Path, help="a record of the same machine to compare with")
    args = made.parse_args()
    here = {"machine": machine(), "steps": args.steps, "prompt": args.prompt, "flags": list(FIXED)}
    before = json.loads(args.against.read_text(encoding="utf-8")) if args.against else None
    if before and any(before[key] != value for key, value in here.items()):
        raise SystemExit(f"{args.against} was made with another machine, torch, prompt or number of steps.")
    methods = tuple(before["sha256"]) if before else METHODS
    digests = {method: digest_of(method, prompt=args.prompt, steps=args.steps) for method in methods}
    if args.json:
        record = {"command": "python benchmarks/digests.py", "commit": commit(), **here, "sha256": digests}
        args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if before and (changed := [name for name in methods if digests[name] != before["sha256"][name]]):
        raise SystemExit(f"Splats differ from those of {before['commit']}: {', '.join(changed)}.")


def digest_of(method: str, *, prompt: str, steps: int) -> str:
    """Of splats.ply, whose numbers are those of the last step."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "splatdistill", "train", "--method", method, "--prompt", prompt]
        command += ["--steps", str(steps), "--out", folder, *FIXED]
        done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
        if done.returncode:
            raise SystemExit(done.stderr)
        (splats,) = Path(folder).rglob("splats.ply")
        found = hashlib.sha256(splats.read_bytes()).hexdigest()
    progress(f"{method:12} {found}")
    return found


if __name__ == "__main__":
    main()
