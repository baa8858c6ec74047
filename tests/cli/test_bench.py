"""`bench`: one command to one table, the same after any number of stops; what cannot be judged is refused first."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from splatdistill import cli
from splatdistill.batch.plan import Job
from splatdistill.commands import teacher_samples
from splatdistill.config.schema import TrainConfig
from splatdistill.evaluate import bench_table
from splatdistill.evaluate.external import interval, mean_of_means
from splatdistill.priors.base import Choice
from tests.cli.interrupts import interrupt_at

SUITE = """
defaults: {steps: 4, size: 16, output: {frames: 2, size: 16, save_every: 1}, splats: {num_init: 60}}
prompts: [a red ball, a blue ball]
"""
ARGS = ("suite.yaml", "--methods", "sds,ism", "--seeds", "2", "--prior", "analytic", "--device", "cpu",
        "--judges", "own,frechet")  # fmt: skip


@pytest.fixture(autouse=True)
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("suite.yaml").write_text(SUITE)


def run(*args: str, out: str = "out") -> int:
    return cli.main(["bench", *args, "--out", out])


def figures(out: str) -> Any:
    """The table and its objects, but for what a clock and the memory say."""
    found = json.loads((Path(out) / "bench.json").read_text())
    for row in (*found["table"], *found["objects"]):
        del row["seconds"], row["peak_memory_mb"]
    return found


def test_killed_twice_and_resumed_it_is_the_table_of_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(*ARGS) == cli.DONE
    steps = interrupt_at(monkeypatch, 6, 19)  # in the second run, and in the fifth after that
    assert run(*ARGS, out="again") == cli.INTERRUPTED
    assert run(*ARGS, out="again") == cli.INTERRUPTED
    assert not Path("again/bench.json").exists()
    assert run(*ARGS, out="again") == cli.DONE
    assert steps[0] >= 2 * 2 * 2 * 4 + 2
    assert figures("again") == figures("out")
    drawn = {path: path.stat().st_mtime_ns for path in Path("again/samples").iterdir()}
    assert len(drawn) == 2 * 2  # a picture for each prompt and seed, which both methods share
    assert run(*ARGS, out="again") == cli.DONE
    assert {path: path.stat().st_mtime_ns for path in Path("again/samples").iterdir()} == drawn
    found = figures("out")
    for line in found["table"]:
        assert line["frechet"]["low"] <= line["frechet"]["mean"] <= line["frechet"]["high"]
        assert line["diversity"]["objects"] == line["frechet_diversity"]["objects"] == 4
    assert [line["method"] for line in found["table"]] == ["sds", "ism"]
    assert all(line["objects"] == 4 for line in found["table"])
    # Four views and steps: by sds two evaluations each with guidance; by ism at scale 1 one less than its four.
    assert [line["image_evaluations"] for line in found["table"]] == [2 * 4 * 4, 3 * 4 * 4]
    assert {(row["prompt"], row["seed"]) for row in found["objects"]} == {
        (prompt, seed) for prompt in ("a red ball", "a blue ball") for seed in (0, 1)
    }
    for name in ("bench.md", "bench.tex", "contact.png"):
        assert (Path("out") / name).stat().st_size > 0
    assert Path("out/bench.md").read_text().count("\n") == 2 + 2
    assert Path("out/bench.tex").read_text().startswith("\\begin{tabular}{l")


FAULTS = {
    "a judge": (
        ("--judges", "own,nobody"),
        "judges: 'nobody' is unknown; the judges are own, external, frechet, clip:",
    ),
    "FID without weights": (("--judges", "fid"), "judges: 'fid' is unknown"),
    "a method": (("--methods", "sds,none"), "methods: 'none' is unknown; the methods are sds,"),
    "no seeds": (("--seeds", "0"), "seeds must be at least 1; it is 0."),
    "two CLIPs": (("--judges", "clip:a,clip:b"), "judges: a table has one clip model; name one clip:FOLDER_OR_ID."),
    "no suite": (("none.yaml",), "none.yaml"),
    "JSON": (("prompts.json",), "prompts.json: a suite is .txt or .yaml; copy the file with the ending .yaml"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_one_sentence_and_nothing_is_written(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    args, said = FAULTS[fault]
    first = args if args[0].endswith((".yaml", ".json")) else ("suite.yaml", *args)
    assert run(*first, "--prior", "analytic") == cli.USAGE
    err = capsys.readouterr().err
    assert said in err and err.count("splatdistill: ") == 1
    assert not Path("out").exists()


def test_samples_of_words_alone_are_no_measure_of_runs_from_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (64, 64), "red").save("x.png")
    Path("suite.yaml").write_text("defaults: {image: x.png}\nprompts: [a chair]\n")
    assert run("suite.yaml", "--judges", "frechet", "--device", "cpu") == cli.USAGE
    assert "judges: frechet and fid take samples of words alone" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_suite_that_names_methods_or_seeds_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("suite.yaml").write_text("prompts: [{prompt: x, seed: 3}]\n")
    assert run(*ARGS) == cli.USAGE
    assert "methods and seeds are those of --methods and --seeds" in capsys.readouterr().err


def test_cells_are_means_over_prompts_with_intervals_that_hold_them() -> None:
    draw = random.Random(0)
    rows: list[dict[str, Any]] = [
        {"method": "sds", "prompt": prompt, "r_precision_object": draw.random(), "seconds": 2.0}
        for prompt in "abcdef"
        for _ in range(3)
    ]
    rows += [{"method": "csd", "prompt": "a", "r_precision_object": None, "seconds": None}]
    sds, csd = bench_table.cells(rows, judges=["own"])
    groups = [
        [row["r_precision_object"] for row in rows if row["prompt"] == p and row["method"] == "sds"] for p in "abcdef"
    ]
    cell = sds["r_precision_object"]
    assert cell["mean"] == mean_of_means(groups) and cell["objects"] == 18
    assert cell["low"] < cell["mean"] < cell["high"]
    assert (cell["low"], cell["high"]) == interval(groups, of=mean_of_means)
    assert csd["r_precision_object"] is None and csd["seconds"] is None and sds["seconds"] == 2.0
    text = bench_table.markdown([sds, csd], judges=["own"])
    assert f"{cell['mean']:.3f} ({cell['low']:.3f}..{cell['high']:.3f})" in text and "n/a" in text
    columns = len(bench_table.heads(["own"])) + 1
    assert all(line.count("|") == columns + 1 for line in text.splitlines())
    tex = bench_table.latex([sds, csd], judges=["own"]).splitlines()
    assert all(line.count("&") == columns - 1 for line in tex if line.endswith("\\\\"))


def test_samples_are_of_the_model_that_the_runs_pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A noun that is taken for its nearest, and a model that is pinned, reach the teacher as they reach the run."""
    seen: list[Choice] = []

    def draw(prior: Any, choice: Choice, **_: Any) -> torch.Tensor:
        seen.append(choice)
        return torch.ones(prior.num_views, 64, 64, 3)

    monkeypatch.setattr("splatdistill.priors.sampling.sample", draw)
    asked = replace(TrainConfig(), prompt="a chair", prior="embedded", seed=1, dtype="fp32")
    config = replace(asked, prior_instance=2, nearest=True)
    samples = teacher_samples._Samples(tmp_path / "samples", torch.device("cpu"))  # pyright: ignore[reportPrivateUsage]
    path, cameras = samples.of(Job("run", config, "line 1"))
    assert seen == [Choice("a chair", seed=1, instance=2, nearest=True)] * 2 and len(cameras) == 8
    other, _ = samples.of(Job("run", replace(config, prior_instance=3), "line 1"))
    assert other != path and path.is_file()


def test_a_distance_of_a_method_is_a_column_and_one_prompt_has_no_interval() -> None:
    rows = [{"method": name, "prompt": "a", "seconds": 1.0} for name in ("sds", "csd")]
    distances = {
        "fid": {"sds": {"mean": 12.5, "low": None, "high": None}, "csd": {"mean": 9.0, "low": 8.0, "high": 10.0}}
    }
    lines = bench_table.cells(rows, judges=["fid:weights.pth"], distances=distances)
    text, tex = (write(lines, judges=["fid:weights.pth"]) for write in (bench_table.markdown, bench_table.latex))
    assert "| FID |" in text and "| 12.500 |" in text and "9.000 (8.000..10.000)" in text and "& 12.500 &" in tex
