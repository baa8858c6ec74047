r"""What version 0.1.0 wrote is opened by every verb, and what a later version writes is refused with a sentence.

`data/0.1.0.tar.xz` was written by commit 69a9e0c, with its own extension, by these commands and PRIOR below:

    train TINY --steps 4 --prompt "a red ball" --name done
    train TINY --method vsd --steps 4 --prompt "a blue ball" --name particles
    train TINY --method consistency --steps 300 --prompt "a green ball" --name stopped      # SIGTERM after step 5
    train TINY --prior prior --method vsd --vsd.lora-rank 1 --dtype fp32 --steps 2 --name adapters \
        --prompt "a red armchair"
    batch --prompts p.txt --out batch TINY --steps 2
    TINY = --config smoke --size 32 --splats.num-init 50 --densify.max-splats 80 --output.size 32 --output.frames 4
           --output.save-every 2

PRIOR: its `network.save` of `network.create(channels=(16, 16, 16), text_width=16)` for two nouns, weights rounded to
sixteenths and those of the volume set to 0, so that they pack. Earlier checkpoints and videos were left out.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from splatdistill import __version__, cli
from splatdistill.io.runs import Run
from splatdistill.training import checkpoint
from splatdistill.viewer.export_html import page_of
from splatdistill.viewer.rundir import Item
from tests.cli.smoke import said

RUNS = ("done", "particles", "adapters")
STEP = {"done": 4, "particles": 4, "stopped": 5, "adapters": 2}
SMALL = ["--size", "32", "--frames", "2"]


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders, in a working directory: a run names its prior by a relative path."""
    with tarfile.open(Path(__file__).parent / "data" / "0.1.0.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("run", RUNS)
def test_finished_runs_are_opened_by_what_reads_runs(old: Path, run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["render", run, *SMALL, "--output", "drawn"]) == cli.DONE
    assert cli.main(["export", run, "--format", "spz", "--output", "a.spz"]) == cli.DONE
    assert cli.main(["compose", run, run, "--output", "two.ply", "--translate", "0,0,0", "1,0,0"]) == cli.DONE
    assert (old / "drawn" / "contact.png").is_file() and (old / "a.spz").is_file() and (old / "two.ply").is_file()
    assert b"splats" in page_of(Item(old / run))  # what `view` and `export --format html` show
    assert Item(old / run).manifest()["prompt"] == Run(old / run).settings().prompt
    assert cli.main(["train", "--resume", run]) == cli.DONE
    assert f"--steps with more than {STEP[run]} goes on with it" in capsys.readouterr().err


@pytest.mark.slow
def test_finished_runs_are_judged(old: Path) -> None:
    assert cli.main(["eval", *RUNS, *map(str, Path("batch").glob("a-*")), "--output", "judged"]) == cli.DONE
    found = json.loads((old / "judged" / "eval.json").read_text(encoding="utf-8"))
    assert len(found["objects"]) == len(RUNS) + 2 and (old / "judged" / "report.html").is_file()


def test_a_run_that_was_stopped_is_no_object_yet(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["render", "stopped"], ["export", "stopped", "--output", "a.ply"], ["eval", "stopped"]):
        assert cli.main(words) == cli.USAGE
        assert "stopped" in said(capsys)


@pytest.mark.parametrize("run", STEP)
def test_a_run_of_an_earlier_version_goes_on_and_says_so(
    old: Path, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    step, steps = STEP[run], STEP[run] + 2
    assert cli.main(["train", "--resume", run, "--steps", str(steps)]) == cli.DONE
    sentence = (
        f"splatdistill 0.1.0 made the first {step} steps, and {__version__} goes on; neither alone would give this "
        "result."
    )
    assert capsys.readouterr().err.count(f"Note: {sentence}\n") == 1
    events = [json.loads(line) for line in (old / run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [event["message"] for event in events if event["kind"] == "warning"] == [sentence]
    assert Run(old / run).last_step() == steps or Run(old / run).summary()["step"] == steps
    saved = checkpoint.load(old / run / "checkpoints")
    assert saved.meta["step"] == steps and saved.meta["version"] == __version__
    assert checkpoint.about_version(saved.meta, Run(old / run).summary()) == ()


@pytest.mark.parametrize("signed", ["by its checkpoint", "by its summary"])
def test_a_run_of_a_later_version_is_refused(old: Path, signed: str, capsys: pytest.CaptureFixture[str]) -> None:
    place = "checkpoints/step_000005/state.json" if signed == "by its checkpoint" else "summary.json"
    held = json.loads((old / "stopped" / place).read_text(encoding="utf-8"))
    held |= {"version": "9.0.0"} if signed == "by its checkpoint" else {"versions": {"splatdistill": "9.0.0"}}
    (old / "stopped" / place).write_text(json.dumps(held), encoding="utf-8")
    before = {path: path.read_bytes() for path in (old / "stopped").rglob("*") if path.is_file()}
    assert cli.main(["train", "--resume", "stopped", "--steps", "6"]) == cli.USAGE
    assert said(capsys) == (
        f"splatdistill: resume: splatdistill 9.0.0 saved step 5, and this is the earlier {__version__}; go on with "
        "that one: pip install splatdistill==9.0.0, or begin a new run."
    )
    after = {path: path.read_bytes() for path in (old / "stopped").rglob("*") if path.is_file()}
    assert {path: data for path, data in after.items() if path.name != "lock.json"} == before


@pytest.mark.parametrize("version", [None, "", 3, "nightly", "1.2", {"a": 1}, "0.2.0.dev1"])
def test_a_version_that_is_none_says_nothing(version: object) -> None:
    assert checkpoint.about_version({"step": 1}, {"versions": {"splatdistill": version}}) == ()
    assert checkpoint.about_version({"step": 1}, {"versions": version}) == ()


def test_a_setting_of_a_later_version_is_named(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (old / "stopped" / "config.yaml").open("a", encoding="utf-8") as file:
        file.write("warp_drive: 3\n")
    assert cli.main(["train", "--resume", "stopped", "--steps", "6"]) == cli.USAGE
    assert "warp_drive" in said(capsys)


def test_an_old_folder_of_a_prior_is_a_prior(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["vocab", "--prior", "prior"]) == cli.DONE
    assert "armchair" in capsys.readouterr().out
    assert cli.main(["prior", "check", "prior", "--device", "cpu", "--dtype", "fp32"]) == cli.DONE
    shutil.rmtree(old / "prior" / "unet")
    assert cli.main(["prior", "check", "prior", "--device", "cpu", "--dtype", "fp32"]) == cli.USAGE
    assert "unet" in capsys.readouterr().err


def test_an_old_batch_keeps_its_objects(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name covers all settings, so that today's command makes its own runs beside those of then."""
    before = {path.name: (path / "splats.ply").read_bytes() for path in (old / "batch").glob("a-*")}
    words = ["--config", "smoke", "--size", "32", "--splats.num-init", "50", "--output.size", "32",
             "--output.frames", "4", "--steps", "2"]  # fmt: skip
    assert cli.main(["batch", "--prompts", "p.txt", "--out", "batch", *words]) == cli.DONE
    assert {name: (old / "batch" / name / "splats.ply").read_bytes() for name in before} == before
    assert len(list((old / "batch").glob("a-*/splats.ply"))) == 2 * len(before)
