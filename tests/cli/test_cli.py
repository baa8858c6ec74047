"""The command line: what it writes, what it says, and how it exits."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from splatdistill import checkpoint, cli, train
from splatdistill.config import METHODS
from splatdistill.io import ply

TINY = [
    "--config", "smoke", "--steps", "4", "--size", "32", "--splats.num-init", "50", "--output.size", "32",
    "--output.frames", "4", "--output.save-every", "2",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 4 steps; tests that change it take a copy."""
    out = tmp_path_factory.mktemp("runs")
    assert cli.main(["train", *TINY, "--prompt", "a red ball", "--out", str(out), "--name", "ball"]) == cli.DONE
    return out / "ball"


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence on stderr."""
    text = capsys.readouterr().err
    assert text.startswith("splatdistill: ")
    assert text.count("\n") == 1
    assert "Traceback" not in text
    return text.strip()


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
        (["--prompt", "x", "--prior", "/"], "No prior in /"),
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
        (["trian"], "train"),
        (["train", "--steps", "many"], "--steps"),
    ):
        assert cli.main(arguments) == cli.USAGE
        captured = capsys.readouterr()
        assert hint in captured.err + captured.out


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
        (["--optim.means", "1"], "resume: optim.means is 0.008 in"),
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


def test_render_lights_the_object(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["render", str(run), "--frames", "2", "--size", "32", "--output"]
    sheets = {}
    for name, flags in {"plain": [], "left": ["--light", "-90,0"], "right": ["--light=90,0"]}.items():
        assert cli.main([*base, str(tmp_path / name), *flags]) == cli.DONE
        sheets[name] = np.asarray(Image.open(tmp_path / name / "contact.png")).astype(float)
    assert len({sheet.tobytes() for sheet in sheets.values()}) == 3
    assert all((sheets["plain"] - sheets[name]).mean() > 0 for name in ("left", "right"))
    capsys.readouterr()
    for text, sentence in (
        ("95", "light must be AZ,EL in degrees, for example --light -45,30; it is '95'."),
        ("a,b", "light must be AZ,EL in degrees"),
        ("0,95", "light: the elevation must be within -90 and 90 degrees"),
        ("nan,0", "and the azimuth finite; it is 'nan,0'."),
    ):
        assert cli.main([*base, str(tmp_path / "no"), "--light", text]) == cli.USAGE
        assert sentence in said(capsys)
    assert not (tmp_path / "no").exists()


def test_export_and_init_round_trip(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "ball.ply"
    assert cli.main(["export", str(run), "--output", str(output)]) == cli.DONE
    assert capsys.readouterr().out == f"{output}\n"
    assert output.read_bytes() == (run / "splats.ply").read_bytes()
    assert cli.main(["export", str(run), "--output", str(output)]) == cli.USAGE
    assert "is there already" in said(capsys)
    assert cli.main(["export", str(output), "--output", str(output), "--force"]) == cli.DONE
    arguments = ["train", *TINY, "--prompt", "x", "--init", f"ply:{output}", "--out", str(tmp_path / "runs")]
    assert cli.main(arguments) == cli.DONE


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: data[:-5], "cut or damaged"),
        (lambda data: data[:-4] + np.float32("nan").tobytes(), "not finite"),
        (lambda data: data.replace(b"element vertex ", b"element vertex 1", 1), "cut or damaged"),
        (lambda data: data.replace(b"comment ", b"comment " + b" " * 100_000, 1), "within its first 64 KiB"),
    ],
)
def test_bad_ply_files(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change, sentence: str) -> None:
    bad = tmp_path / "bad.ply"
    bad.write_bytes(change((run / "splats.ply").read_bytes()))
    out = ["--out", str(tmp_path / "runs")]
    for arguments in (
        ["export", str(bad), "--output", str(tmp_path / "x.ply")],
        ["render", str(bad)],
        ["train", *TINY, "--prompt", "x", "--init", f"ply:{bad}", *out],
    ):
        assert cli.main(arguments) == cli.USAGE
        assert sentence in said(capsys)
    assert list(tmp_path.iterdir()) == [bad]


def test_render_draws_a_run_and_a_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--frames", "2", "--size", "32"]
    assert cli.main(["render", str(run), "--output", str(tmp_path / "views"), *size]) == cli.DONE
    shutil.copy(run / "splats.ply", tmp_path / "ball.ply")
    assert cli.main(["render", str(tmp_path / "ball.ply"), *size]) == cli.DONE
    printed = capsys.readouterr().out.splitlines()
    folders = (tmp_path / "views", tmp_path / "ball")
    assert printed == [str(folder / name) for folder in folders for name in ("turntable.mp4", "contact.png")]
    assert cli.main(["render", str(run), "--size", "31"]) == cli.USAGE
    assert "output.size must be even" in said(capsys)
    assert cli.main(["render", str(tmp_path)]) == cli.USAGE


def test_eval_judges_runs_and_files(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompts.txt").write_text("a red ball\na blue lamp\n")
    flags = ["--prompts", str(tmp_path / "prompts.txt"), "--output", str(tmp_path / "out")]
    assert cli.main(["eval", str(run), str(run / "splats.ply"), "--prompt", "a blue lamp", *flags]) == cli.DONE
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("Judged by splatdistill's own judge") and printed[1].startswith("2 objects: ")
    record, page = (Path(line) for line in printed[-2:])
    result = json.loads(record.read_text())
    assert result["among"] == ["a red ball", "a blue lamp"]
    assert [row["prompt"] for row in result["objects"]] == result["among"]
    mine = result["objects"][0]
    assert mine["seconds"] > 0 and mine["image_evaluations"] > 0 and mine["method"] == "sds" and 0 <= mine["contrast"]
    assert "a blue lamp" in page.read_text()


def test_eval_has_a_pool_for_a_single_run(run: Path, tmp_path: Path) -> None:
    assert cli.main(["eval", str(run), "--output", str(tmp_path)]) == cli.DONE
    result = json.loads((tmp_path / "eval.json").read_text())
    assert result["among"][0] == "a red ball" and len(result["among"]) == 41
    assert result["chance"]["r_precision"] == pytest.approx(1 / 41)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "There is no run folder or .ply file called nowhere."),
        (["RUN/splats.ply"], "has no prompt of its own; give it with --prompt."),
        (["RUN/splats.ply", "--prompt", "a zyzzyva"], "the judge does not know 'zyzzyva' of 'a zyzzyva'"),
        (["RUN", "--prompts", "none.txt"], "prompts: none.txt cannot be read as text."),
        (["RUN", "--prompts", "lamp.txt"], "the list lacks 'a red ball'"),
        (["RUN", "--clip", "empty"], "clip: empty is not a model folder"),
        (["RUN", "--output", "lamp.txt/x"], "output: nothing can be written to lamp.txt/x"),
        (["empty"], "empty is not a run folder: it has no config.yaml."),
        (["unfinished"], "unfinished has no splats.ply; if it is a run, go on with it: train --resume unfinished."),
        ([], "Name at least one run folder or .ply file"),
    ],
)
def test_eval_refuses_what_it_cannot_judge(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lamp.txt").write_text("a lamp\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "unfinished").mkdir()
    shutil.copy(run / "config.yaml", tmp_path / "unfinished")
    assert cli.main(["eval", *(word.replace("RUN", str(run)) for word in arguments)]) == cli.USAGE
    assert sentence in said(capsys)
    assert not (tmp_path / "evaluation").exists()


def test_render_takes_the_renderer_that_is_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = ["render", str(run), "--frames", "2", "--size", "32", "--output", str(tmp_path / "views")]
    assert cli.main([*words, "--renderer", "cpu"]) == cli.DONE
    assert (tmp_path / "views" / "contact.png").is_file()
    capsys.readouterr()
    assert cli.main([*words, "--renderer", "gsplat"]) == cli.USAGE
    assert "gsplat draws on CUDA devices only" in said(capsys)


def test_particles_and_lambda_have_short_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--method", "esd", "--particles", "3", "--lambda", "0.75"]) == cli.DONE
    lines = capsys.readouterr().out.splitlines()
    assert "  particles: 3  # flag" in lines and "  entropy: 0.75  # flag" in lines


def test_config_says_where_values_come_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--config", "smoke", "--seed", "3", "--camera.fill", "0.5", "0.75"]) == cli.DONE
    printed = capsys.readouterr().out
    for line in ("seed: 3  # flag", "steps: 40  # file", "size: 64  # default", "  fill: [0.5, 0.75]  # flag"):
        assert line in printed.splitlines()
    again = tmp_path / "again.yaml"
    again.write_text(printed)
    assert cli.main(["config", "--config", str(again)]) == cli.DONE
    assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load(printed)


@pytest.mark.parametrize("method", METHODS)
def test_help_shows_the_flags_of_the_method_alone(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--method", method, "--help"]) == cli.DONE
    flags = re.findall(r"^[^\w-]*(--[a-z][\w.-]*)", capsys.readouterr().out, flags=re.M)
    assert len(flags) <= 60
    sections = {flag.removeprefix("--").partition(".")[0] for flag in flags if "." in flag}
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
        (["--particles", "4"], "--particles: --method sds does not read it; it is for --method vsd and esd."),
        (["--method", "vsd", "--lambda=0.5"], "--lambda: --method vsd does not read it; it is for --method esd."),
        (["--csd.weight=one"], "--csd.weight: --method sds does not read it; it is for --method csd."),
        (["--densify.prune-scale", "1"], "--densify.prune-scale: densify.prune_scale has no flag; set it in a file"),
    ],
)
def test_flags_that_the_method_does_not_read_are_refused_by_name(
    capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
) -> None:
    for verb in ("train", "config"):
        assert cli.main([verb, "--prompt", "x", *flags]) == cli.USAGE
        assert sentence in said(capsys)


@pytest.fixture
def prior(tmp_path: Path) -> Path:
    """A prior's folder with words and no weights."""
    meta = {"nouns": {"chair": ["seat"], "cat": []}, "colours": {"red": ["crimson"]}, "paintable": ["chair"]}
    folder = tmp_path / "prior"
    folder.mkdir()
    (folder / "splatdistill.json").write_text(json.dumps({**meta, "words": ["a", "chair", "seat", "cat", "red"]}))
    return folder


