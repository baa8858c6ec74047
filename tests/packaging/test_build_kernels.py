"""Which flags the CPU kernels get on which machine."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
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
def test_every_source_is_compiled_once_or_once_for_each_level(machine):
    jobs = build_kernels.jobs(Path("build"), machine)
    targets = [target for _, target, _ in jobs]
    assert len(set(targets)) == len(targets) and targets == sorted(targets, key=lambda path: path.name.split(".")[0])
    counts = Counter(source for source, _, _ in jobs)
    assert set(counts) == set(build_kernels.FOLDER.glob("*.cpp"))
    several = {source.name for source, count in counts.items() if count > 1}
    if machine != "riscv64":
        assert {"blend.cpp", "project.cpp", "residual.cpp", "tile_rows.cpp"} <= several
        assert {count for count in counts.values() if count > 1} == {len(build_kernels.levels(machine))}
    for source, _, extra in jobs:
        assert any(flag.startswith("-DSD_LEVEL=") for flag in extra) == (
            "namespace sd::cpu::SD_LEVEL" in source.read_text()
        )


def test_only_the_rasteriser_may_fuse_operations():
    jobs = build_kernels.jobs(Path("build"), "x86_64")
    fused = {source.name for source, _, extra in jobs if "-ffp-contract=off" not in extra}
    assert fused == {"blend.cpp", "blend_backward.cpp", "project.cpp", "project_backward.cpp", "raster.cpp",
                     "tile_rows.cpp", "tiles.cpp"}  # fmt: skip


@pytest.mark.parametrize(("machine", "levels"), [("aarch64", "generic neon"), ("riscv64", "generic")])
def test_setup_chooses_by_machine(machine, levels):
    code = PRETENDED.format(machine=machine)
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == levels
