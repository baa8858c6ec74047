"""Builds the program of this folder and runs it: every CPU kernel at every instruction-set level, without torch.

By default for this machine; `--machine aarch64` uses a cross compiler and an emulator, `--cpu MODEL` runs this
machine's program on an emulated x86-64 processor, such as Haswell (AVX2) or Nehalem (older). `--compiler clang` takes
Clang and its C++ library, `--compiler mingw` makes a program for Windows and runs it where there is wine; both refuse
every warning. What follows `--` goes to the program. Nothing is installed: where a tool is missing, the message names
Debian's package. Exit codes: the program's, or 2 where it could not be built or run.
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
# What each takes beside the usual flags, to compile and to link. Clang's OpenMP is there as a shared library alone.
STRICT = {
    "clang": ("clang++", ["-stdlib=libc++", "-Werror"], ["-stdlib=libc++"]),
    "mingw": ("x86_64-w64-mingw32-g++", ["-Werror"], ["-static"]),
}
PACKAGES = {
    "c++": "g++",
    "clang++": "clang libc++-dev libc++abi-dev libomp-dev",
    "x86_64-w64-mingw32-g++": "g++-mingw-w64-x86-64-posix",
    CROSS: "g++-aarch64-linux-gnu",
    "qemu-aarch64": "qemu-user",
    "qemu-x86_64": "qemu-user",
    "ninja": "ninja-build",
}  # Debian's, for each tool


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machine", default=platform.machine(), help="as platform.machine() names it")
    parser.add_argument("--cpu", help="x86-64 model of qemu to run as")
    parser.add_argument("--compiler", choices=STRICT, help="another one, that refuses every warning")
    parser.add_argument("--build", type=Path, default=BUILD, help="folder of the object files")
    parser.add_argument("arguments", nargs="*", help="of the program")
    args = parser.parse_args()
    foreign = args.machine != platform.machine()
    if args.compiler and (foreign or args.cpu):
        parser.error("--compiler is for this machine: leave out --machine and --cpu.")
    if foreign and args.machine != ARM:
        return _refused(
            f"There is no cross compiler for {args.machine}: --machine may be {ARM} or {platform.machine()}."
        )
    compiler, more, link = CROSS if foreign else os.environ.get("CXX", "c++"), [], ["-static"]
    if args.compiler:
        compiler, more, link = STRICT[args.compiler]
    emulator = ["qemu-aarch64"] if foreign else ["qemu-x86_64", "-cpu", args.cpu] if args.cpu else []
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # for ninja
    missing = [tool for tool in (compiler, "ninja", *emulator[:1]) if shutil.which(tool) is None]
    if missing:
        packages = " ".join(sorted({PACKAGES.get(tool, tool) for tool in missing}))
        return _refused(f"Not found: {', '.join(missing)}. On Debian: apt-get install {packages}")
    try:
        system = "Windows" if args.compiler == "mingw" else platform.system()
        command = [compiler, *build_kernels.flags(compiler, system), *more]
        program = build(args.build / (args.compiler or args.machine), args.machine, command, link)
    except subprocess.CalledProcessError as error:
        return _refused(f"It does not compile: {error}")
    if args.compiler == "mingw":
        if shutil.which("wine") is None:
            print("It compiles and links for Windows. It was not run: there is no wine.")
            return 0
        emulator = ["wine"]
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # thousands of short loops, at whose ends threads would spin
    done = subprocess.run([*emulator, str(program), *args.arguments], check=False)  # noqa: S603
    return done.returncode


def build(folder: Path, machine: str, command: list[str], link: list[str]) -> Path:
    """The program. command: the compiler with its flags; link: what it takes to link, which is statically where it can,
    so that an emulator needs none of the other machine's libraries.
    """
    # Plain loops must round as the kernels compared with them: after every operation.
    own = [(file, folder / f"check.{file.name}.o", ["-O2", "-ffp-contract=off"]) for file in SOURCES]
    jobs = [*build_kernels.jobs(folder, machine), *own]
    objects = build_kernels.compile_all(folder, {".cpp": command}, jobs)
    program, part = folder / "check", folder / f"check.{os.getpid()}.part"
    newest = max(Path(path).stat().st_mtime_ns for path in objects)
    if not program.exists() or program.stat().st_mtime_ns < newest:
        subprocess.run([command[0], *link, "-fopenmp", *objects, "-o", str(part)], check=True)  # noqa: S603
        part.replace(program)  # whole at once: another process may be running it
    return program


def _refused(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
