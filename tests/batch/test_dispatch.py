"""Whatever becomes of single tries, every job ends once: done, or failed after as many tries as allowed."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splatdistill.batch.dispatch import Outcome, work
from splatdistill.batch.ledger import DONE, FAILED, WAITING, Ledger
from splatdistill.batch.plan import Job
from splatdistill.batch.progress_board import ProgressBoard
from splatdistill.config.schema import TrainConfig
from splatdistill.io.runs import Run

OUTCOMES = {
    "done": Outcome(2.0),
    "bad input": Outcome(error="It is bad."),
    "death": Outcome(error="Its worker was ended by SIGKILL.", again=True),
}


class Scripted:
    """Workers whose jobs end as the script says, the last word for good."""

    def __init__(self, script: dict[str, list[str]], *, ledger: Ledger, count: int) -> None:
        self.starts: Counter[str] = Counter()
        self._script, self._ledger, self._count, self._jobs = script, ledger, count, list[Job]()

    @property
    def idle(self) -> int:
        return self._count - len(self._jobs)

    @property
    def busy(self) -> int:
        return len(self._jobs)

    def start(self, job: Job) -> None:
        assert self.idle and job not in self._jobs
        self.starts[job.run] += 1
        self._jobs.append(job)

    def wait(self, seconds: float) -> list[tuple[Job, Outcome]]:
        job = self._jobs.pop()
        words = self._script[job.run]
        outcome = OUTCOMES[words[min(self.starts[job.run], len(words)) - 1]]
        if outcome.error is None:
            self._ledger.update(job.run, state=DONE)
        return [(job, outcome)]


@given(
    st.lists(st.lists(st.sampled_from(sorted(OUTCOMES)), min_size=1, max_size=4), max_size=6),
    st.integers(1, 3),
    st.integers(0, 2),
)
def test_every_job_ends_once(script: list[list[str]], count: int, retries: int) -> None:
    with TemporaryDirectory() as folder:
        out = Path(folder)
        ledger = Ledger(out)
        ledger.folder.mkdir()
        jobs = [Job(str(i), TrainConfig(prompt=f"prompt {i}"), "") for i in range(len(script))]
        pool = Scripted({str(i): words for i, words in enumerate(script)}, ledger=ledger, count=count)
        with ProgressBoard(jobs, total=len(jobs), out=out, stream=io.StringIO()) as progress:
            failed = work(jobs, pool, ledger=ledger, retries=retries, progress=progress)
        for job, words in zip(jobs, script, strict=True):
            tried = [*words, *[words[-1]] * retries][: retries + 1]
            end = next((i for i, word in enumerate(tried) if word != "death"), retries)
            assert pool.starts[job.run] == end + 1
            assert (job.run in failed) == (tried[end] != "done")
            assert ledger.read(job.run)["state"] == (FAILED if job.run in failed else DONE)


def test_a_board_tells_what_ended_and_what_is_left(tmp_path: Path) -> None:
    jobs = [Job(name, TrainConfig(prompt=f"{name} [red]", steps=100), "") for name in "abc"]
    stream = io.StringIO()
    with ProgressBoard(jobs, total=4, out=tmp_path, stream=stream) as progress:
        assert progress.summary() == "1 of 4 done, 3 waiting"
        for job in jobs[:2]:
            progress.started(job)
        progress.done(jobs[0], seconds=140.0)
        progress.failed(jobs[1], error="No.", again=True)
        progress.started(jobs[1])
        progress.failed(jobs[1], error="No.", again=False)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("a [red] (a): done, 2 min; 2 of 4 done, 1 waiting, ") and lines[0].endswith(" left")
    assert lines[1].startswith("b [red] (b): to be tried again: No.; 2 of 4 done")
    assert lines[2].startswith("b [red] (b): failed: No.; 2 of 4 done, 1 failed, 1 waiting")


def test_on_a_terminal_there_is_a_table(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    (tmp_path / "a").mkdir()
    stream = Terminal()
    jobs = [Job(name, TrainConfig(prompt=f"{name} [red] ball", steps=100), "") for name in "ab"]
    with ProgressBoard(jobs, total=2, out=tmp_path, stream=stream) as progress:
        progress.started(jobs[0])
        (tmp_path / "a" / "metrics.jsonl").write_text('{"step": 40}\n{"step": 5')
        progress.draw()
        progress.started(jobs[1])
        progress.failed(jobs[1], error="It broke.", again=False)
    text = stream.getvalue()
    assert all(part in text for part in ("running", "a [red] ball", "40/100", "b [red] ball", "It broke.", "1 failed"))


@pytest.mark.parametrize("text", [None, "", "{", '{"step": 3', "\n", "[]\n", '{"step": "x"}\n'])
def test_a_log_without_a_whole_line_is_at_step_0(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "metrics.jsonl").write_text(text)
    assert Run(tmp_path).last_step() == 0
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps({'step': i, 'x': 'y' * 900})}\n" for i in range(9)))
    assert Run(tmp_path).last_step() == 8


def test_records_are_whole_or_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)
    ledger.folder.mkdir()
    assert ledger.read("a") == {}
    ledger.update("a", state=WAITING, error="x")
    before = ledger.read("a")

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    for name in ("write_text", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, full)
            with pytest.raises(OSError, match="No space"):
                ledger.update("a", state=DONE)
        assert ledger.read("a") == before
        assert [path.name for path in ledger.folder.iterdir()] == ["a.json"]
    assert ledger.update("a", state=DONE, error=None).keys() == {"state", "updated"}
