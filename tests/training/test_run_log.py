"""The run folder is whole or absent, its logs survive a resume, and progress is plain where nobody watches."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from splatdistill.config import settings
from splatdistill.config.schema import TrainConfig
from splatdistill.io.runs import SPLATS, Run
from splatdistill.training.run_log import RunLog
from splatdistill.utils import provenance
from splatdistill.utils.progress import Progress

CONFIG = TrainConfig(prompt="a café chair", steps=30, seed=5)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_folder_is_complete_from_step_0(tmp_path: Path) -> None:
    RunLog(tmp_path / "a" / "run", CONFIG, command="splatdistill train")
    run = tmp_path / "a" / "run"
    assert [p.name for p in run.parent.iterdir()] == ["run"]
    assert {p.name for p in run.iterdir() if p.is_dir()} == {"checkpoints", "control", "preview", "snapshots"}
    assert settings.merge(TrainConfig(), yaml.safe_load((run / "config.yaml").read_text("utf-8")), where="x") == CONFIG
    assert (run / "command.txt").read_text() == "splatdistill train\n"
    summary = json.loads((run / "summary.json").read_text())
    expected = {"prompt": "a café chair", "method": "sds", "seed": 5, "step": 0, "steps": 30, "num_splats": None}
    assert expected.items() <= summary.items()
    assert {"seconds_total", "seconds_network", "network_share", "dtype", "threads", "commit"} <= set(summary)
    assert summary["versions"]["torch"]
    assert 10 < summary["peak_memory_mb"] < 1e6


def test_a_folder_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError("disk")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="disk"):
        RunLog(tmp_path / "run", CONFIG, command="")
    assert list(tmp_path.iterdir()) == []


def test_logs_are_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "run", CONFIG, command="first")
    for step in (10, 20, 30):
        log.metrics(step, grad_norm=step / 10, nonfinite=0)
        log.event("densify", step=step, num_splats=step)
    log.summary(step=30, num_splats=30, network_share=0.9)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1')  # killed in the middle of a line
    again = RunLog(tmp_path / "run", replace(CONFIG, steps=60), command="second", start_step=20)
    again.metrics(30, grad_norm=float("nan"))
    metrics = lines(tmp_path / "run" / "metrics.jsonl")
    assert [(line["step"], line["grad_norm"]) for line in metrics] == [(10, 1.0), (20, 2.0), (30, None)]
    events = [(line["kind"], line["step"]) for line in lines(tmp_path / "run" / "events.jsonl")]
    assert events == [("densify", 10), ("densify", 20), ("resume", 20)]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["step"], summary["steps"], summary["num_splats"], summary["network_share"]) == (20, 60, 30, 0.9)
    assert (tmp_path / "run" / "command.txt").read_text() == "first\nsecond\n"
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text("utf-8"))["steps"] == 60


def test_the_commit_is_that_of_the_source_tree() -> None:
    assert provenance.commit() is None or re.fullmatch(r"[0-9a-f]{40}", provenance.commit() or "")


def test_progress_is_one_plain_line_per_interval() -> None:
    stream = io.StringIO()
    with Progress(total=25, log_every=10, stream=stream) as progress:
        progress.update(0)
        for step in range(1, 26):
            progress.update(step, num_splats=5000, grad_norm=0.123456)
        assert list(progress.track(iter("abc"), total=3, label="turntable")) == ["a", "b", "c"]
        progress.note("a [word] in brackets")
    shown = stream.getvalue().splitlines()
    assert len(shown) == 5
    for line, step in zip(shown, (10, 20, 25), strict=False):
        assert re.fullmatch(rf"train {step}/25, \d+ s left, num splats 5000, grad norm 0.123", line)
    assert shown[3:] == ["turntable ...", "a [word] in brackets"]


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress(total=10, stream=stream) as progress:
        progress.update(10, num_splats=5000)
        progress.update(10)
        assert list(progress.track([1, 2], total=2, label="turntable")) == [1, 2]
        progress.note("a [word] in brackets")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    for part in ("train", "10/10", "num splats 5000", "turntable", "2/2", "a [word] in brackets"):
        assert part in text


@pytest.mark.parametrize(
    ("last", "done"),
    [
        ('{"kind": "done", "step": 20}', True),
        ('{"kind": "done", "step": 10}', False),
        ('{"kind": "densify", "step": 20}', False),
        ("[]", False),
        ("{", False),
        ("", False),
    ],
)
def test_a_run_is_done_when_its_last_event_says_so(tmp_path: Path, last: str, done: bool) -> None:
    (tmp_path / "events.jsonl").write_text('{"kind": "done", "step": 5}\n' + last + "\n")
    assert not Run(tmp_path).is_done(steps=20), "what it made is not there"
    (tmp_path / SPLATS).write_bytes(b"ply\n")
    assert Run(tmp_path).is_done(steps=20) == done


def test_a_run_without_events_is_not_done(tmp_path: Path) -> None:
    assert not Run(tmp_path).is_done(steps=20)
