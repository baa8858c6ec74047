"""How much memory may still be taken, and what is done when there is none."""

from __future__ import annotations

import math
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from splatdistill import cli
from splatdistill.priors.offload import MicroBatches
from splatdistill.utils import memory
from tests.packaging.audit import ROOT

GIB = 1 << 30
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), resource.RLIM_INFINITY))
from splatdistill import cli
sys.exit(cli.main(sys.argv[2:]))
"""


def machine(root: Path, *, free: int, groups: str = "", files: dict[str, str] | None = None) -> Path:
    """The files of a system in which so many bytes are free."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable: {free // 1024} kB\nSwapFree: 0 kB\n")
    (root / "proc/self/status").write_text("Name:\tpython\nVmSize:\t 1024 kB\n")
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in (files or {}).items():
        (root / "sys/fs/cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "sys/fs/cgroup" / name).write_text(text)
    return root


def test_the_machine_alone(tmp_path: Path) -> None:
    assert memory.available(machine(tmp_path, free=8 * GIB)) == 8 * GIB
    assert memory.available(tmp_path / "nothing") == math.inf


@pytest.mark.parametrize("outer", ["max", str(3 * GIB)])
def test_a_group_of_the_second_kind_and_the_one_around_it(tmp_path: Path, outer: str) -> None:
    files = {
        "a/b/memory.max": str(4 * GIB), "a/b/memory.current": str(3 * GIB), "a/b/memory.stat": f"inactive_file {GIB}\n",
        "a/memory.max": outer, "a/memory.current": str(5 * GIB // 2), "a/memory.stat": "",
    }  # fmt: skip
    found = memory.available(machine(tmp_path, free=8 * GIB, groups="0::/a/b\n", files=files))
    assert found == (2 * GIB if outer == "max" else GIB // 2)


def test_a_group_of_the_first_kind(tmp_path: Path) -> None:
    files = {
        "memory/a/memory.limit_in_bytes": str(2 * GIB), "memory/a/memory.usage_in_bytes": str(GIB),
        "memory/a/memory.stat": "total_inactive_file 1024\n", "memory/memory.usage_in_bytes": "1",
        "memory/memory.limit_in_bytes": "9223372036854771712",
    }  # fmt: skip
    groups = "9:name=systemd:/\n4:cpu,memory:/a\n0::/\n"
    assert memory.available(machine(tmp_path, free=8 * GIB, groups=groups, files=files)) == GIB + 1024


def test_the_limit_of_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (GIB, -1))
    assert memory.available(machine(tmp_path, free=8 * GIB)) == GIB - (1 << 20)


def test_rows_are_halved_where_a_processor_has_too_little() -> None:
    """torch's error on a CPU is a RuntimeError like any other."""
    asked: list[int] = []

    def call(part: slice) -> torch.Tensor:
        asked.append(part.stop - part.start)
        if asked[-1] > 2:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tr"
            )
        return torch.arange(8)[part]

    assert MicroBatches().run(call, 8).tolist() == list(range(8)) and asked == [8, 4, 2, 2, 2, 2]
    with pytest.raises(RuntimeError, match="something else"):
        MicroBatches().run(lambda part: (_ for _ in ()).throw(RuntimeError("something else")), 8)


def test_what_torch_says_on_a_processor_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 58, dtype=torch.uint8)
    assert memory.ran_out(caught.value) and memory.ran_out(MemoryError()) and not memory.ran_out(ValueError("x"))


def test_pictures_that_cannot_fit_are_refused_with_what_can(tmp_path: Path) -> None:
    """Under `ulimit -v`, before anything is made."""
    words = ["train", "--prompt", "a red ball", "--prior", "analytic", "--device", "cpu", "--steps", "1", "--num-views"]
    words += ["64", "--out", str(tmp_path), "--name", "run", "--output.frames", "1", "--splats.num-init", "20"]

    def run(size: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", LIMITED, str(6 * GIB), *words, "--size", str(size)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    done = run(4096)
    assert done.returncode == cli.USAGE and not (tmp_path / "run").exists()
    said = re.fullmatch(
        r"splatdistill: size: the pictures of a step with 64 views of 4096 pixels a side take at least 34\.4 GB, and "
        r"(\S+) GB are free here; take a --size of at most (\d+), or fewer --num-views\.\n",
        done.stderr,
    )
    assert said, done.stderr
    assert 0 < float(said[1]) < 6 * GIB / 1e9 and 0 < int(said[2]) < 4096
