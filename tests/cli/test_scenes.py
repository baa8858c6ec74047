"""`scene`: parts in their places, none in another; the same after a stop; faults are one sentence and write nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from splatdistill import cli
from splatdistill.export import placing
from splatdistill.io import formats, ply
from splatdistill.scene.gaussians import FIELDS, Splats
from tests.cli.interrupts import interrupt_at

DEFAULTS = "defaults: {steps: 8, size: 16, output: {frames: 2, size: 16, save_every: 2}, splats: {num_init: 60}}\n"
PARTS = """parts:
- {prompt: a red ball, at: [0, 0, 0], extent: 1}
- {prompt: a blue ball, at: [0.6, 0, 0], extent: 0.8, turn: 30}
- {prompt: a green ball, at: [0, 0.9, 0], extent: 0.5}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("three.yaml").write_text(DEFAULTS + PARTS)
    Path("room.yaml").write_text("prompt: three balls\n" + DEFAULTS + PARTS)


def run(file: str, *args: str, out: str = "out", prior: str = "analytic") -> int:
    return cli.main(["scene", file, "--out", out, "--prior", prior, "--device", "cpu", *args])


def record(out: str = "out") -> Any:
    return json.loads((Path(out) / "scene.json").read_text())


def slices(found: Splats, counts: list[int]) -> list[Splats]:
    ends = np.cumsum(counts)
    cut = [slice(int(end) - count, int(end)) for end, count in zip(ends, counts, strict=True)]
    return [Splats(**{name: value[rows] for name, value in found.tensors.items()}) for rows in cut]


def bits(splats: Splats) -> list[bytes]:
    return [splats.tensors[name].numpy().tobytes() for name in FIELDS]


def test_parts_stand_in_their_places_and_none_in_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("three.yaml", "--rounds", "0") == cli.DONE
    said = capsys.readouterr().err
    found = record()
    assert found["overlap"]["before"]["pairs"] >= 1 and found["overlap"]["before"]["splats_inside"] > 0
    assert found["overlap"]["after"] == {"pairs": 0, "deepest": 0.0, "splats_inside": 0}
    assert [len(part["moved"]) for part in found["parts"]] == [3, 3, 3] and found["parts"][0]["moved"] == [0, 0, 0]
    for number, part in enumerate(found["parts"], 1):
        assert (f"part {number}, '{part['prompt']}', overlapped" in " ".join(said.split())) == any(part["moved"])
    scene = formats.read("out/scene.ply")
    standing = slices(scene, [part["num_splats"] for part in found["parts"]])
    assert sum(map(len, standing)) == len(scene)
    # Read from the file, in which places are rounded to float32, far below the gap that is left.
    assert (placing.gaps([placing.bounds(part) for part in standing]) >= 0).all()
    for part, one in zip(found["parts"], standing, strict=True):
        made = ply.read(Path("out/parts") / part["run"] / "splats.ply")
        pose = placing.Pose(part["scale"], part["turn"], tuple(part["translation"]))
        assert torch.equal(pose.into_scene(made).means, one.means) and torch.equal(made.sh0, one.sh0)
    assert Path("out/contact.png").stat().st_size > 0 and not Path("out/together").exists()


def test_parts_that_were_fitted_to_views_stay_as_they_are() -> None:
    of_parts = "parts:\n- {prompt: a mug, at: [0, 0, 0]}\n- {prompt: a lamp, at: [3, 0, 0], method: sds}\n"
    Path("fitted.yaml").write_text(DEFAULTS.replace("{steps", "{method: sample_fit, stages: [], steps") + of_parts)
    assert run("fitted.yaml", prior="embedded") == cli.DONE
    assert [path.name for path in Path("out/begins").iterdir()] == ["round-1-part-2.ply"]
    mug, lamp = slices(formats.read("out/scene.ply"), [part["num_splats"] for part in record()["parts"]])
    for part, one, same in zip(record()["parts"], (mug, lamp), (True, False), strict=True):
        made = ply.read(Path("out/parts") / part["run"] / "splats.ply")
        assert torch.equal(made.sh0, one.sh0) == same


def test_others_are_seen_and_stay_while_one_is_improved() -> None:
    assert run("room.yaml") == cli.DONE
    made = {json.loads((path / "summary.json").read_text())["prompt"]: path for path in Path("out/together").iterdir()}
    assert set(made) == {"a red ball", "a blue ball", "a green ball", "three balls"}
    for number, part in enumerate(record()["parts"], 1):
        begun = formats.read(f"out/begins/round-1-part-{number}.ply")
        result = ply.read(made[part["prompt"]] / "splats.ply")
        count = part["num_splats"]
        assert count < len(begun) == len(result)  # the others are there, and no splat came or went
        ours, others = slices(begun, [count, len(begun) - count])
        after, stayed = slices(result, [count, len(begun) - count])
        assert bits(stayed) == bits(others) and not torch.equal(after.sh0, ours.sh0)
    assert len(formats.read("out/begins/round-1-whole.ply")) == len(formats.read("out/scene.ply"))
    assert record()["overlap"]["after"]["pairs"] == 0


def test_stopped_twice_and_repeated_it_is_the_scene_of_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("room.yaml") == cli.DONE
    whole = Path("out/scene.ply").read_bytes()
    Path("out").rename("first")
    steps = interrupt_at(monkeypatch, 13, 30)  # in the second part, and in the round of all
    assert run("room.yaml") == cli.INTERRUPTED
    assert run("room.yaml") == cli.INTERRUPTED
    assert not Path("out/scene.ply").exists() and Path("out/together").exists()
    assert run("room.yaml") == cli.DONE
    assert Path("out/scene.ply").read_bytes() == whole
    done = steps[0]
    assert run("room.yaml") == cli.DONE
    assert steps[0] == done  # what is done stays


