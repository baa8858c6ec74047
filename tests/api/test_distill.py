"""`distill` makes what the command line makes, touches nothing of its caller's and says what is wrong."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import splatdistill
from splatdistill import cli
from splatdistill.io import ply
from splatdistill.scene.gaussians import FIELDS
from splatdistill.training import checkpoint
from tests.api.helpers import QUICK, by_command
from tests.guidance.toys import FOR_ANY_PRIOR

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@pytest.mark.parametrize("method", FOR_ANY_PRIOR)
def test_equals_the_command_line_bit_for_bit(tmp_path: Path, method: str) -> None:
    run = by_command(tmp_path, "--method", method)
    result = splatdistill.distill("a red ball", method=method, **QUICK)
    written = ply.read(run / "splats.ply")
    assert len(written) == len(result.splats)
    for name in FIELDS:
        assert torch.equal(written.tensors[name], result.splats.tensors[name]), name
    assert cli.main(["export", str(run), "--output", str(tmp_path / "theirs.ply")]) == cli.DONE
    result.splats.save(tmp_path / "ours.ply")
    assert (tmp_path / "theirs.ply").read_bytes() == (tmp_path / "ours.ply").read_bytes()


def test_equals_the_command_line_with_the_embedded_prior_and_an_instance_of_it(tmp_path: Path) -> None:
    flags = ("--steps", "3", "--threads", "1", "--output.frames", "2", "--output.size", "32")
    run = by_command(tmp_path, prompt="a red armchair", flags=flags)
    prior = splatdistill.load_prior("embedded")
    for given in ("embedded", prior):
        result = splatdistill.distill("a red armchair", prior=given, steps=3, threads=1)
        assert torch.equal(ply.read(run / "splats.ply").means, result.splats.means), given
    assert (result.threads, result.prior) == (1, "embedded")


def test_a_folder_holds_what_the_command_line_writes(tmp_path: Path) -> None:
    theirs = by_command(tmp_path)
    result = splatdistill.distill("a red ball", **QUICK, out=tmp_path / "mine" / "run")
    assert result.folder == tmp_path / "mine" / "run"
    names = sorted(str(path.relative_to(theirs)) for path in theirs.rglob("*"))
    assert names == sorted(str(path.relative_to(result.folder)) for path in result.folder.rglob("*"))
    assert (theirs / "splats.ply").read_bytes() == (result.folder / "splats.ply").read_bytes()
    assert (result.folder / "command.txt").read_text().startswith("splatdistill.distill('a red ball', ")
    assert [record["step"] for record in result.metrics] == [2, 4, 6]


def test_in_memory_a_training_goes_step_by_step_to_the_same_end() -> None:
    whole = splatdistill.distill("a red ball", **QUICK)
    trainer = splatdistill.Trainer(splatdistill.configure("a red ball", **QUICK))
    steps = list(trainer)
    assert [step.number for step in steps] == list(range(1, 7)) and len(trainer) == 6
    assert torch.equal(whole.splats.means, trainer.splats.means)
    assert steps[-1].images.shape == (4, 16, 16, 3) and 0 <= steps[-1].images.min() <= steps[-1].images.max() <= 1
    assert steps[-1].grad_norm > 0 and steps[-1].numbers["num_splats"] == len(trainer.splats)
    assert trainer.log.records[-1]["grad_norm"] == steps[-1].numbers["grad_norm"]
    with pytest.raises(ValueError, match="all 6 steps are done"):
        trainer.step()


def test_nothing_of_the_caller_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By any way to train; the prior builds networks, which draw from the global generator of torch."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(2)
    try:
        torch.manual_seed(5)
        before = _state()
        splatdistill.distill("a red ball", **QUICK)
        splatdistill.distill("a red ball", **QUICK, out="run")
        splatdistill.distill("a red armchair", method="vsd", steps=1, threads=1, size=16)
        list(splatdistill.Trainer(splatdistill.configure("a red ball", **QUICK)))
        splatdistill.load_prior("embedded")
        assert _state() == before
        assert os.listdir(tmp_path) == ["run"]
    finally:
        torch.set_num_threads(1)


def _state() -> list[object]:
    """What of a process a caller may rely on."""
    return [
        torch.get_num_threads(),
        torch.get_rng_state().tolist(),
        random.getstate(),
        [part.tolist() if isinstance(part, np.ndarray) else part for part in np.random.get_state()],  # noqa: NPY002
        [signal.getsignal(number) for number in SIGNALS],
        os.getcwd(),
        dict(os.environ),
        list(warnings.filters),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        threading.active_count(),
    ]


def test_threads_of_the_caller_are_taken_and_recorded() -> None:
    torch.set_num_threads(2)
    try:
        quick = {name: value for name, value in QUICK.items() if name != "threads"}
        seen: list[int] = []
        result = splatdistill.distill("a red ball", **quick, callback=lambda step: seen.append(torch.get_num_threads()))
        assert result.threads == 2 and set(seen) == {2}
    finally:
        torch.set_num_threads(1)
    assert splatdistill.distill("a red ball", **QUICK).threads == 1


def test_works_in_a_thread_beside_another() -> None:
    alone = splatdistill.distill("a red ball", **QUICK)
    found: dict[int, splatdistill.Result] = {}

    def work(index: int) -> None:
        found[index] = splatdistill.distill("a red ball", **QUICK)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[index].splats.means, alone.splats.means) for index in range(2))


def test_one_line_in_an_empty_folder_leaves_the_file_alone(tmp_path: Path) -> None:
    """Nothing is printed, either. In a process of its own: a first call of everything."""
    line = (
        "import splatdistill as s; s.distill('a red armchair', steps=3, threads=1, output={'log_every': 1})"
        ".splats.save('x.ply')"
    )
    done = subprocess.run([sys.executable, "-c", line], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert os.listdir(tmp_path) == ["x.ply"]
    assert len(splatdistill.Splats.load(tmp_path / "x.ply")) > 1000


class Enough(Exception):
    """Of a user's own."""