def test_vocab_lists_the_words_of_a_prior(prior: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["vocab", "--prior", str(prior)]) == cli.DONE
    assert capsys.readouterr().out.splitlines() == [
        "Objects:",
        "  cat",
        "  chair (seat)",
        "Colours:",
        "  red (crimson)",
    ]
    assert cli.main(["vocab", "--prior", str(prior.parent)]) == cli.USAGE
    assert "No prior in" in said(capsys)


def test_unknown_words_are_told_before_training(
    prior: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []
    monkeypatch.setattr(train, "train", lambda config, **rest: seen.append(config.prompt))
    arguments = ["train", "--prior", str(prior), "--out", str(prior.parent / "runs")]
    assert cli.main([*arguments, "--prompt", "a red zyzzyva chair"]) == cli.DONE
    assert "Note: This prior does not know 'zyzzyva'" in capsys.readouterr().err
    assert cli.main([*arguments, "--prompt", "a zyzzyva"]) == cli.USAGE
    assert "prompt: this prior knows no word of 'a zyzzyva'" in said(capsys)
    assert seen == ["a red zyzzyva chair"]


@pytest.mark.parametrize(
    ("flags", "note"),
    [
        (
            ["--camera.fovy-deg", "20", "45"],
            "camera.fovy_deg (20 to 45) leaves what this prior was trained on (30 to 45)",
        ),
        (["--camera.elevation-deg", "-20", "45"], "camera.elevation_deg (-20 to 45) leaves"),
        (["--camera.fovy-deg", "32", "45"], ""),
    ],
)
def test_cameras_that_the_prior_has_not_seen_are_told(
    prior: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str], note: str
) -> None:
    meta = json.loads((prior / "splatdistill.json").read_text())
    meta["cameras"] = {"elevation_deg": [0, 40], "elevation_deg_rare": [-10, 60], "fovy_deg": [30, 45]}
    (prior / "splatdistill.json").write_text(json.dumps({**meta, "num_views": 4}))
    monkeypatch.setattr(train, "train", lambda config, **rest: None)
    base = ["train", "--prior", str(prior), "--prompt", "a red chair", "--out", str(prior.parent / "runs")]
    assert cli.main([*base, *flags]) == cli.DONE
    err = capsys.readouterr().err
    assert (note in err) if note else ("Note: camera" not in err)
    assert cli.main([*base, "--config", "scene", "--name", "scene"]) == cli.DONE
    assert "Note: camera.kind inside-out needs a prior trained on scenes" in capsys.readouterr().err
    assert cli.main([*base, "--camera.views-per-group", "2"]) == cli.USAGE
    assert "camera.views_per_group must be 4, the number of views that this prior sees at once" in said(capsys)


