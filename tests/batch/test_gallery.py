"""The gallery: whatever prompts hold stays text, and every link leads to a file beside it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from splatdistill import cli
from splatdistill.batch import gallery as report
from splatdistill.batch.ledger import Ledger
from splatdistill.batch.plan import Job
from splatdistill.config.schema import TrainConfig
from splatdistill.guidance.methods.vsd import VSDConfig
from tests.batch.commands import make_here

EVIL = "</h2><script>alert('1')</script> & \"b\""


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_prompts_are_text_and_links_are_relative(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for run in ("done", "ledger"):
        (tmp_path / run).mkdir()
    methods = {"done": "sds", "failed": "vsd", "new": "vsd"}
    for name in ("turntable.mp4", "contact.png", "splats.ply", "config.yaml"):
        (tmp_path / "done" / name).touch()
    jobs = [
        Job(run, TrainConfig(prompt=EVIL, steps=n, size=16 * n, method=method, vsd=VSDConfig(particles=n)), "")
        for n, (run, method) in enumerate(methods.items(), 1)
    ]
    ledger.update("done", state="done", seconds=1234.5)
    ledger.update("failed", state="failed", error=f"It broke: {EVIL}")
    page = Page(report.write(tmp_path, jobs, ledger).read_text())
    assert page.text.count(EVIL) == 4 and "script" not in page.tags
    assert page.tags.count("article") == 3 and page.tags.count("video") == 1
    assert page.links and all((tmp_path / link).is_file() for link in page.links)
    for part in ("1 done, 1 failed, 1 waiting; 1,234 seconds", "1,234 s.", "failed: It broke"):
        assert part in page.text, part
    assert "method sds, steps 1, seed 0, size 16\n" in page.text
    assert "method vsd, steps 2, seed 0, size 32, vsd.particles 2\n" in page.text


def test_a_failure_is_reported_and_the_rest_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.yaml").write_text("""
defaults: {prior: analytic, device: cpu, steps: 2, size: 16, splats: {num_init: 20}, output: {size: 16, frames: 2}}
prompts:
  - {prompt: a red ball, init: "ply:none.ply", name: bad}
  - {prompt: a blue ball, name: good}
""")
    command = tmp_path / "p.yaml", tmp_path / "out"
    assert make_here(*command) == cli.FAILED
    said = capsys.readouterr()
    assert "a red ball (bad): failed: none.ply is not a file" in said.err
    assert "1 of 2 done; the same command tries again what failed" in said.out
    ledger = Ledger(tmp_path / "out")
    assert (ledger.read("bad")["state"], ledger.read("bad")["tries"]) == ("failed", 1)
    assert "none.ply is not a file" in (tmp_path / "out" / "report.html").read_text()
    before = (tmp_path / "out" / "good" / "splats.ply").stat().st_mtime_ns
    other = (tmp_path / "p.yaml").read_text().replace('init: "ply:none.ply", ', "")
    (tmp_path / "p.yaml").write_text(other)
    assert make_here(*command) == cli.DONE
    assert "2 of 2 done" in capsys.readouterr().out
    assert (tmp_path / "out" / "good" / "splats.ply").stat().st_mtime_ns == before
    ledger.update("good", state="running")  # as when a kill came between the end of a run and its record
    assert make_here(*command) == cli.DONE
    assert ledger.read("good")["state"] == "done"
    assert (tmp_path / "out" / "good" / "splats.ply").stat().st_mtime_ns == before
    (tmp_path / "p.yaml").write_text(other.replace("steps: 2", "steps: 3"))
    assert make_here(*command) == cli.USAGE
    assert "bad is there already, with another steps; choose another name or --out." in capsys.readouterr().err