def _third(step: splatdistill.Step) -> None:
    if step.number == 3:
        raise Enough


def test_what_a_callback_raises_is_its_own_and_the_run_can_go_on(tmp_path: Path) -> None:
    with pytest.raises(Enough):
        splatdistill.distill("a red ball", **QUICK, callback=_third)
    with pytest.raises(Enough):
        splatdistill.distill("a red ball", **QUICK, callback=_third, out=tmp_path / "run")
    assert checkpoint.load(tmp_path / "run" / "checkpoints")[1]["step"] == 3
    assert cli.main(["train", "--resume", str(tmp_path / "run")]) == cli.DONE
    whole = splatdistill.distill("a red ball", **QUICK)
    assert torch.equal(ply.read(tmp_path / "run" / "splats.ply").means, whole.splats.means)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"prompt": ""}, "prompt is empty; "),
        ({"prompt": 3}, "prompt must be text; it is 3."),
        ({"prompt": "a zyzzyva"}, "prompt: This prior does not know 'zyzzyva'"),
        ({"method": "sdx"}, "method: 'sdx' is unknown; the methods are sds,"),
        ({"prior": "nothing"}, "prior: there is no prior or folder called 'nothing'"),
        ({"stps": 3}, "settings: unknown key 'stps'; did you mean 'steps'?"),
        ({"steps": "many"}, "settings: steps must be a whole number"),
        ({"steps": 0}, "steps must be above 0"),
        ({"densify": 3}, "settings: densify must hold settings as 'key: value'"),
        ({"file": "none.yaml"}, "none.yaml"),
        ({"init": "cube"}, "init: 'cube' is neither"),
        ({"log": "tensorbord"}, "log: 'tensorbord' is unknown; there are tensorboard and wandb."),
        ({"log": ["tensorboard"]}, "log: tensorboard writes into the folder of the run; name one with out=."),
        ({"out": "."}, "out: . is there already"),
        ({"out": "/proc/run"}, "out: nothing can be written to /proc"),
    ],
)
def test_bad_input_is_one_true_sentence(
    given: dict, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"[.?]$") as refused:
        splatdistill.distill(given.pop("prompt", "a red armchair"), **given)
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr() == ("", "")


def test_settings_that_are_made_already_take_no_others() -> None:
    config = splatdistill.configure("a red ball", **QUICK)
    with pytest.raises(ValueError, match="settings that are made already take no steps"):
        splatdistill.distill(config, steps=3)
    assert splatdistill.distill(config).config is config


def test_words_that_the_prior_does_not_know_are_a_warning_and_nothing_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.warns(UserWarning, match="does not know 'sparkling' and leaves it out"):
        splatdistill.distill("a sparkling red armchair", steps=1, threads=1, size=16)
    with pytest.warns(UserWarning, match=r"densify\.max_splats is below"):
        splatdistill.distill("a red ball", **{**QUICK, "densify": {"max_splats": 9}})
    assert capsys.readouterr() == ("", "")
