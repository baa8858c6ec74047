"""Which flags the CPU kernels get on which machine, and builds that were killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
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
chosen = scope["build_kernels"]
chosen.compile_all = lambda build, commands, jobs: [flag for _, _, flags in jobs for flag in flags]
found = scope["kernel_objects"](scope["ROOT"], "c++")
print(*dict.fromkeys(flag.partition("=")[2] for flag in found if flag.startswith("-DSD_SIMD_LEVEL=")))
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
    assert list(build_kernels.simd_levels(machine)) == levels
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
        assert {count for count in counts.values() if count > 1} == {len(build_kernels.simd_levels(machine))}
    for source, _, extra in jobs:
        assert any(flag.startswith("-DSD_SIMD_LEVEL=") for flag in extra) == (
            "namespace sd::cpu::SD_SIMD_LEVEL" in source.read_text()
        )


def test_flags_are_those_of_the_compiler_and_the_system() -> None:
    gcc, apple = build_kernels.flags("/usr/bin/g++-12", "Linux"), build_kernels.flags("clang++", "Darwin")
    windows = build_kernels.flags("clang++.exe", "Windows")
    assert set(gcc) - set(windows) == {"-fPIC"} and set(windows) <= set(gcc)
    assert apple[apple.index("-fopenmp") - 1] == "-Xpreprocessor"  # as Apple's Clang wants it
    assert set(apple) - {"-Xpreprocessor"} == set(gcc)
    for name in ("cl", "C:\\x\\cl.exe".replace("\\", "/"), "clang-cl.exe"):
        with pytest.raises(ValueError, match=r"^CXX: the kernels are for GCC and Clang, .*; take clang\+\+\.$"):
            build_kernels.flags(name, "Windows")


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


@pytest.fixture
def compiled(tmp_path, monkeypatch, capfd):
    """Compiles three files and returns how many of them ninja found to be out of date."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")  # for ninja
    for name in "abc":
        (tmp_path / f"{name}.cpp").write_text(f"#include <cstddef>\nint {name} = 1;\n")
    jobs = [(tmp_path / f"{name}.cpp", tmp_path / "build" / f"{name}.o", []) for name in "abc"]

    def compile_all(compiler="c++"):
        build_kernels.compile_all(tmp_path / "build", {".cpp": [compiler]}, jobs)
        return capfd.readouterr().out.count(" -c ")

    return compile_all


def test_a_log_of_two_writers_is_thrown_away_and_all_is_compiled_once(tmp_path, compiled):
    """Ninja itself reads such a log to the damaged place, and compiles what comes after it, at every call."""
    assert [compiled(), compiled()] == [3, 0]
    log = tmp_path / "build" / ".ninja_deps"
    first, second = ((~number & 0xFFFFFFFF).to_bytes(4, "little") for number in (0, 1))
    assert log.read_bytes().count(second) == 1
    log.write_bytes(log.read_bytes().replace(second, first))  # both have given the same number to a file
    assert [compiled(), compiled()] == [3, 0]


@pytest.mark.parametrize("log", [".ninja_deps", ".ninja_log"])
def test_a_log_that_was_cut_is_made_whole(tmp_path, compiled, log):
    compiled()
    path = tmp_path / "build" / log
    path.write_bytes(path.read_bytes()[:-9])
    assert compiled() > 0
    compiled()  # ninja mends .ninja_log in two calls
    assert compiled() == 0


def test_a_compiler_that_fails_ends_the_build(compiled):
    with pytest.raises(subprocess.CalledProcessError):
        compiled("false")


def test_two_builds_in_one_folder_wait_for_each_other(tmp_path, compiled, monkeypatch):
    monkeypatch.setenv("MAX_JOBS", "1")
    compiler = tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\nmkdir {tmp_path}/busy && sleep 0.2 && rmdir {tmp_path}/busy && exec c++ "$@"\n')
    compiler.chmod(0o755)
    failed = []

    def build():
        try:
            compiled(str(compiler))
        except subprocess.CalledProcessError as error:
            failed.append(error)

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and not (tmp_path / "busy").exists()