def test_info_names_versions_and_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == cli.DONE
    printed = capsys.readouterr().out
    for word in ("splatdistill", "torch", "devices", "cpu", "extension simd_level"):
        assert word in printed


def test_other_failures_are_one_line_unless_debugged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the disk\nis full")

    monkeypatch.setattr(train, "train", fail)
    arguments = ["train", *TINY, "--prompt", "x", "--out", str(tmp_path)]
    assert cli.main(arguments) == cli.FAILED
    assert "failed with RuntimeError: the disk is full" in said(capsys)
    assert cli.main([*arguments, "--debug"]) == cli.FAILED
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setattr(train, "train", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cli.main(arguments) == cli.INTERRUPTED


@pytest.mark.parametrize("verb", ["", *cli.VERBS])
def test_help_is_quick_and_torch_free(verb: str) -> None:
    code = "import sys; from splatdistill.cli import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *([verb] if verb else []), "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "0 False"
    assert "usage: splatdistill" in done.stdout
    assert time.perf_counter() - start < 5  # measured: 0.2 s; the rest is room for busy machines


def test_the_module_is_the_command_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "splatdistill"]
    done = subprocess.run([*command, "train", "--prompt", ""], capture_output=True, text=True, timeout=60)
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
        deadline = time.monotonic() + 60
        while not (tmp_path / "long" / "checkpoints" / "latest").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == cli.INTERRUPTED
    step = checkpoint.load(tmp_path / "long" / "checkpoints")[1]["step"]
    assert err.splitlines()[-1] == f"splatdistill: stopped after step {step}; --resume {tmp_path / 'long'} goes on."
