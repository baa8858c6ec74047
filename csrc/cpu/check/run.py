"""Builds the program of this folder and runs it: every CPU kernel at every instruction-set level, without torch.

By default for this machine; `--machine aarch64` uses a cross compiler and an emulator, `--cpu MODEL` runs this
machine's program on an emulated x86-64 processor, such as Haswell (AVX2) or Nehalem (older). What follows `--` goes to
the program. Nothing is installed: where a tool is missing, the message names Debian's package. Exit codes: the
program's, or 2 where it could not be built or run.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import build_kernels  # noqa: E402

BUILD = HERE.parents[2] / "build" / "check"
SOURCES = sorted(HERE.glob("*.cpp"))
ARM = "aarch64"
CROSS = "aarch64-linux-gnu-g++"
PACKAGES = {
    "c++": "g++",
    CROSS: "g++-aarch64-linux-gnu",
    "qemu-aarch64": "qemu-user",
    "qemu-x86_64": "qemu-user",
    "ninja": "ninja-build",
}  # Debian's, for each tool


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machine", default=platform.machine(), help="as platform.machine() names it")
    parser.add_argument("--cpu", help="x86-64 model of qemu to run as")
    parser.add_argument("--build", type=Path, default=BUILD, help="folder of the object files")
    parser.add_argument("arguments", nargs="*", help="of the program")
    args = parser.parse_args()
    foreign = args.machine != platform.machine()
    if foreign and args.machine != ARM:
        return _refused(
            f"There is no cross compiler for {args.machine}: --machine may be {ARM} or {platform.machine()}."
        )
    compiler = CROSS if foreign else os.environ.get("CXX", "c++")
    emulator = ["qemu-aarch64"] if foreign else ["qemu-x86_64", "-cpu", args.cpu] if args.cpu else []
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # for ninja
    missing = [tool for tool in (compiler, "ninja", *emulator[:1]) if shutil.which(tool) is None]
    if missing:
        packages = " ".join(sorted({PACKAGES.get(tool, tool) for tool in missing}))
        return _refused(f"Not found: {', '.join(missing)}. On Debian: apt-get install {packages}")
    try:
        program = build(args.build / args.machine, args.machine, compiler)
    except subprocess.CalledProcessError as error:
        return _refused(f"It does not compile: {error}")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # thousands of short loops, at whose ends threads would spin
    done = subprocess.run([*emulator, str(program), *args.arguments], check=False)  # noqa: S603
    return done.returncode


def build(folder: Path, machine: str, compiler: str) -> Path:
    """The program, linked statically so that an emulator needs none of the other machine's libraries."""
    # Plain loops must round as the kernels compared with them: after every operation.
    own = [(file, folder / f"check.{file.name}.o", ["-O2", "-ffp-contract=off"]) for file in SOURCES]
    jobs = [*build_kernels.jobs(folder, machine), *own]
    objects = build_kernels.compile_all(folder, {".cpp": [compiler, *build_kernels.FLAGS]}, jobs)
    program, part = folder / "check", folder / f"check.{os.getpid()}.part"
    newest = max(Path(path).stat().st_mtime_ns for path in objects)
    if not program.exists() or program.stat().st_mtime_ns < newest:
        subprocess.run([compiler, "-static", "-fopenmp", *objects, "-o", str(part)], check=True)  # noqa: S603
        part.replace(program)  # whole at once: another process may be running it
    return program


def _refused(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
