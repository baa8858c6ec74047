"""A checkpoint knows itself: flipped bits, missing pointers and edited settings are told, never silently followed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from splatdistill import cli
from splatdistill.config import yaml_reader
from splatdistill.io.runs import Run
from splatdistill.training import checkpoint
from tests.reliability import flips

FLIPS = 500


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    return flips.half_done(tmp_path_factory.mktemp("flips"))


@pytest.fixture
def run(half: tuple[Path, bytes], tmp_path: Path) -> Path:
    return Path(shutil.copytree(half[0], tmp_path / "run"))


def resume(run: Path, *flags: str) -> int:
    return cli.main(["train", "--resume", str(run), *flags])


def same(a: checkpoint.Saved, b: checkpoint.Saved) -> bool:
    return a.meta == b.meta and a.tensors.keys() == b.tensors.keys() and all(
        torch.equal(a.tensors[name].view(torch.uint8), b.tensors[name].view(torch.uint8)) for name in a.tensors
    )  # fmt: skip


def test_no_flipped_bit_loads_as_something_else(half: tuple[Path, bytes]) -> None:
    """What loads is one of the checkpoints that were saved, bit for bit, and the newest unless that is said."""
    run = half[0]
    root = run / "checkpoints"
    newest = checkpoint.load(root)
    (root / "latest").write_text("step_000002")
    before = checkpoint.load(root)
    (root / "latest").write_text("step_000004")
    assert (newest.meta["step"], before.meta["step"]) == (4, 2)
    told = 0
    for name, bit in flips.places(run, count=FLIPS, seed=1):
        flips.flip(run / name, bit)
        found = checkpoint.load(root)
        flips.flip(run / name, bit)
        if name.startswith("checkpoints/step_000004"):
            assert same(found, before) and found.notes, (name, bit)
            assert str((run / name).parent) in found.notes[0]
            told += 1
        elif not same(found, newest):  # `latest` may come to name the other one
            assert name.endswith("latest") and same(found, before), (name, bit)
    assert told > FLIPS / 4  # the newest holds about half of the bytes


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    run: Path, half: tuple[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    state = run / "checkpoints" / "step_000004" / checkpoint.TENSORS
    flips.flip(state, 8 * state.stat().st_size - 1)
    assert resume(run) == cli.DONE
    said = capsys.readouterr().err
    assert f"Note: {state} is damaged: it is not what SHA256SUMS says." in said and "Going on from step 2 of 6." in said
    assert (run / "splats.ply").read_bytes() == half[1]
    assert f"{state} is damaged: it is not what SHA256SUMS says." in (run / "events.jsonl").read_text()
    assert checkpoint.load(run / "checkpoints").meta["step"] == 6
    (run / "checkpoints" / "latest").write_text("step_000004")  # it was saved again, over the damaged one
    assert checkpoint.load(run / "checkpoints").meta["step"] == 4


def test_where_none_is_whole_nothing_begins(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "checkpoints" / "step_000004" / checkpoint.META).unlink()
    (run / "checkpoints" / "step_000002" / checkpoint.SUMS).unlink()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert resume(run) == cli.USAGE
    said = capsys.readouterr().err
    assert said.startswith(f"splatdistill: resume: no checkpoint of {run} is whole; start a new run")
    assert f"{run / 'checkpoints' / 'step_000002' / checkpoint.SUMS} is missing." in said and said.count("\n") == 1
    assert before == {path: path.read_bytes() for path in before}


def test_a_missing_pointer_does_not_begin_the_run_again(
    run: Path, half: tuple[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "checkpoints" / "latest").unlink()
    assert resume(run) == cli.DONE
    said = capsys.readouterr().err
    assert f"Note: {run / 'checkpoints' / 'latest'} names no checkpoint." in said
    assert "Going on from step 4 of 6." in said
    assert (run / "splats.ply").read_bytes() == half[1]


def test_a_run_without_a_checkpoint_begins_again_and_says_so(
    run: Path, half: tuple[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run / "checkpoints")
    assert resume(run) == cli.DONE
    assert f"Note: {run} has no checkpoint yet; it begins again at step 0." in capsys.readouterr().err
    assert (run / "splats.ply").read_bytes() == half[1]


EDITS = {
    "prompt": "a blue ball", "method": "csd", "prior": "embedded", "seed": 9, "size": 48, "num_views": 8,
    "splats.num_init": 30, "optim.means": 0.5, "background.white": 0.5,
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_settings_file_is_refused_like_the_flag(
    run: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import yaml

    values = yaml_reader.read(run / "config.yaml")
    *section, key = name.split(".")
    where = values[section[0]] if section else values
    assert key in where and where[key] != EDITS[name]
    where[key] = EDITS[name]
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    assert resume(run) == cli.USAGE
    said = capsys.readouterr().err
    assert f"splatdistill: resume: {name} was " in said and f"is {EDITS[name]!r} now" in said


def test_what_a_resume_may_change_an_edit_may_change_too(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("steps: 6", "steps: 7"))
    assert resume(run) == cli.DONE
    assert checkpoint.load(run / "checkpoints").meta["step"] == 7


def test_a_checkpoint_of_before_the_sums_still_loads(run: Path, half: tuple[Path, bytes]) -> None:
    for folder in (run / "checkpoints").glob("step_*"):
        (folder / checkpoint.SUMS).unlink()
        meta = (folder / checkpoint.META).read_text().replace('"sums": "SHA256SUMS",', "")
        (folder / checkpoint.META).write_text(meta)
    assert checkpoint.load(run / "checkpoints").notes == ()
    assert resume(run) == cli.DONE
    assert (run / "splats.ply").read_bytes() == half[1]


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="coreutils are not installed")
def test_sha256sum_reads_the_sums(run: Path) -> None:
    folder = run / "checkpoints" / "step_000004"
    words = ["sha256sum", "--check", "--strict", checkpoint.SUMS]
    assert subprocess.run(words, cwd=folder, capture_output=True, check=False).returncode == 0
    flips.flip(folder / checkpoint.TENSORS, 4000)
    assert subprocess.run(words, cwd=folder, capture_output=True, check=False).returncode == 1


def test_what_a_kill_in_the_final_export_cut_off_is_made_again(run: Path, half: tuple[Path, bytes]) -> None:
    """The files, the pictures of the last step, and what the summary says of how it was computed."""
    whole = half[0].with_name("whole")
    shutil.rmtree(run)
    shutil.copytree(whole, run)
    before = Run(run).summary()
    lines = (run / "events.jsonl").read_text().splitlines(keepends=True)
    (run / "events.jsonl").write_text("".join(line for line in lines if '"done"' not in line))
    (run / "splats.ply").unlink()
    (run / "summary.json").unlink()
    assert resume(run, "--output.preview-every", "3") == cli.DONE
    assert (run / "splats.ply").read_bytes() == half[1]
    assert sorted(path.name for path in (run / "preview").iterdir()) == [
        f"000006-{side}.jpg" for side in ("back", "front", "side", "top")
    ]
    after = Run(run).summary()
    for name in ("step", "threads", "dtype", "network_engine", "num_splats", "image_evaluations", "seconds_total"):
        assert after[name] == before[name], name
