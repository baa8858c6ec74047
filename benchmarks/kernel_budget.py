"""A gate on the CUDA kernels that needs no GPU: what they take of a multiprocessor, as the compiler reports it.

Every csrc/cuda/*.cu is compiled for each architecture with the flags of the extension. A kernel that spills registers
or uses local memory does not compile. Registers and shared memory are compared with results/kernel_budget.json: more of
either fails, for it may cost occupancy. If the growth was meant, say so in the commit and run
`python benchmarks/kernel_budget.py --write`; the same after an improvement.

Where there is an nvdisasm, the machine code is read too: it must not touch local memory, kernels that take four
elements at a time must store them at once, and that of the residual must read its terms and nothing like them.

Registers depend on the compiler, so the table records it; with another one only spills and local memory are looked for.
Without nvcc the script says SKIPPED and exits with 77, and that is not a pass. `make kernels` fetches one for it.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "csrc" / "cuda"))
import toolkit  # noqa: E402

TABLE = Path(__file__).parent / "results" / "kernel_budget.json"
ARCHS = ["80", "90"]
# Kernels that write tensors, four elements at a time. When the last block of a residual finishes, it writes norms too.
VECTORS = re.compile(r"(Chunk|Noising)Kernel<(?:float|double)(?:, (\d))?, 4>$")
WIDE = {"UpdateKernel": 3}  # 128-bit stores, of the splats and both moments; what does not fill one goes one by one
LOADS_OF_A_TERM = 3  # 128-bit ones in the code: of four floats, or of four doubles in two
NOT_RUN = 77

Budget = dict[str, int]
Kernels = dict[str, Budget]


class CompileError(Exception):
    """What the compiler says."""


class Compiled(NamedTuple):
    """report: the assembler's, on the kernels of one file. code: theirs, disassembled; None without nvdisasm."""

    report: str
    code: str | None


def compile_kernels(nvcc: str, source: Path, arch: str) -> Compiled:
    disassembler, code = shutil.which("nvdisasm"), None
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, *toolkit.FLAGS, *toolkit.STRICT, "-Xptxas=-v", f"-arch=sm_{arch}", "-cubin"]
        command += ["-o", f"{folder}/kernels.cubin", str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if disassembler and not done.returncode:
            command = [disassembler, "-c", f"{folder}/kernels.cubin"]
            code = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
            code = demangled(re.sub(r"^\.text\.", ".text ", code, flags=re.M))  # a name begins after a blank
    report = demangled(done.stdout + done.stderr)
    if done.returncode:
        wrong = [line for line in report.splitlines() if "error" in line]
        raise CompileError(f"{source.name}, sm_{arch}: " + "\n".join(wrong or [report]))
    return Compiled(report, code)


def demangled(text: str) -> str:
    return subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True).stdout  # noqa: S607


def parse(report: str) -> Kernels:
    """Registers of a thread and bytes of shared memory of a block, the most among kernels of one name."""
    kernels: Kernels = {}
    name = ""
    for line in report.splitlines():
        if entry := re.search(r"Compiling entry function '(.+)' for 'sm_", line):
            name = short(entry[1])
        elif used := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            budget = kernels.setdefault(name, {"registers": 0, "shared": 0})
            budget["registers"] = max(budget["registers"], int(used[1]))
            budget["shared"] = max(budget["shared"], int(shared[1]) if shared else 0)
    return kernels


def short(name: str) -> str:
    """Our kernels by their struct with its parameters, others by their function alone."""
    if ours := re.search(r"sd::cuda::run<sd::cuda::\(anonymous namespace\)::(\w+(?:<[^>]*>)?)", name):
        return ours[1]
    return name.split("<")[0].split("(")[0].split("::")[-1].split(" ")[-1]


