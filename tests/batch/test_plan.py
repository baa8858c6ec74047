"""A file of prompts becomes runs that do not depend on each other, or one sentence that names the place."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splatdistill import cli
from splatdistill.batch import plan
from splatdistill.batch.plan import Entry, Job, PromptFile
from splatdistill.commands.batch import _plan
from splatdistill.config.schema import TrainConfig


def jobs(file: Path, text: str, *flags: str) -> list[Job]:
    file.write_text(text)
    return _plan(["--prompts", str(file), *flags])[2]


def test_a_text_file_holds_a_prompt_a_line(tmp_path: Path) -> None:
    found = jobs(tmp_path / "a.txt", "\ufeffa red ball\r\n\n  # not this\n  a blue ball  \n", "--steps", "7")
    assert [job.config.prompt for job in found] == ["a red ball", "a blue ball"]
    assert [job.where.rpartition(", ")[2] for job in found] == ["line 1", "line 4"]
    assert {job.config.steps for job in found} == {7}
    assert all(re.fullmatch(r"a-(red|blue)-ball-[0-9a-f]{8}", job.run) for job in found)


def test_later_settings_win(tmp_path: Path) -> None:
    """Method's preset, --config, defaults of the prompts, flags, entry."""
    (tmp_path / "c.yaml").write_text("size: 16\nsteps: 10\nnum_views: 8\nsplats: {num_init: 5}\n")
    text = """
defaults: {steps: 20, num_views: 12, splats: {num_init: 6}}
prompts:
  - plain
  - {prompt: own, splats: {num_init: 8}, name: mine, seed: 3}
  - {prompt: other, method: vsd, vsd: {particles: 2}}
"""
    plain, own, other = jobs(
        tmp_path / "p.yaml", text, "--config", str(tmp_path / "c.yaml"), "--num-views", "4", "--splats.num-init", "7"
    )
    assert (plain.config.size, plain.config.steps, plain.config.num_views) == (16, 20, 4)
    assert [job.config.splats.num_init for job in (plain, own, other)] == [7, 8, 7]
    assert [job.config.method for job in (plain, own, other)] == ["sample_fit", "sample_fit", "vsd"]
    assert (own.run, own.config.seed) == ("mine", 3)
    assert other.config.vsd.particles == 2
    assert {job.config.threads for job in (plain, own, other)} == {1}  # not a question of how many workers there are


def test_a_grid_makes_each_entry_with_each_combination(tmp_path: Path) -> None:
    text = """
defaults: {steps: 20}
grid: {method: [sds, csd], seed: [0, 1, 2], densify.max_splats: [50, 60]}
prompts: [a red ball, {prompt: a blue ball, size: 16}]
"""
    found = jobs(tmp_path / "p.yaml", text)
    assert len(found) == len({job.run for job in found}) == 2 * 2 * 3 * 2
    wanted = [(m, s, n) for m in ("sds", "csd") for s in (0, 1, 2) for n in (50, 60)]
    for half in (found[:12], found[12:]):
        assert [(job.config.method, job.config.seed, job.config.densify.max_splats) for job in half] == wanted
    assert {job.config.size for job in found[12:]} == {16} and {job.config.steps for job in found} == {20}
    assert found[1].where.endswith("entry 1 with method 'sds' and seed 0 and densify.max_splats 60")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("grid: {seed: 3}\nprompts: [x]\n", r"grid must hold names of settings, each with a list of values"),
        ("grid: {seed: []}\nprompts: [x]\n", r"grid must hold names of settings, each with a list of values"),
        ("grid: [seed]\nprompts: [x]\n", r"grid must hold names of settings, each with a list of values"),
        ("grid: {seed: [1]}\nprompts: [{prompt: x, seed: 2}]\n", r"entry 1: seed must not stand in an entry"),
        ("grid: {seed: [1]}\nprompts: [{prompt: x, name: y}]\n", r"entry 1: name must not stand in an entry"),
        ("grid: {sds.guidance: [1]}\nprompts: [x]\n", r"entry 1 with sds.guidance 1: unknown key 'sds.guidance'"),
    ],
)
def test_a_faulty_grid_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        jobs(tmp_path / "p.yaml", text)


def test_flags_may_belong_to_the_method_that_the_file_names(tmp_path: Path) -> None:
    (job,) = jobs(tmp_path / "p.yaml", "defaults: {method: esd}\nprompts: [x]\n", "--lambda", "0.25")
    assert (job.config.method, job.config.esd.entropy) == ("esd", 0.25)


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=8), st.integers(0, 2**31))
def test_a_seed_depends_on_its_prompt_and_its_repeats_alone(prompts: list[str], seed: int) -> None:
    def seeds(some: list[str]) -> list[tuple[str, int]]:
        file = PromptFile(Path("p"), [Entry(f"p, line {i}", {"prompt": prompt}) for i, prompt in enumerate(some)])
        made = plan.jobs(file, method=None, base=lambda *_: replace(TrainConfig(), seed=seed))
        return [(job.config.prompt, job.config.seed) for job in made]

    every = seeds(prompts)
    assert len(set(every)) == len(prompts)
    for word in set(prompts):
        assert [x for x in every if x[0] == word] == seeds([x for x in prompts if x == word])


def test_another_seed_makes_other_objects(tmp_path: Path) -> None:
    first, second = (jobs(tmp_path / "a.txt", "x\nx\n", "--seed", seed) for seed in "01")
    assert len({job.config.seed for job in [*first, *second]}) == 4
    assert len({job.run for job in [*first, *second]}) == 4


