"""Which flags the CPU kernels get on which machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.audit import ROOT

sys.path.insert(0, str(ROOT / "csrc" / "cpu"))
import build_kernels

PRETENDED = """
import platform, sys
platform.machine = lambda: {machine!r}
sys.argv = ["setup.py", "--version"]
scope = {{"__file__": "setup.py", "__name__": "__main__"}}
exec(compile(open("setup.py").read(), "setup.py", "exec"), scope)
print(" ".join(scope["LEVELS"]))
"""


def flags(machine: str) -> list[str]:
    return [flag for _, _, extra in build_kernels.jobs(Path("build"), machine) for flag in extra]


@pytest.mark.parametrize(
    ("machine", "levels"),
    [
        ("x86_64", ["generic", "x86_64_v3", "x86_64_v4"]),
        ("AMD64", ["generic", "x86_64_v3", "x86_64_v4"]),
        ("aarch64", ["generic", "neon"]),
        ("arm64", ["generic", "neon"]),
        ("riscv64", ["generic"]),
    ],
)
def test_every_machine_has_its_levels_and_no_flags_of_another(machine, levels):
    assert list(build_kernels.levels(machine)) == levels
    assert any(flag.startswith("-march=x86") for flag in flags(machine)) == ("x86_64_v3" in levels)
    assert ("-DSD_X86_LEVELS" in flags(machine)) == ("x86_64_v3" in levels)
    assert ("-DSD_ARM_LEVELS" in flags(machine)) == ("-DSD_NEON" in flags(machine)) == ("neon" in levels)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "riscv64"])
def test_every_kernel_is_compiled_once_for_each_level(machine):
    jobs = build_kernels.jobs(Path("build"), machine)
    targets = [target for _, target, _ in jobs]
    assert len(set(targets)) == len(targets)
    assert len(jobs) == len(build_kernels.KERNELS) * len(build_kernels.levels(machine)) + len(build_kernels.COMMON)
    for source, _, extra in jobs:
        assert ("-ffp-contract=off" in extra) == (source.name in build_kernels.UNFUSED)


def test_no_source_is_forgotten():
    named = {*build_kernels.KERNELS, *build_kernels.COMMON}
    assert {path.name for path in build_kernels.FOLDER.glob("*.cpp")} == named


@pytest.mark.parametrize(("machine", "levels"), [("aarch64", "generic neon"), ("riscv64", "generic")])
def test_setup_chooses_by_machine(machine, levels):
    code = PRETENDED.format(machine=machine)
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == levels