def misses(code: str, kernels: Kernels) -> list[str]:
    """What is wrong with the machine code of a file that holds `kernels`, a line for each of them."""
    lines, unseen = [], set(kernels)
    for part in re.split(r"^\.text (?=.*:$)", code, flags=re.M)[1:]:
        name = short(part.splitlines()[0])
        unseen.discard(name)
        accesses = re.findall(r"\b(LDL|STL|STG|LDG)((?:\.\w+)*)", part)
        if any(kind in ("LDL", "STL") for kind, _ in accesses):
            lines.append(f"{name}: uses local memory")
        widths = Counter((kind, *(re.findall(r"\.(128|64)\b", how) or ["element"])) for kind, how in accesses)
        if vectors := VECTORS.match(name):
            terms = vectors[2]
            if not widths["STG", "128"] or widths["STG", "element"] > (1 if terms else 0):
                lines.append(f"{name}: does not store four elements at once")
            if terms and widths["LDG", "128"] > LOADS_OF_A_TERM * int(terms):
                lines.append(f"{name}: reads more than its {terms} terms")
        elif widths["STG", "128"] < WIDE.get(name, 0):
            lines.append(f"{name}: does not store four elements at once")
    return [*lines, *(f"{name}: its machine code was not found" for name in sorted(unseen))]


def compare(found: dict[str, Kernels], table: dict[str, Kernels]) -> tuple[list[str], bool]:
    """Lines to print, and whether every kernel keeps to its budget. Both: per "file sm_arch"."""
    lines, good = [], True
    for unit in sorted(found.keys() | table.keys()):
        now, then = found.get(unit, {}), table.get(unit, {})
        for name in sorted(now.keys() | then.keys()):
            if name not in now or name not in then:
                lines.append(f"FAILED {unit} {name}: only in {'the code' if name in now else 'the table'}")
                good = False
                continue
            for what in ("registers", "shared"):
                if now[name][what] > then[name][what]:
                    lines.append(f"FAILED {unit} {name}: {what} {now[name][what]}, budget {then[name][what]}")
                    good = False
                elif now[name][what] < then[name][what]:
                    lines.append(
                        f"better {unit} {name}: {what} {now[name][what]}, budget {then[name][what]}: --write it"
                    )
    return lines, good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table instead of comparing with it")
    write = parser.parse_args().write
    kit = toolkit.find()
    if kit is None:
        print("SKIPPED: no nvcc on the PATH, so no kernel was compiled. `make kernels` fetches one.")
        return NOT_RUN
    release = kit.release
    units = [(source, arch) for source in toolkit.SOURCES for arch in ARCHS]
    try:
        with ThreadPoolExecutor(2) as pool:
            compiled = list(pool.map(lambda unit: compile_kernels(kit.nvcc, *unit), units))
    except CompileError as error:
        print(f"FAILED {error}")
        return 1
    made = {f"{source.name} sm_{arch}": each for (source, arch), each in zip(units, compiled, strict=True)}
    found = {unit: parse(each.report) for unit, each in made.items()}
    if any(each.code is None for each in compiled):
        print("The machine code was not read: no nvdisasm on the PATH.")
    wrong = [f"{unit} {line}" for unit, each in made.items() if each.code for line in misses(each.code, found[unit])]
    if wrong:
        print("\n".join(f"FAILED {line}" for line in wrong))
        return 1
    number = sum(len(kernels) for kernels in found.values())
    print(f"{number} kernels for sm_{', sm_'.join(ARCHS)} with nvcc {release}: no spills, no local memory")
    if write:
        TABLE.write_text(json.dumps({"nvcc": release, "kernels": found}, indent=1) + "\n")
        print(f"written: {TABLE.relative_to(ROOT)}")
        return 0
    table = json.loads(TABLE.read_text())
    if table["nvcc"] != release:
        print(f"The table is of nvcc {table['nvcc']}: registers and shared memory were not compared.")
        return 0
    lines, good = compare(found, table["kernels"])
    print("\n".join([*lines, "within the budget" if good else "over the budget"]))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
