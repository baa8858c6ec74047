"""Races in the CUDA kernels, without a GPU: threads of the host take the place of a block's, under ThreadSanitizer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ops import kernels
from tests.packaging.audit import ROOT

sys.path.insert(0, str(ROOT / "csrc" / "cuda" / "check"))
import build

THREADS = ("-fsanitize=thread", "-DSD_HOST_THREADS", "-O1", "-g1")
RACE = "WARNING: ThreadSanitizer: data race"


def ran(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TSAN_OPTIONS": "exitcode=66"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("words", [[], ["blocks"]], ids=["within a block", "between blocks"])
def test_a_planted_race_is_found(words: list[str], tmp_path: Path) -> None:
    program = tmp_path / "race"
    compiler = os.environ.get("CXX", "c++")
    source = Path(__file__).with_name("cuda_race.cpp")
    subprocess.run([compiler, "-std=c++17", *THREADS, str(source), "-o", str(program)], check=True)
    found = ran(str(program), *words)
    assert found.returncode == 66 and RACE in found.stderr


@pytest.mark.slow
@pytest.mark.xdist_group("cuda_host")
def test_the_kernels_have_no_race_and_are_right_on_threads(tmp_path: Path) -> None:
    """Every kernel on the inputs of the check program, so every barrier that is needed is there."""
    program = tmp_path / "check"
    build.build(program, host=True, extra=THREADS)
    done = ran(str(program), "--small", "--no-timings")
    assert RACE not in done.stderr and done.returncode == 0, done.stderr[:4000]
    counts = [line for line in map(json.loads, done.stdout.splitlines()) if "checks" in line]
    assert len(counts) == len(kernels.on_cuda()) and all(line["checks"] and not line["failed"] for line in counts)
