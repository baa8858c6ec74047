"""The program that holds CUDA kernels against their CPU twins, built for a host: it agrees, and sees planted faults."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ops import kernels
from tests.packaging.audit import ROOT

pytestmark = [pytest.mark.xdist_group("cuda_host"), pytest.mark.slow]
KERNELS = kernels.on_cuda()
TIMED = {"residual", "noising", "gram", "statistics", "scatter", "check", "update", "classify"}
FAULTS = [
    ("residual.cu", "grad.v[j] = g.value * scale;", "grad.v[j] = g.value * scale * T(1.0001);", {"residual"}),
    ("gram.cu", "if (p.thread < left) s.sums", "if (p.thread + 1 < left) s.sums", {"gram"}),
    ("densify.cu", "if (rank < room) continue;", "if (rank <= room) continue;", {"masks"}),
    ("residual.cu", "take_ticket(a.ticket, 1) + 1 ==", "take_ticket(a.ticket, 1) + 2 ==", {"residual"}),
    ("update.cu", "if (*a.update.skip) return;", "", {"update"}),
    ("update.cu", "0 : kFound;", "0 : 0;", {"check"}),
]


def built(tree: Path, target: Path) -> Path:
    build = tree / "csrc" / "cuda" / "check" / "build.py"
    subprocess.run([sys.executable, str(build), str(target), "--host"], check=True, capture_output=True)
    return target


def ran(program: Path, *words: str) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run([str(program), *words], capture_output=True, text=True, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_kernels_agree_with_their_twins_and_are_timed(tmp_path: Path) -> None:
    program = built(ROOT, tmp_path / "check")
    code, lines = ran(program)
    assert code == 0 and not [line for line in lines if "failure" in line]
    assert {line["values"] for line in lines if line.get("checks", 0) > 10} == KERNELS
    timed = [line for line in lines if "timing" in line]
    assert {line["timing"].split()[0] for line in timed} == TIMED
    assert all(line["ours_ms"] > 0 and line["copy_ms"] > 0 for line in timed)
    code, lines = ran(program, "--small", "--no-timings")
    assert code == 0 and not [line for line in lines if "timing" in line]
    assert ran(program, "--large")[0] == 2


@pytest.mark.parametrize(("file", "right", "wrong", "seen"), FAULTS)
def test_a_planted_fault_is_seen(file: str, right: str, wrong: str, seen: set[str], tmp_path: Path) -> None:
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    source = tmp_path / "csrc" / "cuda" / file
    assert source.read_text().count(right) == 1
    source.write_text(source.read_text().replace(right, wrong))
    code, lines = ran(built(tmp_path, tmp_path / "check"), "--small", "--no-timings")
    failed = {line["values"] for line in lines if line.get("failed")}
    assert failed == seen and code == 1
