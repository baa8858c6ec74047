"""Saves with a fault at every call that changes the disk: `python -m tests.reliability.injection FOLDER`, with the
library of faults.c preloaded. Prints how many places there were and what was lost.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from splatdistill.io import ply
from splatdistill.io.files import sweep
from splatdistill.training import checkpoint
from splatdistill.training.errors import RunFailure
from tests.io.scenes import knot

KINDS = {"kill": 1, "once": 2, "ever after": 3}
DONE, SAVED, REFUSED, FOREIGN, KILLED = 0, 10, 11, 12, 137


def save(root: Path, step: int) -> None:
    checkpoint.save(root / "checkpoints", step=step, tensors={"a": torch.full((50,), float(step))}, meta={}, keep=1)


def saved(root: Path) -> int:
    """The step of the checkpoint that loads, held against its tensors."""
    tensors, meta, _ = checkpoint.load(root / "checkpoints")
    assert tensors["a"].eq(meta["step"]).all()
    return meta["step"]


def export(root: Path, count: int) -> None:
    ply.write(root / "splats.ply", knot(count))


def exported(root: Path) -> int:
    return len(ply.read(root / "splats.ply"))


CASES: dict[str, tuple[Callable[[Path, int], None], Callable[[Path], int]]] = {
    "checkpoint": (save, saved),
    "splats.ply": (export, exported),
}


def attempt(case: str, root: Path, kind: int, place: int) -> int:
    """How a child ended that was to write 20 over 10; DONE when there is no such place any more."""
    library = ctypes.CDLL(None)
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = FOREIGN
    try:
        library.faults_arm(kind, place)
        CASES[case][0](root, 20)
        code = SAVED if library.faults_calls() >= place else DONE
    except (RunFailure, OSError):
        code = REFUSED
    finally:
        os._exit(code)


def faults(case: str, name: str, folder: Path) -> tuple[int, list[str]]:
    """The number of places, and what went wrong at them."""
    write, read = CASES[case]
    bad, place = [], 0
    while True:
        place += 1
        root = folder / f"{case}-{name}-{place}"
        root.mkdir()
        write(root, 10)
        end = attempt(case, root, KINDS[name], place)
        try:
            found = read(root)
        except (ValueError, AssertionError) as error:
            found = -1
            bad.append(f"{case}, {name} at {place}: {error}")
        if end == FOREIGN or (end in (DONE, SAVED) and found != 20) or found not in (10, 20):
            bad.append(f"{case}, {name} at {place}: ended with {end} and {found}")
        sweep(root)
        write(root, 30)
        if read(root) != 30 or [path for path in root.rglob("*") if path.name.startswith(".")]:
            bad.append(f"{case}, {name} at {place}: something stood in the way afterwards")
        shutil.rmtree(root)
        if end == DONE:
            return place - 1, bad


def main(folder: Path) -> None:
    found = {(case, name): faults(case, name, folder) for case in CASES for name in KINDS}
    places = {f"{case}, {name}": count for (case, name), (count, _) in found.items()}
    print(json.dumps({"places": places, "bad": [line for _, bad in found.values() for line in bad]}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
