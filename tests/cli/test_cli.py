"""The command line: what it writes, what it says, and how it exits."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from splatdistill import cli
from splatdistill.commands.info import level_in_words
from splatdistill.config.schema import METHODS
from splatdistill.io import ply
from splatdistill.training import checkpoint
from splatdistill.training import run as training
from tests.cli.smoke import TINY, said
from tests.patience import PATIENCE, wait_for


def test_train_prints_its_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", *TINY, "--prompt", "A red  ball!", "--out", str(tmp_path / "a" / "b")]) == cli.DONE
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in printed] == ["splats.ply", "turntable.mp4", "contact.png"]
    assert all(path.is_file() for path in printed)
    assert printed[0].parent.parent == tmp_path / "a" / "b"
    assert printed[0].parent.name.startswith("a-red-ball-")
    assert len(ply.read(printed[0])) >= 50
    assert np.asarray(Image.open(printed[2])).shape == (64, 128, 3)


def test_the_run_records_its_settings_and_command(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["prior"], config["steps"], config["splats"]["num_init"]) == ("analytic", 4, 50)
    command = (run / "command.txt").read_text()
    assert command.startswith("splatdistill train --config smoke")
    assert "--prompt 'a red ball'" in command


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--prompt", ""], "prompt is empty"),
        ([], "prompt is empty"),
        (["--prompt", "a\nb"], "prompt must be one line"),
        (["--prompt", "x", "--method", "sdx"], "method: 'sdx' is unknown; the methods are sds"),
        (["--prompt", "x", "--method=sdx"], "method: 'sdx' is unknown"),
        (["--prompt", "x", "--steps", "0"], "steps must be above 0; it is 0."),
        (["--prompt", "x", "--steps", "-3"], "steps must be above 0; it is -3."),
        (["--prompt", "x", "--config", "none.yaml"], "none.yaml cannot be read: No such file"),
        (["--prompt", "x", "--name", "../x"], "name: '../x' cannot name a run"),
        (["--prompt", "x", "--name", ".."], "name: '..' cannot name a run"),
        (["--prompt", "x", "--prior", "nothing"], "there is no prior or folder called 'nothing'"),
        (["--prompt", "x", "--prior", "/"], "prior: / has neither splatdistill.json nor model_index.json"),
        (["--prompt", "x", "--init", "cube"], "init: 'cube' is neither"),
        (["--prompt", "x", "--init", "ply:none.ply"], "none.ply is not a file"),
        (["--prompt", "x", "--device", "cuda"], "torch sees no CUDA device"),
        (["--prompt", "x", "--renderer", "gsplat"], "renderer: gsplat draws on CUDA devices only"),
        (["--prompt", "x", "--resume", "nowhere"], "nowhere is not a run folder"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    base = [] if "--config" in flags else TINY
    assert cli.main(["train", *base, *flags]) == cli.USAGE
    assert sentence in said(capsys)
    assert list(tmp_path.iterdir()) == []


def test_unknown_settings_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("densfy:\n  interval: 3\n")
    assert cli.main(["train", "--prompt", "x", "--config", str(file)]) == cli.USAGE
    assert "my.yaml: unknown key 'densfy'; did you mean 'densify'?" in said(capsys)
    for arguments, hint in (
        (["train", "--promt", "x"], "--prompt"),
        (["train", "--densify.intervall", "3"], "--densify.interval"),
        (["trian"], "there is no verb 'trian'; did you mean train?"),
        (["frobnicate"], "there is no verb 'frobnicate'; `splatdistill --help` lists the verbs."),
        (["train", "--steps", "many"], "--steps: it takes a whole number, and 'many' is none."),
        (["train", "--densify.start", "half"], "--densify.start: it takes a number, and 'half' is none."),
        (["train", "--camera.fill", "0.5", "wide"], "--camera.fill: it takes a number, and 'wide' is none."),
    ):
        assert cli.main(arguments) == cli.USAGE
        captured = capsys.readouterr()
        said_all = " ".join(re.sub(r"[^\x20-\x7e]|\|", " ", captured.err + captured.out).split())
        assert hint in said_all and "invalid literal" not in said_all and "could not convert" not in said_all


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none")):
        assert cli.main(["train", *TINY, "--prompt", "x", "--out", str(out)]) == cli.USAGE
        assert f"out: nothing can be written to {out}" in said(capsys)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_existing_run_is_left_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    arguments = ["train", *TINY, "--prompt", "another", "--out", str(run.parent), "--name", run.name]
    assert cli.main(arguments) == cli.USAGE
    assert f"{run} is there already; go on with --resume {run}" in said(capsys)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_finished_run_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert cli.main(["train", "--resume", str(run)]) == cli.DONE
    assert "is done; --steps with more than 4 goes on with it" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_resume_goes_on_with_more_steps(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    assert cli.main(["train", "--resume", str(copy), "--steps", "6", "--output.frames", "2"]) == cli.DONE
    summary = json.loads((copy / "summary.json").read_text())
    assert (summary["step"], summary["steps"], summary["prompt"]) == (6, 6, "a red ball")
    kinds = [json.loads(line)["kind"] for line in (copy / "events.jsonl").read_text().splitlines()]
    assert kinds[-2:] == ["resume", "done"]
    assert len((copy / "command.txt").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--seed", "1"], "resume: seed is 0 in"),
        (["--prompt", "x"], "resume: prompt is 'a red ball' in"),
        (["--optim.means", "1"], "resume: optim.means is 0.0192 in"),
        (["--config", "my.yaml"], "resume: num_views is 4 in"),
        (["--name", "x"], "name: a run that goes on keeps its name"),
    ],
)
def test_a_resumed_run_keeps_its_settings(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text("num_views: 8\n")
    assert cli.main(["train", "--resume", str(run), "--steps", "9", *flags]) == cli.USAGE
    assert sentence in said(capsys)


def test_a_run_can_be_profiled(run: Path, tmp_path: Path) -> None:
    assert cli.main(["train", *TINY, "--prompt", "a red ball", "--steps", "9", "--out", str(tmp_path), "--name", "run",
                     "--profile"]) == cli.DONE  # fmt: skip
    assert (tmp_path / "run" / "trace.json.gz").stat().st_size > 0
    assert "profile" not in (tmp_path / "run" / "config.yaml").read_text()


def test_a_run_stopped_before_its_first_checkpoint_begins_again(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    shutil.rmtree(copy / "checkpoints")
    for name in ("events.jsonl", "metrics.jsonl", "splats.ply"):
        (copy / name).unlink()
    assert cli.main(["train", "--resume", str(copy)]) == cli.DONE
    assert (copy / "splats.ply").read_bytes() == (run / "splats.ply").read_bytes()


def test_particles_and_lambda_have_short_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--method", "esd", "--particles", "3", "--lambda", "0.75"]) == cli.DONE
    lines = capsys.readouterr().out.splitlines()
    assert "  particles: 3  # flag" in lines and "  entropy: 0.75  # flag" in lines


def test_config_says_where_values_come_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--config", "smoke", "--seed", "3", "--camera.fill", "0.5", "0.75"]) == cli.DONE
    printed = capsys.readouterr().out
    for line in (
        "seed: 3  # flag",
        "steps: 40  # file",
        "num_views: 4  # default",
        "size: 64  # prior analytic: ours, the side it was trained on",
        "  fill: [0.5, 0.75]  # flag",
    ):
        assert line in printed.splitlines()
    again = tmp_path / "again.yaml"
    again.write_text(printed)
    assert cli.main(["config", "--config", str(again)]) == cli.DONE
    assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load(printed)


@pytest.mark.parametrize("method", METHODS)
def test_help_shows_the_flags_of_the_method_alone(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--method", method, "--help-all"]) == cli.DONE
    flags = re.findall(r"^[^\w-]*(--[a-z][\w.-]*)", capsys.readouterr().out, flags=re.M)
    assert len(flags) <= 70
    sections = {flag.removeprefix("--").partition(".")[0].replace("-", "_") for flag in flags if "." in flag}
    assert sections & set(METHODS) == {method}
    assert cli.main(["config", "--method", method]) == cli.DONE
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["method"] == method and set(printed) & set(METHODS) == {method}


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (
            ["--method", "csd", "--sds.t-min", "0.1"],
            "--sds.t-min: --method csd does not read it; it is for --method sd",
        ),
        (["--particles", "4"], "--particles: --method sample_fit does not read it; it is for --method vsd and esd."),
        (["--method", "vsd", "--lambda=0.5"], "--lambda: --method vsd does not read it; it is for --method esd."),
        (["--csd.weight=one"], "--csd.weight: --method sample_fit does not read it; it is for --method csd."),
        (["--densify.prune-scale", "1"], "--densify.prune-scale: densify.prune_scale has no flag; set it in a file"),
    ],
)
def test_flags_that_the_method_does_not_read_are_refused_by_name(
    capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
) -> None:
    for verb in ("train", "config"):
        assert cli.main([verb, "--prompt", "x", *flags]) == cli.USAGE
        assert sentence in said(capsys)


def test_info_names_versions_and_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == cli.DONE
    printed = capsys.readouterr().out
    for word in ("splatdistill", "torch", "devices", "cpu", "extension simd_level"):
        assert word in printed


@pytest.mark.parametrize(
    ("level", "wanted", "words"),
    [
        ("x86_64_v4", None, "x86_64_v4"),
        ("generic", "generic", "generic"),
        ("generic", None, "generic; the processor is below AVX2 (x86-64-v3), so the operators run slower"),
        (
            "generic",
            "x86_64_v4",
            "generic; the processor lacks x86_64_v4, which SPLATDISTILL_SIMD names",
        ),
    ],
)
def test_info_says_why_the_level_is_not_the_best(level: str, wanted: str | None, words: str) -> None:
    assert level_in_words(level, levels=["generic", "x86_64_v3", "x86_64_v4"], wanted=wanted) == words


def test_other_failures_are_one_line_unless_debugged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the disk\nis full")

    monkeypatch.setattr(training, "train", fail)
    arguments = ["train", *TINY, "--prompt", "x", "--out", str(tmp_path)]
    assert cli.main(arguments) == cli.FAILED
    assert "failed with RuntimeError: the disk is full" in said(capsys)
    assert cli.main([*arguments, "--debug"]) == cli.FAILED
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setattr(training, "train", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cli.main(arguments) == cli.INTERRUPTED


@pytest.mark.parametrize("verb", ["", *cli.VERBS])
def test_help_is_torch_free_and_so_quick(verb: str) -> None:
    code = "import sys; from splatdistill.cli import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *([verb] if verb else []), "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert done.stdout.splitlines()[-1] == "0 False"
    assert "usage: splatdistill" in done.stdout


def test_the_module_is_the_command_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "splatdistill"]
    done = subprocess.run([*command, "train", "--prompt", ""], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == cli.USAGE
    assert done.stderr.startswith("splatdistill: prompt is empty")
    arguments = ["train", *TINY, "--steps", "100000", "--prompt", "a ball", "--out", str(tmp_path), "--name", "long"]
    running = subprocess.Popen(
        [*command, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    try:
        wait_for((tmp_path / "long" / "checkpoints" / "latest").exists, what="the first checkpoint")
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=PATIENCE)
    finally:
        running.kill()
    assert running.returncode == cli.INTERRUPTED
    step = checkpoint.load(tmp_path / "long" / "checkpoints")[1]["step"]
    assert err.splitlines()[-1] == f"splatdistill: stopped after step {step}; --resume {tmp_path / 'long'} goes on."
