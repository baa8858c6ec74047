"""Which CPU kernels there are and how each is compiled; used by setup.py and csrc/cpu/check/run.py.

The kernels know no torch. Every .cpp beside this file is one. A file that declares SD_SIMD_LEVEL is compiled once for
every instruction-set level of a machine, and the level is chosen when the program starts; any other is compiled once.
Results are rounded after every operation, as CUDA does it with -fmad=false and torch does it, so that densify masks are
equal everywhere; but not in a file whose first line says otherwise, as those of the rasteriser.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl

FOLDER = Path(__file__).resolve().parent
_EACH_SIMD_LEVEL = "\nSD_DECLARE_SIMD_LEVEL(SD_SIMD_LEVEL)\n"
_FUSED = "// Compiled with fused multiply-adds.\n"

# Never -ffast-math: linked into a shared object, GCC lets it switch the whole process to flush-to-zero.
OPTIMISE = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
WARNINGS = ["-Wall", "-Wextra"]

# The levels of a family of processors beside `generic`, worst first, and what tells dispatch.cpp that they are there.
_X86 = {"x86_64_v3": ["-march=x86-64-v3"], "x86_64_v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"]}
_ARM = {"neon": ["-DSD_NEON"]}  # every 64-bit ARM processor has NEON, so the compiler need not be asked for it
_FAMILIES = {"x86_64": (_X86, "-DSD_X86_LEVELS"), "aarch64": (_ARM, "-DSD_ARM_LEVELS")}
_SAME = {"amd64": "x86_64", "arm64": "aarch64"}  # the names of other systems


def flags(compiler: str, system: str = platform.system()) -> list[str]:
    """Of every kernel. compiler: its name or path; system: as platform.system() names what it compiles for. ValueError
    for one that does not know the vectors of csrc/cpu/simd.h.
    """
    name = Path(compiler).name.lower().removesuffix(".exe")
    if name in ("cl", "clang-cl"):
        raise ValueError(f"CXX: the kernels are for GCC and Clang, and {name} reads neither's flags; take clang++.")
    openmp = ["-Xpreprocessor", "-fopenmp"] if system == "Darwin" else ["-fopenmp"]  # as Apple's Clang wants it
    place = [] if system == "Windows" else ["-fPIC"]  # there all code is
    return ["-std=c++17", *OPTIMISE, *WARNINGS, *openmp, *place, "-fvisibility=hidden"]


Job = tuple[Path, Path, list[str]]  # source, object file, flags of its own


def _family(machine: str) -> tuple[dict[str, list[str]], str | None]:
    name = machine.lower()
    return _FAMILIES.get(_SAME.get(name, name), ({}, None))


def simd_levels(machine: str) -> dict[str, list[str]]:
    """Flags of each level of `machine`, as platform.machine() names it. `generic` runs on any processor of the kind."""
    return {"generic": [], **_family(machine)[0]}


def jobs(build: Path, machine: str) -> list[Job]:
    """Every level of every kernel, and what has no levels."""
    _, define = _family(machine)
    out = []
    for file in sorted(FOLDER.glob("*.cpp")):
        text = file.read_text(encoding="utf-8")
        rounding = [] if text.startswith(_FUSED) else ["-ffp-contract=off"]
        if _EACH_SIMD_LEVEL in text:
            out += [(file, build / f"{file.name}.{level}.o", [f"-DSD_SIMD_LEVEL={level}", *flags, *rounding])
                    for level, flags in simd_levels(machine).items()]  # fmt: skip
        else:
            out.append((file, build / f"{file.name}.o", [*([define] if define else []), *rounding]))
    return out


def compile_all(build: Path, commands: dict[str, list[str]], todo: list[Job]) -> list[str]:
    """Compiles with ninja and returns the object files. commands: the compiler for each suffix of a source."""
    build.mkdir(parents=True, exist_ok=True)

    def escaped(path: Path) -> str:
        return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")

    lines = []
    for suffix, command in commands.items():
        lines += [
            f"rule {suffix[1:]}",
            f"  command = {' '.join(command)} -MMD -MF $out.d $extra -c $in -o $out",
            "  depfile = $out.d",
            "  deps = gcc",
        ]
    for source, target, extra in todo:
        lines += [f"build {escaped(target)}: {source.suffix[1:]} {escaped(source)}", f"  extra = {' '.join(extra)}"]
    # Two ninjas damage each other's log. The lock passes to ninja, which outlives a caller that is killed.
    with (build / "lock").open("w", encoding="utf-8") as lock:
        inherited: list[int] = []
        if sys.platform != "win32":
            fcntl.flock(lock, fcntl.LOCK_EX)
            inherited = [lock.fileno()]
        (build / "build.ninja").write_text("\n".join(lines) + "\n", encoding="utf-8")
        ninja = ["ninja", "-C", str(build)]
        # A log of ninja's that a killed build has damaged makes it compile everything anew at every call.
        plan = subprocess.run([*ninja, "-n"], check=False, capture_output=True, text=True)  # noqa: S603
        if "premature end of file" in plan.stderr:
            for name in (".ninja_log", ".ninja_deps"):
                (build / name).unlink(missing_ok=True)
        workers = os.environ.get("MAX_JOBS", str(os.cpu_count() or 1))
        subprocess.run([*ninja, "-j", workers], check=True, pass_fds=inherited)  # noqa: S603
    return [str(target) for _, target, _ in todo]