@pytest.mark.parametrize(
    ("name", "text", "flags", "sentence"),
    [
        ("p.txt", None, [], "prompts: {path} cannot be read: No such file or directory."),
        ("p.yaml", None, [], "{path} cannot be read: No such file or directory."),
        ("p.txt", "\n# nothing\n", [], "prompts: {path} holds no prompt; write one a line."),
        ("p.yaml", "", [], "prompts: {path} holds no prompt; write one a line."),
        ("p.txt", "a\nb\x07\n", [], "{path}, line 2: prompt must be one line of text without control characters."),
        ("p.yaml", "[a, [b]]", [], "{path}, entry 2 must be a prompt, or settings as 'key: value'; it is ['b']."),
        ("p.yaml", "[a", [], "{path} is not YAML at line 1."),
        ("p.yaml", "just words", [], "{path} must be a list of prompts, or hold such a list `prompts`"),
        ("p.yaml", "prompt: a", [], "{path} must be a list of prompts, or hold such a list `prompts`"),
        ("p.yaml", "[{steps: 3}]", [], "{path}, entry 1: prompt is empty; say what to make"),
        ("p.yaml", "[{prompt: a, stepz: 3}]", [], "{path}, entry 1: unknown key 'stepz'; did you mean 'steps'?"),
        ("p.yaml", "[{prompt: a, steps: x}]", [], "{path}, entry 1: steps must be a whole number; it is 'x'."),
        ("p.yaml", "[{prompt: a, steps: 0}]", [], "{path}, entry 1: steps must be above 0; it is 0."),
        ("p.yaml", "[a, {prompt: b, method: sdx}]", [], "{path}, entry 2: method: 'sdx' is unknown; the methods are"),
        ("p.yaml", "[{prompt: a, method: [x]}]", [], "{path}, entry 1: method: \"['x']\" is unknown"),
        ("p.yaml", "[{prompt: a, vsd: {}}]", [], "{path}, entry 1: method sds does not read 'vsd'."),
        ("p.yaml", "[{prompt: a, name: ../b}]", [], "{path}, entry 1: name: '../b' cannot name a run"),
        ("p.yaml", "[{prompt: a, name: Ledger}]", [], "{path}, entry 1: name: 'Ledger' is taken by the batch itself"),
        (
            "p.yaml", "[{prompt: a, name: n}, b, {prompt: c, name: N}]", [],
            "{path}, entry 3 and entry 1 would both write N; give one another name or seed.",
        ),
        ("p.yaml", "[{prompt: a, seed: 1}, {prompt: a, seed: 1}]", [], "{path}, entry 2 and entry 1 would both write"),
        ("p.yaml", "{defaults: {stepz: 1}, prompts: [a]}", [], "{path}, defaults: unknown key 'stepz'"),
        ("p.yaml", "{defaults: {method: sdx}, prompts: [a]}", [], "{path}, defaults: method: 'sdx' is unknown"),
        ("p.yaml", "[a, {prompt: b, method: vsd}]", ["--sds.rescale", "1"], "{path}, entry 2: --sds.rescale: --method"),
        ("p.txt", "a", ["--method", "sdx"], "method: 'sdx' is unknown; the methods are sds"),
        ("p.txt", "a", ["--workers", "-1"], "workers must not be negative; it is -1."),
        ("p.txt", "a", ["--retries", "-1"], "retries must not be negative; it is -1."),
        ("p.txt", "a", ["--ray-address", "auto"], "ray_address: only --engine ray reads it."),
        ("p.txt", "a", ["--prior", "nothing"], "{path}, line 1: prior: there is no prior or folder called 'nothing'"),
        ("p.txt", "a lamp\nxyzzy", ["--prior", "embedded"], "{path}, line 2: prompt: This prior does not know 'xyzzy'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    text: str | None,
    flags: list[str],
    sentence: str,
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    prior = [] if "--prior" in flags else ["--prior", "analytic"]
    assert cli.main(["batch", "--prompts", str(path), *prior, *flags]) == cli.USAGE
    said = capsys.readouterr().err
    assert said.startswith("splatdistill: " + sentence.format(path=path)) and said.count("\n") == 1
    assert list((tmp_path / "here").iterdir()) == []


def test_all_bad_lines_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "p.yaml", tmp_path / "out"
    path.write_text("[a zyzzyva, {prompt: a car, steps: 0}, a car, an xyzzy, {prompt: a dog, stepz: 1}, a zyzzyva]")
    assert cli.main(["batch", "--prompts", str(path), "--prior", "embedded", "--out", str(out)]) == cli.USAGE
    lines = [line.removeprefix(f"splatdistill: {path}, ") for line in capsys.readouterr().err.splitlines()]
    places = ["entry 2: steps", "entry 5: unknown", "entry 1, entry 6: prompt", "entry 4: prompt"]
    assert [line[: len(place)] for line, place in zip(lines, places, strict=True)] == places
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        ([], "prompts: name a file with one prompt a line"),
        (["--prompt", "a red ball"], "--prompts"),
        (["--workerz", "2"], "--workers"),
        (["--engine", "slurm"], "engine"),
    ],
)
def test_wrong_flags_are_explained(capsys: pytest.CaptureFixture[str], flags: list[str], hint: str) -> None:
    assert cli.main(["batch", *flags]) == cli.USAGE
    captured = capsys.readouterr()
    assert hint in captured.err + captured.out
