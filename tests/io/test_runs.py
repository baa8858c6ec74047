"""What is read from a run folder: whole ones, damaged ones, those of later versions, and a stranger's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from splatdistill import cli
from splatdistill.config import old_names, settings, validation
from splatdistill.config.schema import TrainConfig
from splatdistill.io.runs import Run
from splatdistill.training import run as training
from tests.viewer.serving import make_run, serving

LEVELS = 8  # ten aliases a level: 10^8 values, of which no reader may make more than the file has characters


def nested_anchors() -> str:
    """A few hundred characters that stand for 10^LEVELS values."""
    lines = ["&a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"&a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, LEVELS)]
    return "prompt:\n" + "".join(f"- {line}\n" for line in lines)


def test_settings_come_back_as_they_were_written(tmp_path: Path) -> None:
    make_run(tmp_path / "run", None)
    run = Run(tmp_path / "run")
    assert run.exists() and run.known_settings() == (run.settings(), [])
    assert run.settings().prompt == "a knot of many colours"


def old_run(folder: Path) -> Path:
    """A run folder with every setting that has another name now, as the version before wrote it."""
    folder.mkdir()
    (folder / "config.yaml").write_bytes((Path(__file__).parent / "data" / "old_run.yaml").read_bytes())
    return folder


def test_an_old_run_opens_under_the_names_of_today(tmp_path: Path) -> None:
    run = Run(old_run(tmp_path / "old"))
    config, notes = run.known_settings()
    assert notes == [] and config == run.settings()
    assert (config.camera.kind, config.camera.position_jitter, config.light.random_ambient) == ("outward", 0.25, True)
    assert (config.views.view_dependent_prompts, config.views.camera_embedding) == ("on", True)
    assert config.consistency.gap_range == 0.1
    (_, first), (_, second) = settings.stages(config)
    assert first == config and second.camera.position_jitter == 0.1 and not second.views.camera_embedding
    assert second.consistency.gap_range == 0.15
    validation.validate(config)


def test_an_old_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, begun = old_run(tmp_path / "old"), []
    monkeypatch.setattr(training, "train", lambda config, **rest: begun.append(config))
    assert cli.main(["train", "--resume", str(folder), "--steps", "9"]) == cli.DONE
    assert begun == [replace(Run(folder).settings(), steps=9)]


@pytest.mark.parametrize(("old", "new"), old_names.KEYS.items())
def test_a_user_is_told_the_name_of_today(tmp_path: Path, old: str, new: str) -> None:
    section, _, key = old.partition(".")
    with pytest.raises(ValueError, match=rf"mine: unknown key '{old}'; did you mean '{new}'\?"):
        settings.merge(TrainConfig(), {section: {key: 1}}, where="mine")
    getattr(getattr(TrainConfig(), section), new.partition(".")[2])


def test_settings_of_a_later_version_are_left_out_and_named(tmp_path: Path) -> None:
    """The others stay; one that has another type or another choice there is left out like one that is new."""
    text = "prompt: a cup\nmethod: vsd\nsteps: 77\nnew: 1\nrenderer: other\nseed: x\n"
    text += "sds:\n  newer: 2\n  guidance_scale: 3.0\n"
    (tmp_path / "config.yaml").write_text(text)
    config, notes = Run(tmp_path).known_settings()
    assert (config.prompt, config.method, config.steps, config.sds.guidance_scale) == ("a cup", "vsd", 77, 3.0)
    assert (config.renderer, config.seed) == (TrainConfig().renderer, 0)
    assert len(notes) == 1 and all(name in notes[0] for name in ("new", "sds.newer", "renderer", "seed"))
    with pytest.raises(ValueError, match="unknown key 'new'"):
        Run(tmp_path).settings()


@pytest.mark.parametrize(
    "text", [nested_anchors(), "prompt: !!python/name:os.system\n", "[", "- 1\n", "a: " + "[" * 99]
)
def test_settings_that_cannot_be_read_are_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    config, notes = Run(tmp_path).known_settings()
    assert config == TrainConfig(prompt=tmp_path.name) and len(notes) == 1 and notes[0].endswith(".")


def test_the_page_makes_no_more_of_nested_anchors_than_they_have_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted: the events that the parser gives. A reader that follows aliases would make 10^8 values."""
    made, parse = 0, yaml.parse

    def counting(*args: object, **kwargs: object):
        nonlocal made
        for event in parse(*args, **kwargs):  # type: ignore[arg-type]
            made += 1
            yield event

    monkeypatch.setattr(yaml, "parse", counting)
    monkeypatch.setattr(yaml, "load", None)
    monkeypatch.setattr(yaml, "safe_load", None)
    make_run(tmp_path / "run", None)
    text = nested_anchors()
    (tmp_path / "run" / "config.yaml").write_text(text)
    with serving(tmp_path / "run") as served:
        about = served.json("/api/runs/0")
    assert 0 < made < 2 * len(text)  # the list of runs reads it once more
    assert about["prompt"] == "run" and "anchor" in about["notes"][0]
    validation.validate(TrainConfig(prompt=about["prompt"]))


def test_a_link_that_leads_out_of_the_run_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"step": 3}')
    (tmp_path / "run").mkdir()
    for name in ("summary.json", "config.yaml"):
        (tmp_path / "run" / name).symlink_to(tmp_path / "secret.json")
    assert Run(tmp_path / "run").summary() == {} and Run(tmp_path / "run").text("config.yaml") == ""
    assert Run(tmp_path / "run").known_settings()[0] == TrainConfig()


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "[" * 100_000])
def test_a_damaged_summary_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "summary.json").write_text(text)
    assert Run(tmp_path).summary() == {}
