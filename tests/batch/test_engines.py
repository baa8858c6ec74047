"""A prompt gives the same asset whoever makes it and whoever is killed on the way; none is lost, none made twice."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from splatdistill import cli
from tests.batch.commands import events, finish, half_way, hashes, make_here, records, start, wait_for, write_prompts
from tests.batch.test_cluster import needs_ray

pytestmark = pytest.mark.xdist_group("batch")  # what one process makes is made once


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one process makes of 12 prompts, one after another."""
    folder = tmp_path_factory.mktemp("alone")
    assert make_here(write_prompts(folder / "prompts.yaml", count=12), folder / "out") == cli.DONE
    found = hashes(folder / "out")
    assert len(set(found.values())) == len(found) == 12  # two have the same prompt
    return found


def check(out: Path, alone: dict[str, str], *, count: int, tries: dict[str, int]) -> None:
    """All are done, once, and equal those of one process; only those that were killed went on from a checkpoint."""
    made = hashes(out)
    assert len(made) == count and made.items() <= alone.items()
    for run, record in records(out).items():
        assert record["state"] == "done"
        assert record["tries"] == tries.get(run, 1)
        assert events(out, run).count("done") == 1
        assert "resume" not in events(out, run) or run in tries


def test_a_worker_and_then_the_command_are_killed(alone: dict[str, str], tmp_path: Path) -> None:
    prompts, out = write_prompts(tmp_path / "prompts.yaml", count=5), tmp_path / "out"
    command = start(prompts, out, "--workers", "2")
    victim = wait_for(lambda: half_way(out), command)[0]
    os.kill(victim["pid"], signal.SIGKILL)
    wait_for(lambda: records(out)[victim["run"]]["tries"] == 2, command)
    command.kill()
    again = start(prompts, out, "--workers", "1")
    command.communicate()
    finish(again)
    tries = {run: record["tries"] for run, record in records(out).items() if record["tries"] > 1}
    assert tries[victim["run"]] == 3
    assert "resume" in events(out, victim["run"])
    check(out, alone, count=5, tries=tries)


def test_a_command_that_is_told_to_end_saves_its_runs(tmp_path: Path) -> None:
    prompts, out = write_prompts(tmp_path / "prompts.yaml", count=2), tmp_path / "out"
    command = start(prompts, out, "--workers", "1")
    (record,) = wait_for(lambda: half_way(out), command)
    command.terminate()
    command.communicate()
    assert command.returncode == 143
    assert events(out, record["run"])[-1] == "stop"
    saved = json.loads((out / record["run"] / "events.jsonl").read_text().splitlines()[-1])["step"]
    assert (out / record["run"] / "checkpoints" / "latest").read_text() == f"step_{saved:06d}"
    assert [x["state"] for x in records(out).values()] == ["waiting", "waiting"]
    assert "2 waiting" in (out / "report.html").read_text()


def test_two_ranks_share_the_prompts(alone: dict[str, str], tmp_path: Path) -> None:
    prompts, out = write_prompts(tmp_path / "prompts.yaml", count=4), tmp_path / "out"
    for rank, done in ((1, 2), (0, 4)):
        assert make_here(prompts, out, RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank)) == cli.DONE
        assert [record["state"] for record in records(out).values()].count("done") == done
    check(out, alone, count=4, tries={})
    page = (out / "report.html").read_text()  # of whichever rank came last
    assert all(f"{run}/contact.png" in page for run in records(out))


@pytest.mark.slow
def test_two_ray_workers_of_which_one_is_killed(alone: dict[str, str], tmp_path: Path) -> None:
    needs_ray()
    prompts, out = write_prompts(tmp_path / "prompts.yaml", count=12), tmp_path / "out"
    command = start(prompts, out, "--engine", "ray", "--workers", "2")
    victim = wait_for(lambda: half_way(out), command)[0]
    os.kill(victim["pid"], signal.SIGKILL)
    finish(command)
    assert "resume" in events(out, victim["run"])
    check(out, alone, count=12, tries={victim["run"]: 2})
