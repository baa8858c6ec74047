"""Single bits of a checkpoint flipped at random, and a resume after each: `python -m tests.reliability.flips FOLDER`.

A flip is harmless when the run ends with the splats of one that nobody touched, and refused when there is a sentence
and exit code 2. Anything else is silently different. Prints the counts as JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from pathlib import Path

import torch

from splatdistill import cli
from splatdistill.training import checkpoint

TINY = [
    "--prompt", "a red ball", "--prior", "analytic", "--steps", "6", "--size", "32", "--splats.num-init", "20",
    "--densify.max-splats", "20", "--output.size", "32", "--output.frames", "2", "--output.save-every", "2",
    "--output.log-every", "2", "--threads", "1", "--num-views", "4",
]  # fmt: skip


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def files_of(run: Path) -> list[Path]:
    """Those of both checkpoints, and `latest`."""
    return sorted(path for path in (run / "checkpoints").rglob("*") if path.is_file())


def places(run: Path, *, count: int, seed: int) -> list[tuple[str, int]]:
    """Files, each as likely as its size, and a bit of each; every third flip goes to a file drawn without its size,
    so that the small ones are met too.
    """
    drawn = random.Random(seed)
    files = files_of(run)
    sizes = [path.stat().st_size for path in files]
    found = []
    for index in range(count):
        (path,) = drawn.choices(files, weights=None if index % 3 == 0 else sizes)
        found.append((str(path.relative_to(run)), drawn.randrange(8 * path.stat().st_size)))
    return found


def half_done(folder: Path) -> tuple[Path, bytes]:
    """A run with the checkpoints of its steps 2 and 4 of 6, and the splats that it comes to."""
    (folder / "keep.yaml").write_text("output:\n  keep: 9\n")
    words = ["train", "--config", str(folder / "keep.yaml"), *TINY, "--out", str(folder), "--name", "whole"]
    assert cli.main(words) == cli.DONE
    shutil.copytree(folder / "whole", folder / "half")
    run = folder / "half"
    shutil.rmtree(run / "checkpoints" / "step_000006")
    (run / "checkpoints" / "latest").write_text("step_000004")
    (run / "splats.ply").unlink()
    lines = (run / "events.jsonl").read_text().splitlines(keepends=True)
    (run / "events.jsonl").write_text("".join(line for line in lines if '"done"' not in line))
    return run, (folder / "whole" / "splats.ply").read_bytes()


def resumed(run: Path, name: str, bit: int, *, wanted: bytes) -> str:
    """What became of a copy of the run with that bit flipped."""
    copy = run.with_name("copy")
    shutil.copytree(run, copy)
    try:
        flip(copy / name, bit)
        code = cli.main(["train", "--resume", str(copy), "--output.frames", "1"])
        if code == cli.DONE:
            return "equal" if (copy / "splats.ply").read_bytes() == wanted else "silently different"
        return "refused" if code == cli.USAGE else f"exit code {code}"
    finally:
        shutil.rmtree(copy)


def main(args: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--flips", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args(args)
    torch.set_num_threads(1)
    run, wanted = half_done(flags.folder)
    assert checkpoint.load(run / "checkpoints").meta["step"] == 4
    counts: dict[str, int] = {}
    bad = []
    for name, bit in places(run, count=flags.flips, seed=flags.seed):
        end = resumed(run, name, bit, wanted=wanted)
        counts[end] = counts.get(end, 0) + 1
        if end not in ("equal", "refused"):
            bad.append(f"bit {bit} of {name}: {end}")
    print(json.dumps({"flips": flags.flips, **counts, "bad": bad, "seed": flags.seed}))


if __name__ == "__main__":
    main(sys.argv[1:])
