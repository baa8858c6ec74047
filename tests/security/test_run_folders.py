"""A run folder of a stranger: links, pipes and devices are not followed; damaged files are one sentence or nothing."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from splatdistill import cli
from splatdistill.batch.ledger import Ledger
from splatdistill.io.runs import METRICS, Run, Tail
from splatdistill.training.remote_control import RemoteControl
from splatdistill.training.run_log import MemoryLog
from splatdistill.viewer.export_html import page_of
from splatdistill.viewer.rundir import Item
from tests.io.scenes import knot
from tests.viewer.serving import make_run

STRANGE = ("link", "pipe", "device", "folder", "circle")
LOGS = ("metrics.jsonl", "events.jsonl", "summary.json", "command.txt")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """A run, beside a secret; whatever waits for ever ends after a while."""
    make_run(tmp_path / "run", knot(20), done=False).close()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_text('{"step": 1, "secret": 1}\n')
    signal.alarm(120)
    yield tmp_path / "run"
    signal.alarm(0)


def put(path: Path, kind: str) -> None:
    """Something strange in the place of a file."""
    path.unlink(missing_ok=True)
    secret = path.parents[1] / "secret" / "file"
    {
        "link": lambda: path.symlink_to(secret),
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
        "circle": lambda: path.symlink_to(path.name),
    }[kind]()


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("name", LOGS)
def test_strange_logs_are_empty_to_who_reads_and_refused_to_who_writes(
    run: Path, name: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(run / name, kind)
    assert "secret" not in json.dumps(Item(run).manifest())
    assert Tail(run / name).read() == (False, [])
    assert cli.main(["train", "--resume", str(run)]) == cli.USAGE
    said = capsys.readouterr().err
    assert said == f"splatdistill: {run / name} is a link out of the run, or no file; take it away.\n"


@pytest.mark.parametrize("name", ["control", "checkpoints", "snapshots", "preview"])
def test_a_folder_that_is_a_link_loses_nothing(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (run / name).rename(run / "old")
    (run / name).symlink_to(run.parent / "secret")
    item = Item(run)
    item.watch()
    for request in ("pause", "stop", "save", "resume"):
        item.ask(request)
    assert item.manifest()["asked"] == ([] if name == "control" else ["save", "stop"])
    assert cli.main(["train", "--resume", str(run)]) == cli.USAGE
    said = capsys.readouterr().err
    assert said == f"splatdistill: {run / name} is a link or no folder; put a folder of the run there.\n"
    assert [path.name for path in (run.parent / "secret").iterdir()] == ["file"]


def test_a_page_of_its_own_follows_no_link(run: Path) -> None:
    for name, kind in zip(LOGS, ("device", "pipe", "link", "link"), strict=True):
        put(run / name, kind)
    assert b"secret" not in page_of(Item(run))


def test_a_page_writes_through_no_link(run: Path) -> None:
    (run / "control" / "stop").symlink_to(run.parent / "secret" / "new")
    (run / "control" / "watch").symlink_to(run.parent / "secret" / "file")
    os.utime(run.parent / "secret" / "file", (5, 5))
    item = Item(run)
    item.watch()
    item.ask("stop")
    assert [path.name for path in (run.parent / "secret").iterdir()] == ["file"]
    assert (run.parent / "secret" / "file").stat().st_mtime == 5


def test_requests_that_are_folders_do_not_end_a_training(run: Path) -> None:
    for name in ("stop", "pause", "watch"):
        (run / "control" / name).mkdir()
    control = RemoteControl(run, MemoryLog())
    assert not control.obey(knot(5), step=1)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", "null", '{"kind": [], "step": 1}', '{"kind": {}, "step": 10}', '{"step": ' + "9" * 5000 + "}",
     "[" * 50_000, "\udcff", '{"seconds_total": "x"}', '{"step": 1e400}'],
)  # fmt: skip
def test_damaged_records_are_left_out(run: Path, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape") + b"\n"
    for name in ("events.jsonl", "metrics.jsonl", "summary.json"):
        (run / name).write_bytes(data)
    json.dumps(Item(run).manifest(), allow_nan=True)
    assert not Run(run).is_done(steps=100)
    Tail(run / METRICS).read()
    (run.parent / "ledger").mkdir()
    ledger = Ledger(run.parent)
    (ledger.folder / "run.json").write_bytes(data)
    ledger.read("run")
    assert ledger.update("run", state="done")["state"] == "done"
    (ledger.folder / ".precision.json").write_bytes(data)
    ledger.settle("precision", lambda: {})


def test_settings_that_no_camera_has_show_a_page(run: Path) -> None:
    (run / "config.yaml").write_text("camera: {fovy_deg: [1.0e-300, 1.0e-300], fill: [1.0e-300, 1.0e-300]}\n")
    assert json.dumps(Item(run).manifest(), allow_nan=False)
