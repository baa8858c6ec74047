"""The checks that take too long for every change, and the record that says of which files they passed.

A record belongs to the contents of the folders that its check covers, not to a commit: it may be committed together
with the change that it covers, outlives a squash or a merge that leaves those files alike, and needs no history.

    python benchmarks/nightly.py                      runs all and writes benchmarks/results/nightly.json
    python benchmarks/nightly.py --only "kernels on aarch64"    runs one, and keeps the records of the others
    python benchmarks/nightly.py --check              says which records are missing, failed or of other files; with
                                                      exit code 77 that nothing can be compared without git
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import common

RECORD = common.ROOT / "benchmarks" / "results" / "nightly.json"
NOTHING_DONE = 77  # as automake has it: skipped
Records = dict[str, dict[str, Any]]


class Check(NamedTuple):
    """command: run in the root of the repository. covers: files and folders that its result depends on."""

    command: Sequence[str]
    covers: Sequence[str]


KERNELS = ("csrc/common", "csrc/cpu")  # with their check
OPERATORS = (
    *KERNELS,
    "csrc/bind",
    "splatdistill/ops",
    "tests/ops/children.py",
    "tests/ops/conftest.py",
    "tests/ops/simd_levels.py",
    "tests/ops/test_densify.py",
    "tests/ops/test_library.py",
    "tests/ops/test_gram.py",
    "tests/ops/test_rasterize.py",
    "tests/ops/test_residual.py",
    "tests/ops/test_update.py",
    "tests/rounding.py",
)
RANGE = ("pyproject.toml", "benchmarks/dependency_range.py")
WHEEL = (
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    ".ci/wheels.py",
    "csrc/cpu/build_kernels.py",
    "csrc/cuda/toolkit.py",
    "csrc/bind/module.cpp",
    "csrc/bind/build_info.cpp",
    "splatdistill/ops/_library.py",
    "splatdistill/ops/_loading.py",
    "benchmarks/bare_install.py",
)
CHECKS = {
    "kernels on aarch64": Check(("make", "check-aarch64"), KERNELS),
    "kernels on older x86-64": Check(("make", "check-x86-64"), KERNELS),
    "operators on older x86-64": Check(("make", "test-emulated"), OPERATORS),
    "kills and fuzzing": Check(
        ("make", "soak"),
        (
            "splatdistill/batch/plan.py",
            "splatdistill/training/checkpoint.py",
            "splatdistill/training/remote_control.py",
            "splatdistill/training/signals.py",
            "splatdistill/io",
            "splatdistill/config/yaml_reader.py",
            "tests/reliability",
            "tests/security",
            "tests/soak.py",
        ),
    ),
    "files in real programs": Check(
        ("make", "test-clients"),
        ("splatdistill/export", "splatdistill/io", "splatdistill/utils/srgb.py", "tests/clients"),
    ),
    "other compilers and systems": Check(
        ("make", "portability"), (*KERNELS, "splatdistill/utils/system.py", "tests/portability", "tests/versions")
    ),
    "lowest dependencies": Check(("make", "test-floor"), RANGE),
    "newest dependencies": Check(("make", "test-newest"), RANGE),
    "wheel in a bare Debian": Check(("make", "bare-install"), WHEEL),
    "steps of Dockerfile": Check(
        ("make", "containers"), (*WHEEL, "Dockerfile", ".dockerignore", "benchmarks/container_steps.py")
    ),
}


def git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True)  # noqa: S603, S607
    return done.stdout


def contents(root: Path, covers: Sequence[str]) -> str:
    """A hash of the names and bytes of the files below `covers` that git does not ignore, as they lie in `root`."""
    names = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *covers).split("\0")
    found = hashlib.sha256()
    for name in sorted({name for name in names if name and (root / name).is_file()}):
        found.update(f"{name}\0{hashlib.sha256((root / name).read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def run(root: Path, check: Check) -> dict[str, Any]:
    """Runs one check; its record. The files are read before it starts: what changes meanwhile was not checked."""
    before = contents(root, check.covers)
    begun = time.monotonic()
    code = subprocess.run(check.command, cwd=root, check=False).returncode  # noqa: S603
    return {
        "result": "passed" if code == 0 else f"failed with code {code}",
        "seconds": round(time.monotonic() - begun),
        "command": " ".join(check.command),
        "contents": before,
        "commit": common.commit(),
        "machine": common.machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def complaints(root: Path, checks: Mapping[str, Check], records: Records) -> list[str]:
    """One sentence for each check whose record does not say that it passed on the files in `root`."""
    found = []
    for name, check in checks.items():
        record = records.get(name)
        if record is None:
            found.append(f"{name}: there is no record.")
        elif record["result"] != "passed":
            found.append(f"{name}: {record['result']}.")
        elif record["contents"] != contents(root, check.covers):
            found.append(f"{name}: passed on {record['date']} on other files than there are now in {places(check)}.")
    return found + [f"{name}: recorded, but there is no such check." for name in records if name not in checks]


def places(check: Check) -> str:
    """The folders of what a check covers."""
    return ", ".join(dict.fromkeys(path.rpartition("/")[0] or path if "." in path else path for path in check.covers))


def is_checkout(root: Path) -> bool:
    """Whether git can list the files of `root`; how much history there is does not matter."""
    try:
        return Path(git(root, "rev-parse", "--show-toplevel").strip()).samefile(root)
    except (OSError, subprocess.CalledProcessError):
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="run nothing, compare the record with the files")
    parser.add_argument("--only", action="append", choices=CHECKS, help="run this one; may be given several times")
    flags = parser.parse_args()
    if not is_checkout(common.ROOT):
        print("This folder is no git checkout, so there is no list of the files that a record is of: nothing was done.")
        return NOTHING_DONE
    if flags.check:
        found = complaints(common.ROOT, CHECKS, read())
        for line in found:
            print(line)
        if found:
            print(
                '`make nightly NIGHTLY="--only NAME"` runs one; commit benchmarks/results/nightly.json with the change.'
            )
        return int(bool(found))
    results = []
    for name in flags.only or CHECKS:
        made = run(common.ROOT, CHECKS[name])
        results.append(made["result"])
        records = read() | {name: made}  # read late: another command may have run other checks meanwhile
        RECORD.write_text(json.dumps({name: records[name] for name in CHECKS if name in records}, indent=2) + "\n")
    return int(any(result != "passed" for result in results))


def read() -> Records:
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


if __name__ == "__main__":
    sys.exit(main())
