"""Figures of `eval` against cases whose answer is known, and the whole evaluation with a judge that is open to view."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from splatdistill import evaluate
from splatdistill.config.schema import CameraConfig, SplatsConfig
from splatdistill.evaluate import EvalObject, ReferenceStats, metrics, report, wording
from splatdistill.evaluate.wording import candidates, without_colours
from splatdistill.ops.geometry import SH_C0
from splatdistill.rendering.renderer import make_renderer
from splatdistill.scene.gaussians import Splats, init_ball
from tests.rounding import UNIT, assert_rounded

COLOURS = {"red": (0.8, 0.1, 0.1), "green": (0.1, 0.7, 0.1), "blue": (0.1, 0.2, 0.8)}
POOL = tuple(f"a {colour} ball" for colour in COLOURS)


def test_every_image_finds_its_own_text() -> None:
    texts = torch.eye(5)
    images = F.normalize(texts[[3, 0, 4, 1]] + 0.1, dim=-1)
    assert metrics.retrieved(images, texts, torch.tensor([3, 0, 4, 1])).tolist() == [1, 1, 1, 1]
    assert metrics.retrieved(images, texts, torch.tensor([0, 1, 2, 3])).tolist() == [0, 0, 0, 0]


def test_ties_share_and_a_blind_judge_scores_chance() -> None:
    images = F.normalize(torch.tensor([[1.0, 1, 0], [1.0, 1, 0], [1.0, 0, 0]]), dim=-1)
    assert metrics.retrieved(images, torch.eye(3), torch.tensor([0, 2, 0])).tolist() == [0.5, 0, 1]
    same = F.normalize(torch.ones(7, 4), dim=-1)
    scores = torch.stack([metrics.retrieved(same[:3], same, torch.full((3,), t)) for t in range(7)])
    torch.testing.assert_close(scores, torch.full((7, 3), 1 / 7))


@pytest.mark.parametrize(
    ("ring", "fronts"),
    [("00000000", 0), ("10000000", 1), ("11000001", 1), ("01000001", 2), ("10001000", 2), ("11011001", 2),
     ("10101010", 4), ("11111111", 1), ("01111111", 1), ("00110000", 1)],
)  # fmt: skip
def test_neighbouring_fronts_are_one_and_two_make_a_janus(ring: str, fronts: int) -> None:
    called = [c == "1" for c in ring]
    for shift in range(8):  # where the ring begins does not matter
        turned = called[shift:] + called[:shift]
        assert metrics.num_fronts(turned) == fronts
        assert metrics.is_janus(turned) == (fronts >= 2)


def assert_appearance(
    rgb: Tensor, alpha: Tensor, *, saturation: float = 0.0, contrast: float = 0.0, high_frequency: float = 0.0
) -> None:
    wanted = {"saturation": saturation, "contrast": contrast, "high_frequency": high_frequency}
    assert list(metrics.appearance(rgb, alpha)) == list(wanted)
    assert_rounded(
        lambda: torch.tensor(list(metrics.appearance(rgb, alpha).values())), torch.tensor(list(wanted.values()))
    )


def test_appearance_of_known_pictures() -> None:
    alpha = torch.ones(1, 16, 16, 1)
    flat = torch.tensor([0.8, 0.4, 0.2]).expand(1, 16, 16, 3)
    assert_appearance(flat, alpha, saturation=0.75)
    assert metrics.solidity(alpha, torch.tensor([0.05, 0.5])) == {"fog": 0.0, "faint": 0.5}
    half = torch.cat([alpha, alpha / 2])
    assert metrics.solidity(half, torch.tensor([0.5]))["fog"] == 0.5
    i = torch.arange(16)
    checks = ((i[:, None] + i) % 2).float()[None, :, :, None].expand(1, 16, 16, 3)
    # The binomial mean of a checkerboard is 1/2 everywhere but at the rim.
    cut = alpha.clone()
    cut[:, 0], cut[:, -1], cut[:, :, 0], cut[:, :, -1] = 0, 0, 0, 0
    assert_appearance(checks, cut, contrast=0.5, high_frequency=0.5)
    assert all(math.isnan(value) for value in metrics.appearance(flat, 0 * alpha).values())


def test_the_ground_and_the_outline_do_not_count() -> None:
    alpha = torch.zeros(1, 16, 16, 1)
    alpha[:, 4:12, 4:12] = 1
    rgb = 0.3 * alpha.expand(-1, -1, -1, 3) + (1 - alpha)
    assert_appearance(rgb, alpha)


def test_consistency_and_diversity_of_known_embeddings() -> None:
    same = F.normalize(torch.ones(8, 4), dim=-1)
    assert metrics.view_consistency(same) == pytest.approx(1)
    assert metrics.view_consistency(torch.eye(8)) == pytest.approx(0)
    assert metrics.diversity([same, same, same]) == pytest.approx(0)
    assert metrics.diversity([torch.eye(8), torch.eye(8).roll(1, 0)]) == pytest.approx(1)
    assert metrics.diversity([same, same, -same]) == pytest.approx(4 / 3)


def test_the_pool_leaves_out_what_is_true_of_a_prompt() -> None:
    pool = ("a red car", "a blue car", "a red lamp")
    assert candidates(["a car"], pool) == ["a car", "a red lamp"]
    assert candidates(["a red car", "a red car"], pool) == ["a red car", "a blue car", "a red lamp"]
    assert candidates(["a shiny red car"], pool) == ["a shiny red car", "a blue car", "a red lamp"]
    many = [f"thing{i}" for i in range(wording.FEW)]
    assert candidates(many, pool) == many


def test_prompts_without_their_colours() -> None:
    colours = frozenset({"red", "orange"})
    for prompt, plain in (
        ("a red armchair", "an armchair"), ("an orange car", "a car"), ("a lamp", "a lamp"), ("red", "red"),
        ("a red cone on an orange cube", "a cone on a cube"),
    ):  # fmt: skip
        assert without_colours(prompt, colours) == plain


class ColourJudge:
    """Knows three colours by their nearest mean colour; every shape is the same to it, and it reads of balls alone."""

    name, image_size, probe_warning = "the colour judge", 32, ""

    def reads(self, prompt: str) -> bool:
        return prompt.endswith("ball")

    def embed_images(self, rgb: Tensor) -> Tensor:
        covered = (rgb.amin(-1) < 0.95).float()
        mean = (rgb * covered[..., None]).sum((1, 2)) / covered.sum((1, 2))[:, None].clamp(min=1)
        return F.normalize(mean, dim=-1)

    def embed_texts(self, prompts: Sequence[str]) -> Tensor:
        named = [next((COLOURS[w] for w in prompt.split() if w in COLOURS), (1.0, 1.0, 1.0)) for prompt in prompts]
        return F.normalize(torch.tensor(named), dim=-1)

    def has_front(self, prompt: str) -> bool:
        return "red" in prompt

    def is_front(self, rgb: Tensor) -> Tensor:
        return torch.tensor([True, False] * 4)


def ball(colour: str) -> Splats:
    splats = init_ball(SplatsConfig(num_init=400, opacity=0.9), seed=0)
    splats.tensors["sh0"] = ((torch.tensor(COLOURS[colour]) - 0.5) / SH_C0).expand(400, 1, 3).clone()
    return splats


def subjects(*colours: str) -> list[EvalObject]:
    return [
        EvalObject(
            f"run {i}", f"a {colour} ball", ball(colour), CameraConfig(),
            {"method": "sds", "seed": i, "seconds_total": 2.0 * i, "image_evaluations": 8},
        )
        for i, colour in enumerate(colours)
    ]  # fmt: skip


def judged(
    *colours: str,
    prompts: Sequence[str] | None = None,
    judge: ColourJudge | None = None,
    objects: Sequence[EvalObject] | None = None,
):
    judge, objects = judge or ColourJudge(), objects or subjects(*colours)
    reference = ReferenceStats(POOL, frozenset(COLOURS), {"coloured": {"saturation": 0.5}})
    renderer = make_renderer(torch.device("cpu"), "cpu")
    return evaluate.evaluate(objects, judge=judge, probe=judge, reference=reference, renderer=renderer, prompts=prompts)


def test_objects_are_told_apart_by_what_the_judge_sees() -> None:
    result, pictures = judged("red", "blue")
    assert [row["r_precision"] for row in result["objects"]] == [1, 1]
    assert [row["read_as"] for row in result["objects"]] == ["a red ball", "a blue ball"]
    assert result["chance"] == {"r_precision": 1 / 3, "geometry_r_precision": 1.0}
    # Without colours one prompt is left, "a ball", so geometry is retrieved by itself.
    assert result["overall"]["geometry_r_precision"] == 1 and result["overall"]["seconds"] == 1
    assert [row["janus"] for row in result["objects"]] == [True, None]
    assert (result["overall"]["janus_rate"], result["overall"]["janus_objects"]) == (1, 1)
    assert len(pictures) == 2 and pictures[0].rgb.shape == (8, 64, 64, 3)
    red, blue = (views.rgb[:, 32, 32].mean(0) for views in pictures)
    assert red[0] > red[2] and blue[2] > blue[0]
    geometry = pictures[0].geometry
    torch.testing.assert_close(geometry, pictures[1].geometry)  # the same ball, and colours do not matter
    torch.testing.assert_close(geometry[:, 0, 0], torch.full((8, 3), evaluate.GEOMETRY_GROUND))


def test_an_object_without_any_front_is_no_janus_and_told() -> None:
    judge = ColourJudge()
    judge.is_front = lambda rgb: torch.zeros(8, dtype=torch.bool)  # type: ignore[method-assign]
    result, _ = judged("red", judge=judge)
    assert (result["overall"]["janus_rate"], result["overall"]["front_rate"]) == (0, 0)
    assert judged("red")[0]["overall"]["front_rate"] == 1


def test_a_doubtful_probe_gives_no_rate_and_says_why() -> None:
    judge = ColourJudge()
    judge.probe_warning = "the probe flags 50% of <what> it should."
    result, pictures = judged("red", judge=judge)
    assert result["objects"][0]["janus"] is None and result["overall"]["janus_rate"] is None
    assert "No Janus rate: the probe flags 50%" in report.sentence(result)
    assert "&lt;what&gt;" in report.page(result, pictures)


def test_the_report_says_who_judged_and_who_called_fronts() -> None:
    result, _ = judged("red")
    assert "Judged by the colour judge" in report.sentence(result) and "Fronts" not in report.sentence(result)
    result["judge"] = "CLIP x"
    assert report.sentence(result).endswith("Fronts are called by the colour judge.")


def test_given_prompts_replace_the_pool_and_must_hold_the_own_ones() -> None:
    result, _ = judged("red", prompts=["a red ball", "a green ball", "a red ball"])
    assert result["among"] == ["a red ball", "a green ball"]
    with pytest.raises(ValueError, match=r"the list lacks 'a red ball'"):
        judged("red", prompts=["a green ball"])


def test_a_prompt_that_the_judge_cannot_read_is_told_and_refuses_nothing() -> None:
    ball, owl = subjects("red", "blue")
    objects = [ball, replace(owl, prompt="a blue owl"), replace(owl, prompt="a blue owl", name="again")]
    result, pictures = judged(objects=objects)
    assert result["not_read"] == ["a blue owl"] and "a blue owl" not in result["among"]
    found, unread, _ = result["objects"]
    alone = judged("red")[0]["objects"][0]
    assert found == alone  # what it reads is not judged differently beside what it does not
    assert [unread[name] for name in ("r_precision", "view_consistency", "read_as")] == [None] * 3
    assert unread["fog"] is not None and result["overall"]["r_precision"] == found["r_precision"]
    assert result["diversity"] == {}
    assert "does not know the words of a blue owl," in report.sentence(result)
    assert report.page(result, pictures).count("Read as") == 1
    nothing, _ = judged(objects=objects[1:], prompts=["a blue owl"])
    assert report.sentence(nothing).startswith("The colour judge does not know the words of a blue owl,")
    assert "r_precision" not in report.summary_line(nothing["overall"])


def test_diversity_needs_two_seeds_of_a_prompt() -> None:
    result, _ = judged("red", "red", "blue")
    assert list(result["diversity"]) == ["sds: a red ball"]
    # Three squares and their sum, twice, of vectors whose length has such an error too.
    assert result["diversity"]["sds: a red ball"] == pytest.approx(0, abs=4 * 6 * UNIT)


def test_the_files_hold_everything_and_fetch_nothing(tmp_path: Path) -> None:
    result, pictures = judged("red", "blue")
    result["objects"][0]["prompt"] = "<script>alert(1)</script>"
    record, page = report.write(tmp_path / "a" / "b", result, pictures)
    assert json.loads(record.read_text())["overall"] == result["overall"]
    text = page.read_text()
    assert "<script" not in text and "&lt;script&gt;" in text
    assert text.count("data:image/png;base64,") == 2 and "http" not in text
    assert "the colour judge" in text
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="nothing can be written"):
        report.write(tmp_path / "file" / "x", result, pictures)


def test_prompt_files(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a car\n\n  a lamp \n")
    assert wording.read_prompts(path) == ["a car", "a lamp"]
    path.write_text("\n")
    with pytest.raises(ValueError, match="holds no prompt"):
        wording.read_prompts(path)
    with pytest.raises(ValueError, match="cannot be read"):
        wording.read_prompts(tmp_path / "none.txt")
