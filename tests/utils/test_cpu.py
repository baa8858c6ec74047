"""How threads wait is the user's to say and changes no bit; who waits for a core is counted, and reported once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from splatdistill import cli
from splatdistill.training.run import train
from splatdistill.utils import cpu
from splatdistill.utils.cpu import ENOUGH, SPIN_COUNT, STARVED, Usage, limit_spinning
from splatdistill.utils.progress import Progress
from splatdistill.utils.system import num_cores
from tests.training.test_trainer import SMALL

ROOT = Path(__file__).resolve().parents[2]

MAKE = """
import hashlib, os, sys, tempfile
from dataclasses import replace
from pathlib import Path
from splatdistill.training import checkpoint
from tests.training.test_trainer import SMALL, run

config = replace(SMALL, threads=2, steps=10, splats=replace(SMALL.splats, num_init=3000),
                 densify=replace(SMALL.densify, max_splats=3500), output=replace(SMALL.output, save_every=10))
with tempfile.TemporaryDirectory() as folder:
    run(Path(folder) / "run", config)
    tensors, _, _ = checkpoint.load(Path(folder) / "run" / "checkpoints")
made = b"".join(x.numpy().tobytes() for x in tensors.values())
print(os.environ.get("GOMP_SPINCOUNT"), hashlib.sha256(made).hexdigest())
"""


def python(code: str, **variables: str) -> list[str]:
    """The words that a fresh process prints, in an environment that says nothing else of OpenMP."""
    kept = {name: x for name, x in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment = kept | {"PYTHONPATH": str(ROOT)} | variables
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_limit_is_set_unless_the_user_or_torch_was_first() -> None:
    for given, loaded, expected in (
        ({}, False, {"GOMP_SPINCOUNT": str(SPIN_COUNT)}),
        ({"GOMP_SPINCOUNT": "7"}, False, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "active"}, False, {"OMP_WAIT_POLICY": "active"}),
        ({}, True, {}),
    ):
        environment = dict(given)
        limit_spinning(environment, loaded=loaded)
        assert environment == expected


def test_importing_the_package_sets_it_and_loads_no_torch() -> None:
    show = "import os, sys; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    assert python(f"import splatdistill; {show}") == [str(SPIN_COUNT), "False"]
    assert python(f"import torch, splatdistill; {show}") == ["None", "True"]
    assert python(f"import splatdistill; {show}", OMP_WAIT_POLICY="passive") == ["None", "False"]


def test_a_run_has_the_same_bits_however_its_threads_wait() -> None:
    made = [
        python(MAKE),
        python(MAKE, GOMP_SPINCOUNT="1000"),
        python(MAKE, GOMP_SPINCOUNT="0"),
    ]
    assert [words[0] for words in made] == [str(SPIN_COUNT), "1000", "0"]
    assert len({words[1] for words in made}) == 1


def test_who_shares_a_core_waits_for_it() -> None:
    """Three processes that compute all the time on one core have a third of it each, so each waits for two thirds of
    the time; half of that is asked for here.
    """
    before, core = os.sched_getaffinity(0), min(os.sched_getaffinity(0))
    others = []
    try:
        os.sched_setaffinity(0, {core})
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
        begun = Usage.now()
        if begun.waiting is None:
            pytest.skip("this system does not say how long threads wait for a core")
        started, cpu_started = time.perf_counter(), time.process_time()
        while time.process_time() - cpu_started < 0.5:  # the work is bounded, not the time
            pass
        usage, wall = Usage.now().since(begun), time.perf_counter() - started
    finally:
        os.sched_setaffinity(0, before)
        for process in others:
            process.kill()
            process.wait()
    assert usage.waiting is not None and usage.busy >= 0.5
    assert usage.waiting > (usage.busy + usage.waiting) / 3
    # One thread works here, so it is at any time on a core or ready; 20 ms for what lies between the readings.
    assert usage.busy + usage.waiting < wall + 0.02 + 0.01 * wall


def test_starved_is_a_share_of_the_time_ready() -> None:
    assert not Usage(ENOUGH, 0.0).starved
    assert not Usage(1e3, None).starved  # the system does not say
    busy = 10 * ENOUGH
    limit = STARVED / (1 - STARVED) * busy
    assert Usage(busy, 1.001 * limit).starved and not Usage(busy, 0.999 * limit).starved
    assert not Usage(ENOUGH / 4, ENOUGH / 2).starved  # too early to say


def test_a_starved_run_says_so_once_and_counts_on_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter(range(10**6))

    def now() -> Usage:
        second = float(next(seconds))
        return Usage(10 * second, 30 * second)

    monkeypatch.setattr(cpu.Usage, "now", now)
    for steps in (20, 40):
        with Progress(total=steps) as progress:
            train(replace(SMALL, steps=steps), folder=tmp_path / "run", progress=progress, resume=steps == 40)
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert summary["seconds_waiting"] == pytest.approx(3 * summary["seconds_cpu"])
        events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
        warned = [event["message"] for event in events if event["kind"] == "warning"]
        assert len(warned) == steps // 20 and "75% of the time" in warned[0]  # once in each process
        assert capsys.readouterr().err.count(f"Note: {warned[0]}\n") == 1


def test_more_threads_than_cores_is_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    from splatdistill.commands.common import about_threads

    cores = num_cores()
    assert about_threads(0) == about_threads(cores) == about_threads(1, runs=cores) == []
    assert f"{cores + 1} threads share the {cores} core" in about_threads(cores + 1)[0]
    assert f"{cores} runs with 2 threads each" in about_threads(2, runs=cores)[0] or cores == 1
    words = ["train", "--prompt", "a red ball", "--threads", "1025"]
    assert cli.main(words) == cli.USAGE
    assert capsys.readouterr().err == "splatdistill: threads must be within 0 and 1024; it is 1025.\n"
