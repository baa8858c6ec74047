"""The folder that an offline machine with a GPU is given: the extension, the check program, and wheels.

`make gpu-carry` makes it; `benchmarks/gpu.sh OUT --carry DIR` uses it. What is in it belongs to the sources that it was
made from, so it notes their fingerprint, and no other tree takes it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import evidence

NOTE = "carry.json"
MIB = 2**20
MOST, MOST_TOGETHER = 20 * MIB, 64 * MIB  # bytes of the folder; with the tracked files
# Of the machine: what it has besides is listed in the stage `preflight`.
ARCH = "90"
PYTHON, PLATFORMS = "3.12", ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
WHEELS = ("diffusers==0.42.1", "gsplat==1.5.3", "tyro==1.0.17", "docstring-parser==0.18.0", "typeguard==4.6.0",
          "plyfile==1.1.5", "annotated-types==0.8.0", "zstandard==0.25.0")  # fmt: skip
PRESENT = (
    "torch", "numpy", "pillow", "pyyaml", "jinja2", "rich", "transformers", "tokenizers", "huggingface-hub",
    "safetensors", "peft", "pytest", "hypothesis", "setuptools", "imageio",
)  # fmt: skip
"""What such a machine has of what the stages import: a common image with torch for CUDA."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--check", action="store_true", help="only ask whether it is of this tree; prints its commit")
    args = parser.parse_args()
    try:
        if args.check:
            print(check(args.folder))
        else:
            make(args.folder)
    except ValueError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def check(folder: Path) -> str:
    """The commit that `folder` was made at. ValueError, one sentence, if it was made from other sources."""
    note = evidence.read_json(folder / NOTE)
    if note.get("sources") != evidence.fingerprint():
        of = f"commit {note['commit']}, whose sources are not those of this tree" if note else "no known commit"
        raise ValueError(f"--carry: {folder} is of {of}; make it anew with make gpu-carry.")
    return note["commit"]


def make(folder: Path) -> None:
    """ValueError, one sentence, for a folder that is too large; it is removed then."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        part = Path(temporary) / "carry"
        part.mkdir()
        environment = os.environ | {"SPLATDISTILL_CUDA": "1", "SPLATDISTILL_CUDA_ARCHS": ARCH}
        shutil.copy2(extension(Path(temporary), environment), part)
        _run([sys.executable, "csrc/cuda/check/build.py", str(part / "kernels_check")], environment)
        _run(["strip", str(part / "_C.abi3.so"), str(part / "kernels_check")], environment)
        _run(["gzip", "-9", str(part / "_C.abi3.so")], environment)
        platforms = [word for name in PLATFORMS for word in ("--platform", name)]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        pip += ["--python-version", PYTHON, "--implementation", "cp", *platforms, "-d", str(part)]
        _run([*pip, *WHEELS], environment)
        note = {"commit": evidence.commit(), "sources": evidence.fingerprint(), "wheels": list(WHEELS)}
        evidence.write_json(note, part / NOTE)
        weigh(part)
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    print(f"written: {folder}, of commit {note['commit']}")


def extension(temporary: Path, environment: dict[str, str]) -> Path:
    """The one of this environment, which make keeps up to date, if it has code for ARCH; else one built for it."""
    from splatdistill import ops
    from splatdistill.ops import _library

    if ARCH in ops.build_info().get("cuda_archs", ()):
        return Path(_library._C.__file__)
    setup = [sys.executable, "setup.py", "--quiet", "build_ext", "--build-lib", f"{temporary}/lib"]
    _run([*setup, "--build-temp", f"{temporary}/temp"], environment)
    return temporary / "lib" / "splatdistill" / "_C.abi3.so"


def weigh(folder: Path) -> None:
    """Prints the sizes; ValueError, one sentence, if they are too large."""
    carried = sum(path.stat().st_size for path in folder.iterdir())
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=evidence.ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    paths = [evidence.ROOT / name for name in listed.stdout.split("\0") if name]
    tracked = sum(path.stat().st_size for path in paths if path.is_file())
    print(f"carried {carried / MIB:.1f} MiB, tracked {tracked / MIB:.1f} MiB, together {(carried + tracked) / MIB:.1f}")
    if carried > MOST or carried + tracked > MOST_TOGETHER:
        raise ValueError(
            f"gpu-carry: {carried / MIB:.1f} MiB and {tracked / MIB:.1f} MiB of tracked files are more than "
            f"{MOST // MIB} MiB and {MOST_TOGETHER // MIB} MiB together; carry or track less."
        )


def _run(command: list[str], environment: dict[str, str]) -> None:
    subprocess.run(command, cwd=evidence.ROOT, env=environment, check=True)  # noqa: S603


if __name__ == "__main__":
    main()