def test_a_teacher_of_single_objects_is_not_asked_about_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from splatdistill.commands import scenes

    monkeypatch.setattr(scenes, "ONE_OBJECT", ("analytic",))
    assert run("room.yaml") == cli.DONE
    assert len(list(Path("out/together").iterdir())) == 3
    for number, part in enumerate(record()["parts"], 1):
        assert len(formats.read(f"out/begins/round-1-part-{number}.ply")) == part["num_splats"]


@pytest.mark.parametrize("alone", [True, False])
def test_one_object_in_several_places_is_made_once(alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from splatdistill.commands import scenes

    if alone:
        monkeypatch.setattr(scenes, "ONE_OBJECT", ("analytic",))
    same = "{prompt: a red ball, seed: 3, at: [%d, 0, 0], turn: %d}"
    Path("same.yaml").write_text(
        DEFAULTS + f"parts: [{same % (0, 0)}, {same % (2, 90)}, {same.replace('3', '4') % (4, 0)}]\n"
    )
    assert run("same.yaml") == cli.DONE
    assert len(list(Path("out/parts").iterdir())) == 2
    assert len(list(Path("out/together").iterdir())) == (2 if alone else 3)
    parts = record()["parts"]
    assert parts[0]["run"] == parts[1]["run"] != parts[2]["run"]
    standing = slices(formats.read("out/scene.ply"), [part["num_splats"] for part in parts])
    assert torch.equal(standing[0].sh0, standing[1].sh0) == alone


ONE = "parts: [{{prompt: a red ball, {}}}]\n"
FAULTS = {
    "an unknown key": ("part: []\n", "unknown key 'part'; did you mean 'parts'?"),
    "no parts": ("parts: []\n", "must hold a list `parts`"),
    "parts that are no list": ("parts: {a: 1}\n", "must hold a list `parts`"),
    "a part that is no mapping": ("parts: [a red ball]\n", "part 1 must be settings as 'key: value', a prompt among"),
    "a part without a prompt": ("parts: [{at: [0, 0, 0]}]\n", "part 1 must be settings as 'key: value', a prompt"),
    "no place": (ONE.format("extent: 1"), "part 1: at must be three numbers [x, y, z]"),
    "a place in the plane": (ONE.format("at: [0, 0]"), "part 1: at must be three numbers [x, y, z]"),
    "a place of words": (ONE.format("at: [0, 0, up]"), "part 1: at must be three numbers"),
    "a place far away": (ONE.format("at: [0, .inf, 0]"), "part 1: at must be three numbers"),
    "no extent": (ONE.format("at: [0, 0, 0], extent: 0"), "part 1: extent must be a number above 0"),
    "a turn of words": (ONE.format("at: [0, 0, 0], turn: left"), "part 1: turn must be a number"),
    "a size": (ONE.format("at: [0, 0, 0], size: 1"), "part 1: `extent` says how large a part is"),
    "a key that no part has": (ONE.format("at: [0, 0, 0], colour: red"), "part 1: unknown key 'colour'"),
    "a setting below its range": (ONE.format("at: [0, 0, 0], steps: 0"), "part 1: steps must be above 0"),
    "an unknown method": (ONE.format("at: [0, 0, 0], method: sdx"), "method"),
    "a whole that is no text": ("prompt: [1]\nparts: [{prompt: x, at: [0, 0, 0]}]\n", "text `prompt`"),
    "the same place": (
        "parts: [{prompt: a red ball, at: [0, 0, 0]}, {prompt: a ball, at: [0.0, 0, 0]}]\n",
        "parts 1 and 2 stand at the same place",
    ),
    "the same run": (
        "parts: [{prompt: x, at: [0, 0, 0], name: a}, {prompt: y, at: [2, 0, 0], name: a}]\n", "would both write"
    ),
    "no YAML": ("parts: [\n", "is not YAML"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_one_sentence_and_nothing_is_written(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    text, said = FAULTS[fault]
    Path("bad.yaml").write_text(text)
    assert run("bad.yaml") == cli.USAGE
    err = " ".join(capsys.readouterr().err.split())
    assert said in err and err.count("splatdistill: ") == 1 and "bad.yaml" in err
    assert not Path("out").exists()


def test_an_object_that_the_prior_does_not_know_is_refused_first(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.yaml").write_text("parts: [{prompt: a red ball, at: [0, 0, 0]}, {prompt: a zyzzyva, at: [2, 0, 0]}]\n")
    assert run("bad.yaml", prior="embedded") == cli.USAGE
    err = " ".join(capsys.readouterr().err.split())
    assert "part 2: prompt: " in err and "zyzzyva" in err and err.count("splatdistill: ") == 1
    assert not Path("out").exists()


def test_parts_that_cannot_be_parted_near_their_places_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.yaml").write_text(DEFAULTS + "parts: [{prompt: a red ball, at: [0, 0, 0], extent: 4}, "
                                "{prompt: a ball, at: [0, 1.8, 0], extent: 0.3}]\n")  # fmt: skip
    assert run("bad.yaml", "--rounds", "0") == cli.USAGE
    err = " ".join(capsys.readouterr().err.split())
    assert "part 2: it overlaps the parts before it and would have to move by" in err
    assert not Path("out/scene.ply").exists() and len(list(Path("out/parts").iterdir())) == 2  # made parts are kept
