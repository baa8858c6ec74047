"""The torch-free program of csrc/cpu/check on this processor: every CPU kernel at every level, and that it can fail.

`make check-aarch64` and `make check-x86-64` run the same program under emulation.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from splatdistill import ops
from tests.ops import kernels

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "csrc" / "cpu" / "check" / "run.py"

pytestmark = pytest.mark.xdist_group("cpu_check")  # one worker compiles, in build/check, where it stays


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(RUN), *arguments], capture_output=True, text=True)


def test_every_kernel_at_every_level() -> None:
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    for level in ops.build_info()["simd_levels"]:
        assert f"\n{level} " in done.stdout  # checked, or said not to be on this processor
    assert f"in use: {ops.build_info()['simd_level']};" in done.stdout


@pytest.mark.parametrize("kernel", kernels.on_cpu())
def test_a_wrong_result_is_noticed(kernel: str) -> None:
    done = run("--", "--plant", kernel)
    assert done.returncode == 1, done.stdout + done.stderr
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert failures and all(f", {kernel}: " in line for line in failures), done.stdout + done.stderr


def test_an_unknown_machine_or_argument_is_refused() -> None:
    unknown = run("--machine", "sparc64")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "no cross compiler for sparc64" in unknown.stderr
    mixed = run("--compiler", "clang", "--cpu", "Haswell")
    assert mixed.returncode == 2 and "--compiler is for this machine" in mixed.stderr
    assert run("--", "--plant").returncode == 2
    assert run("--", "--plant", "nothing").returncode == 2
