"""`edit` and `refine`: files come back where they were, what may not change does not, and faults change nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from splatdistill import cli
from splatdistill.io import formats
from splatdistill.io.formats import Written
from splatdistill.io.frames import ball as fit_ball
from splatdistill.io.frames import transform
from splatdistill.io.kinds import Assumptions
from splatdistill.io.runs import Run
from splatdistill.scene.gaussians import FIELDS, Splats, with_sh_degree
from tests.io.scenes import asymmetric
from tests.rounding import UNIT, assert_within

QUICK = ("--prior", "analytic", "--steps", "3", "--size", "16", "--device", "cpu")
WORDS = ("--from", "a red ball", "--to", "a blue ball")


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text("output: {frames: 2, size: 16}\n")


def run(*args: object) -> int:
    return cli.main([str(arg) for arg in args] + ["--config", "small.yaml"])


def ball(count: int = 300, *, degree: int = 0) -> Splats:
    """Splats in a ball of radius 0.8, no two alike."""
    g = torch.Generator().manual_seed(3)
    splats = asymmetric(count)
    means = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=-1)
    means = 0.8 * means * torch.rand(count, 1, generator=g) ** (1 / 3)
    wide = torch.full((count, 3), -3.0) + 0.1 * torch.randn(count, 3, generator=g)
    made = Splats(**{**splats.tensors, "means": means, "scales": wide, "opacities": torch.ones(count)})
    made = with_sh_degree(made, degree)
    shN = 0.1 * torch.randn(made.shN.shape, generator=g)
    return Splats(**{**made.tensors, "shN": shN})


def rows(splats: Splats) -> Tensor:
    """All numbers of each splat, [N,K]."""
    return torch.cat([splats.tensors[name].reshape(len(splats), -1) for name in FIELDS], 1)


def test_outside_the_box_every_bit_stays_and_the_source_is_not_touched(tmp_path: Path) -> None:
    formats.write("ball.ply", ball())
    before = Path("ball.ply").read_bytes()
    # In the world of the file, +y down: y < 0 there is the upper half.
    assert run("edit", "ball.ply", *WORDS, *QUICK, "--box", "-2,-2,-2,2,0,2", "--output", "new.ply") == cli.DONE
    assert Path("ball.ply").read_bytes() == before
    source, result = formats.read("ball.ply"), formats.read("new.ply")
    upper = source.means[:, 1] >= 0
    outside = int((~upper).sum())
    assert 0 < outside < len(source)
    assert torch.equal(rows(result)[:outside], rows(source)[~upper])
    assert not torch.equal(rows(result)[outside:], rows(source)[upper][: len(result) - outside])
    (report,) = Path("runs").rglob("change.json")
    said = json.loads(report.read_text())
    assert said["untouched"] == outside and said["num_splats"][0] == len(source)
    assert len(said["psnr_of_views"]) == 8 and (report.parent / "before-after.png").exists()
    # What was drawn beside those that learned is in the run's own file too.
    assert len(formats.read(report.parent / "splats.ply")) == len(result) <= len(source)


def test_a_mask_names_splats_and_both_together_mean_both() -> None:
    formats.write("ball.ply", ball())
    source = formats.read("ball.ply")
    mask = np.arange(len(source)) % 2 == 0
    np.save("mask.npy", mask)
    args = ("--mask", "mask.npy", "--box", "-2,-2,-2,2,0,2", "--output", "new.ply")
    assert run("edit", "ball.ply", *WORDS, *QUICK, *args) == cli.DONE
    chosen = torch.from_numpy(mask) & (source.means[:, 1] >= 0)
    outside = int((~chosen).sum())
    assert torch.equal(rows(formats.read("new.ply"))[:outside], rows(source)[~chosen])


def test_a_capture_comes_back_where_it_was_with_its_degree(capsys: pytest.CaptureFixture[str]) -> None:
    """Of another place and size, +y down, in .spz 4: as a phone's program writes it."""
    far = transform(ball(degree=2), scale=6.0, translation=(20.0, 3.0, -10.0))
    turned = transform(far, rotation=(0.0, 0.0, 0.0, 1.0))  # half a turn about z: what was up is down
    formats.write("capture.spz", turned, how=Written(spz_version=4))
    assert (
        run("refine", "capture.spz", "--prompt", "a red ball", *QUICK, "--up", "-y", "--output", "new.ply") == cli.DONE
    )
    assert "lies elsewhere than cameras look" in capsys.readouterr().err
    source, result = formats.read("capture.spz", Assumptions(up="-y")), formats.read("new.ply")
    assert result.sh_degree == source.sh_degree == 2
    assert len(result) == len(source)
    (folder,) = Path("runs").iterdir()
    placed = formats.read(folder / "splats.ply")
    assert float(placed.means.norm(dim=-1).quantile(0.9)) < 1.1  # where the cameras look
    # A step of Adam is no longer than its rate: (1 - 0.9) / sqrt(1 - 0.99) is 1. The fit made the capture as many times
    # smaller as `ball` says; to be moved there and back rounds numbers of about 30 a few times.
    allowed = 3 * Run(folder).settings().optim.means * fit_ball(source)[1] + 8 * UNIT * source.means.abs().max()
    assert_within(result.means, source.means, float(allowed))
    assert not torch.equal(result.sh0, source.sh0)


def test_the_same_command_again_trains_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    formats.write("ball.ply", ball())
    args = ("edit", "ball.ply", *WORDS, *QUICK, "--output", "new.ply")
    assert run(*args) == cli.DONE
    first = Path("new.ply").read_bytes()
    capsys.readouterr()
    assert run(*args, "--force") == cli.DONE
    assert "train " not in capsys.readouterr().err and Path("new.ply").read_bytes() == first
    assert len(list(Path("runs").iterdir())) == 1


FAULTS = {
    "equal texts": (("--from", "a red ball", "--to", "A  red ball"), "to: it is what --from says"),
    "no text": (("--from", "a red ball"), "to is empty"),
    "an empty box": ((*WORDS, "--box", "5,5,5,6,6,6"), "splats.box: none of the 300 splats lies in it."),
    "a box the wrong way round": ((*WORDS, "--box", "1,1,1,0,0,0"), "must be the lowest corner, then the highest"),
    "a box of three": ((*WORDS, "--box", "1,1,1"), "box must be six numbers"),
    "a box of words": ((*WORDS, "--box", "a,b"), "box must be six numbers"),
    "a mask of another size": ((*WORDS, "--mask", "short.npy"), "is of 7 splats, and the file of --init has 300."),
    "a mask of numbers": ((*WORDS, "--mask", "floats.npy"), "must hold true or false for each splat"),
    "no mask": ((*WORDS, "--mask", "none.npy"), "cannot be read as a .npy file"),
    "the source as the output": ((*WORDS, "--output", "ball.ply", "--force"), "is the source, which stays as it is"),
    "an unknown format": ((*WORDS, "--output", "new.obj"), "the name must end with one of"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_one_sentence_and_nothing_is_written(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    formats.write("ball.ply", ball())
    np.save("short.npy", np.ones(7, bool))
    np.save("floats.npy", np.ones(300))
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    args, sentence = FAULTS[fault]
    assert run("edit", "ball.ply", *QUICK, *args) == cli.USAGE
    said = capsys.readouterr().err
    assert sentence in said and said.count("splatdistill: ") == 1
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before
