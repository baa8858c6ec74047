"""What the command line says of the words and cameras that a prior knows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from splatdistill import cli
from splatdistill.training import run as training
from tests.cli.smoke import said


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
    monkeypatch.setattr(training, "train", lambda config, **rest: seen.append(config.prompt))
    arguments = ["train", "--prior", str(prior), "--out", str(prior.parent / "runs")]
    assert cli.main([*arguments, "--prompt", "a red zyzzyva chair"]) == cli.DONE
    assert "Note: This prior does not know 'zyzzyva'" in capsys.readouterr().err
    assert cli.main([*arguments, "--prompt", "a zyzzyva"]) == cli.USAGE
    assert "prompt: This prior does not know 'zyzzyva' nor anything near it" in said(capsys)
    assert cli.main([*arguments, "--prompt", "a stool"]) == cli.USAGE
    assert "the nearest it knows: chair. Name one of them" in said(capsys)
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
    monkeypatch.setattr(training, "train", lambda config, **rest: None)
    base = ["train", "--prior", str(prior), "--prompt", "a red chair", "--out", str(prior.parent / "runs")]
    assert cli.main([*base, *flags]) == cli.DONE
    err = capsys.readouterr().err
    assert (note in err) if note else ("Note: camera" not in err)
    assert cli.main([*base, "--config", "scene", "--name", "scene"]) == cli.DONE
    assert "Note: camera.kind outward needs a prior trained on scenes" in capsys.readouterr().err
    assert cli.main([*base, "--camera.views-per-group", "2"]) == cli.USAGE
    assert "camera.views_per_group must be 4, the number of views that this prior sees at once" in said(capsys)
