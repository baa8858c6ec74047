"""Whatever of a run folder is damaged or strange, every verb gives the right result or one sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from splatdistill import cli
from splatdistill.batch.ledger import Ledger
from splatdistill.io.records import json_object
from splatdistill.io.runs import Run
from tests.security.damage import VALUES, damage
from tests.security.verbs import DONE, HALF, READING, VERBS, End, Verbs

CASES = 30  # `make soak` has 2000


@pytest.fixture(scope="module")
def verbs(tmp_path_factory: pytest.TempPathFactory) -> Verbs:
    return Verbs(tmp_path_factory.mktemp("verbs"))


@pytest.mark.parametrize("index", range(CASES))
def test_any_damage_is_told_or_changes_nothing(verbs: Verbs, index: int) -> None:
    what, faults = verbs.case(seed=1, index=index)
    assert not any(faults.values()), (what, faults)
    assert [path.name for path in (verbs.folder / "secret").iterdir()] == ["file"]
    assert (verbs.folder / "secret" / "file").read_text() == '{"step": 1, "secret": 1}\n'


def test_a_fault_is_found(verbs: Verbs) -> None:
    """Ends that no verb may have, as they would be seen."""
    good = verbs.wanted["export"]
    for end in (
        End(good.code, good.said, "another"),
        End(cli.FAILED, "splatdistill: failed with KeyError: 'x' (--debug shows where)\n"),
        End(cli.FAILED, "failed: a ball (a-half): [Errno 2] No such file\n"),
        End(cli.USAGE, "something\n"),
        End(-9, ""),
    ):
        assert verbs.fault("export", end, f"{HALF}/events.jsonl")
    assert not verbs.fault("export", good, f"{HALF}/events.jsonl")
    assert not verbs.fault("export", End(good.code, "", "another"), f"{HALF}/splats.ply")


def test_damage_is_a_function_of_its_number(tmp_path: Path) -> None:
    """Of as many kinds as there are, to every file: else the numbers of cases would say nothing."""
    done = set()
    for index in range(400):
        root = tmp_path / str(index)
        (root / "out" / "run").mkdir(parents=True)
        (root / "out" / "run" / "summary.json").write_text('{"a": {"b": [1]}}')
        done.add(damage(root / "out", ("run",), seed=3, index=index))
    assert len({what for name, what in done if name == "run/summary.json"}) > len(VALUES)
    assert {"run", "run/summary.json", "run/control/stop"} <= {name for name, _ in done}


@pytest.mark.parametrize(
    "value", ["NaN", "1e400", "9" * 400, '"\\ud800"', "[" * 20 + "]" * 20, '{"a": ' * 9 + "1" + "}" * 9]
)
def test_records_can_be_added_up_and_written_again(value: str) -> None:
    found = json_object(f'{{"x": {value}, "y": 1}}')
    assert found["y"] == 1
    json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    assert isinstance(found["x"], str | list | dict | None)


@pytest.mark.parametrize("name", ["ledger", ".b-done.lock"])
def test_a_batch_writes_through_no_link(verbs: Verbs, name: str) -> None:
    secret = verbs.folder / "secret"

    def change(out: Path) -> None:
        path = out / name if name == "ledger" else out / "ledger" / name
        path.rename(out / "old") if path.exists() else None
        path.symlink_to(secret if name == "ledger" else secret / "file")
        (out / DONE / "events.jsonl").write_text("")

    end = verbs.end("batch", change)
    assert end.code in (cli.FAILED, cli.USAGE)
    assert "is a link, no folder" in end.said or "cannot be written to" in end.said
    assert [path.name for path in secret.iterdir()] == ["file"] and (secret / "file").stat().st_size


def test_splats_that_are_gone_are_made_again_and_changed_ones_stay(verbs: Verbs) -> None:
    out = verbs.folder / "work" / "out"
    splats = Path(DONE, "splats.ply")
    assert verbs.end("batch", lambda out: (out / splats).unlink()).result == verbs.wanted["batch"].result
    end = verbs.end("batch", lambda out: (out / splats).write_bytes(b"my own work"))
    assert end.code == cli.DONE and "b-done/splats.ply is not what the run ended with" in end.said
    assert (out / splats).read_bytes() == b"my own work"


def test_facts_of_another_kind_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(
        '{"seconds_total": "x", "method": 3, "versions": [], "steps": true, "mine": 1}'
    )
    assert Run(tmp_path).summary() == {"mine": 1}
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "run.json").write_text('{"seconds": "x", "state": {}, "tries": true, "host": "here"}')
    assert Ledger(tmp_path).read("run") == {"host": "here"}


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb in (*READING, "train --resume")])
def test_what_may_not_be_read_is_told(verbs: Verbs, verb: str) -> None:
    """By an ordinary user; root reads all."""
    names = {"train --resume": "metrics.jsonl", "render": "config.yaml", "eval": "config.yaml"}
    end = verbs.end(verb, lambda out: os.chmod(out / HALF / names.get(verb, "splats.ply"), 0))
    if verb != "view":
        assert end.code == cli.USAGE and ("can be read" in end.said or "may not be read" in end.said)
