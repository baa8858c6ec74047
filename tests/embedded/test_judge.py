"""The shipped judge, and how one is trained and measured."""

from __future__ import annotations

import dataclasses
import functools
import json
import math

import numpy as np
import pytest
import torch
from safetensors import safe_open

from splatdistill.embedded.corpus.captions import COLOURS
from splatdistill.embedded.corpus.nouns import NOUNS
from splatdistill.embedded.judge import networks as judges
from splatdistill.embedded.judge.images import UNKNOWN, PictureBook, augment, relight
from splatdistill.embedded.judge.losses import Captions, contrastive_loss, side_targets
from splatdistill.embedded.judge.networks import PARTS, WEIGHTS, EmbeddedJudge, create_sides, create_words
from splatdistill.embedded.judge.optimization import (
    JudgeConfig,
    JudgeTrainer,
    begin_like_words,
    fresh_config,
    make_trainer,
)
from splatdistill.embedded.network_training import PeriodicTask, run
from tests.rounding import UNIT, assert_rounded, assert_same, assert_within

SMALL = {**fresh_config(), "widths": [4, 8, 8, 8], "text_width": 8, "embed": 8}
CONFIG = JudgeConfig(batch=8, warmup=2, max_images=400)


@pytest.fixture(scope="module")
def shipped() -> EmbeddedJudge:
    return EmbeddedJudge.load()


def blobs(colour: tuple[float, float, float]) -> torch.Tensor:
    """[4,64,64,3] balls and boxes of one colour, softly shaded, on white and on gray."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    light = (1 - 0.25 * (x + y).clamp(-1, 1))[..., None] * 0.85
    pictures = []
    for inside in (x**2 + y**2 < 0.5, torch.maximum(x.abs(), 1.4 * y.abs()) < 0.7):
        for ground in (1.0, 0.6):
            paint = torch.tensor(colour) * light
            pictures.append(torch.where(inside[..., None], paint, torch.tensor(ground)).clamp(0, 1))
    return torch.stack(pictures)


def test_the_weights_are_small_fp16_and_safe():
    files = [f for f in WEIGHTS.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 6 * 2**20
    assert sorted(f.name for f in files) == ["README.md", "config.json", "sides.safetensors", "words.safetensors"]
    for part in PARTS:
        with safe_open(WEIGHTS / f"{part}.safetensors", framework="pt") as file:
            assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16", "I64"}


def test_embeddings_have_unit_length_and_any_size_is_read(shipped):
    rgb = torch.rand(3, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    images, texts = shipped.embed_images(rgb), shipped.embed_texts(["a red car", "the lamp"])
    # The squares of D numbers are rounded and added, and the roots and quotients after that: twice, here and there.
    assert_within(torch.cat([images, texts]).norm(dim=-1), torch.ones(5), (images.shape[-1] + 4) * UNIT)
    large = rgb.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert ((shipped.embed_images(large) * images).sum(-1) > 0.9).all()


@pytest.mark.parametrize("colour", ["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown"])
def test_blobs_retrieve_the_name_of_their_colour(shipped, colour):
    texts = shipped.embed_texts(list(COLOURS))
    read = (shipped.embed_images(blobs(COLOURS[colour][0])) @ texts.T).argmax(1)
    assert [list(COLOURS)[i] for i in read].count(colour) >= 3


def test_what_surrounds_a_prompt_does_not_change_it(shipped):
    def embedded() -> tuple[torch.Tensor, torch.Tensor]:
        together = shipped.embed_texts(["a red grand piano", "car", "A photo of a RED car."])
        return together[1:], torch.cat([shipped.embed_texts([text]) for text in ("a car", "a red car")])

    assert_same(embedded)


def test_it_reads_prompts_whose_words_it_all_knows(shipped):
    read = {"a car": True, "A photo of a RED car.": True, "a red zyzzyva": False, "a pair of": False, "": False}
    assert {prompt: shipped.reads(prompt) for prompt in read} == read


def test_the_longest_noun_is_meant(shipped):
    for prompt, noun in (("a palm tree", "palm tree"), ("a red couch", "sofa"), ("A Car", "car"), ("red", None)):
        assert shipped.noun(prompt) == noun


def test_the_card_holds_what_eval_needs(shipped):
    reference = shipped.reference
    assert len(set(reference.pool)) == 40 and {"red", "crimson"} <= reference.colours
    assert shipped.embed_texts(reference.pool).shape == (40, shipped.config["embed"])
    for kind in ("coloured", "plain"):
        assert {"r_precision", "view_consistency", "saturation"} <= set(reference.real[kind])
    assert shipped.probe_warning == judges.probe_warning(shipped.config["measured"])
    assert all(shipped.has_front(f"a red {noun}") for noun in shipped.config["measured"]["probe"]["nouns"])


def test_the_card_tells_the_measured_figures(shipped):
    card, measured = (WEIGHTS / "README.md").read_text(), shipped.config["measured"]
    for name in ("r_precision", "r_precision_held_out_instances", "nouns", "geometry"):
        assert f"| {measured[name]['views']:.3f} | {measured[name]['objects']:.3f} |" in card


def test_a_probe_is_believed_above_both_bars_only():
    def probe(flagged, false, nouns=("car",)):
        return {"probe": {"nouns": list(nouns), "mirrored_flagged": flagged, "real_flagged": false}}

    assert judges.probe_warning(probe(0.9, 0.05)) == ""
    assert "flags 89% of mirrored-front objects (90% needed)" in judges.probe_warning(probe(0.89, 0.0))
    assert "6% of real ones (5% allowed)" in judges.probe_warning(probe(1.0, 0.06))
    assert "was not shown" in judges.probe_warning(probe(1.0, 0.0, ())) and "was not shown" in judges.probe_warning({})


def test_a_folder_without_a_judge_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="holds no judge that can be read"):
        EmbeddedJudge.load(tmp_path)


def test_captions_are_true_false_or_unknown():
    captions, nouns = Captions(), [noun.name for noun in NOUNS]
    sofa, red, blue = nouns.index("sofa"), list(COLOURS).index("red"), list(COLOURS).index("blue")
    true, false = captions.truth(torch.tensor([sofa, sofa]), torch.tensor([red, UNKNOWN]))
    pairs = {pair: i for i, pair in enumerate(captions.pairs)}
    other = pairs[(nouns.index("car"), red)]
    assert [p for p, i in pairs.items() if true[0, i]] == [(sofa, UNKNOWN), (sofa, red), (UNKNOWN, red)]
    assert false[0, pairs[(sofa, blue)]] and false[0, other] and not (true & false).any()
    assert (true[0] | false[0]).all()
    # Of a picture without a known colour nobody knows whether it is red.
    assert [p for p, i in pairs.items() if true[1, i]] == [(sofa, UNKNOWN)]
    assert not false[1, pairs[(sofa, red)]] and not false[1, pairs[(UNKNOWN, red)]] and false[1, other]


def test_the_loss_is_that_of_each_true_caption_against_the_false_ones():
    logits = torch.tensor([[1.0, 2.0, 0.5, -1.0]])
    true, false = torch.tensor([[True, True, False, False]]), torch.tensor([[False, False, True, False]])
    alone = [-math.log(math.exp(x) / (math.exp(x) + math.exp(0.5))) for x in (1.0, 2.0)]
    assert_rounded(lambda: contrastive_loss(logits, true, false), sum(alone) / 2)


def test_sides_are_shared_between_neighbours():
    azimuth = torch.tensor([0.0, math.pi / 4, math.pi / 8, -math.pi / 8, math.pi])
    expected = torch.zeros(5, 8)
    expected[0, 0] = expected[1, 1] = expected[4, 4] = 1
    expected[2, [0, 1]] = expected[3, [0, 7]] = 0.5
    assert_rounded(lambda: side_targets(azimuth), expected)


def test_held_out_models_and_toys_are_never_drawn(corpus_folder):
    book = PictureBook(corpus_folder, seed=0, textureless=0)
    assert sorted(thing.record.key for group in book.things for thing, _ in group) == ["Test/0", "Test/2"]


def test_batches_are_a_function_of_seed_and_step(corpus_folder):
    one, same, other = (
        PictureBook(corpus_folder, seed=3, textureless=0.5).batch(step, num_images=8) for step in (5, 5, 6)
    )
    for name in ("rgb", "noun", "colour", "azimuth"):
        assert torch.equal(getattr(one, name), getattr(same, name))
    assert one.rgb.shape == (8, 3, 16, 16) and not torch.equal(one.rgb, other.rgb)
    assert 0 <= one.rgb.min() and one.rgb.max() <= 1


def test_textureless_pictures_have_no_colour(corpus_folder):
    batch = PictureBook(corpus_folder, seed=0, textureless=1.0).batch(0, num_images=8)
    assert (batch.colour == UNKNOWN).all()


def test_light_changes_the_shading_alone():
    import random

    buffers = np.random.default_rng(0).integers(0, 256, (16, 16, 8), dtype=np.uint8)
    lit = relight(buffers, random.Random(0))
    assert (lit[..., [0, 1, 2, 4, 5, 6, 7]] == buffers[..., [0, 1, 2, 4, 5, 6, 7]]).all() and (
        lit[..., 3] != buffers[..., 3]
    ).any()


def test_augmentation_keeps_the_hue():
    rgba = torch.zeros(64, 4, 32, 32)
    rgba[:, 0], rgba[:, 3] = 0.8, 1.0
    out = augment(rgba, torch.Generator().manual_seed(0))[:, :, 12:20, 12:20].mean((2, 3))
    assert (out[:, 0] > 2 * out[:, 1:].amax(1)).all()


def untrained() -> EmbeddedJudge:
    torch.manual_seed(0)
    return EmbeddedJudge(create_words(SMALL), create_sides(SMALL), SMALL)


def trainer(part, corpus_folder, seed=0, config=CONFIG) -> JudgeTrainer:
    torch.manual_seed(seed)
    book = PictureBook(corpus_folder, seed=CONFIG.seed, textureless=0.2)
    return make_trainer(part, config, shape=SMALL, book=Pad(book), bf16=False)


class Pad:
    """The corpus of the tests has pictures of 16 pixels; the judge wants 64."""

    def __init__(self, book: PictureBook) -> None:
        self.book, self.fixed = book, None

    def batch(self, step: int, *, num_images: int):
        batch = self.book.batch(step if self.fixed is None else self.fixed, num_images=num_images)
        return dataclasses.replace(batch, rgb=torch.nn.functional.interpolate(batch.rgb, size=64))


def stored(value: torch.Tensor) -> torch.Tensor:
    """As the file keeps it."""
    return value.half().float() if value.is_floating_point() else value


@pytest.mark.parametrize("part", PARTS)
def test_resuming_equals_not_stopping(corpus_folder, tmp_path, part):
    straight = trainer(part, corpus_folder)
    for _ in range(4):
        straight.train_step()
    stopped = trainer(part, corpus_folder)
    for _ in range(2):
        stopped.train_step()
    stopped.save(tmp_path)
    resumed = trainer(part, corpus_folder, seed=9)
    resumed.restore(tmp_path)
    for _ in range(2):
        resumed.train_step()
    assert resumed.step == straight.step == 4
    for name, value in straight.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value), name
        assert torch.equal(resumed.average[name], straight.average[name]), name


def test_sides_begin_with_the_image_encoder_of_the_words(corpus_folder, tmp_path):
    words = trainer("words", corpus_folder)
    words.train_step()
    words.export(tmp_path)
    sides = trainer("sides", corpus_folder, seed=1)
    head = sides.network.sides.weight.clone()
    begin_like_words(sides, tmp_path / "judge" / "words.safetensors")
    for name in sides.network.image.state_dict():
        assert torch.equal(sides.network.image.state_dict()[name], stored(words.average[f"image.{name}"]))
        assert torch.equal(sides.average[f"image.{name}"], sides.network.image.state_dict()[name])
    assert torch.equal(sides.network.sides.weight, head)


@pytest.mark.parametrize("part", PARTS)
def test_the_loss_falls(corpus_folder, part):
    it = trainer(part, corpus_folder, config=dataclasses.replace(CONFIG, lr=1e-2, max_images=8000))
    it.book.fixed = 3  # one batch again and again
    losses = [it.train_step()["loss"] for _ in range(40)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_a_run_writes_a_judge_that_loads(corpus_folder, tmp_path):
    for part in PARTS:
        it = trainer(part, corpus_folder)
        run(it, out=tmp_path, minutes=1, tasks=[PeriodicTask(1.0, functools.partial(it.export, tmp_path))])
        (record,) = [json.loads(line) for line in (tmp_path / f"{part}.jsonl").read_text().splitlines()]
        assert it.images == record["images"] == 400 and math.isfinite(record["loss"])
    loaded = EmbeddedJudge.load(tmp_path / "judge")
    averaged = it.network.eval()
    averaged.load_state_dict({name: stored(value) for name, value in it.average.items()})
    rgb = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.sides(rgb), averaged(rgb))
    assert loaded.probe_warning and not loaded.has_front("a sofa")


def test_two_fronts_look_alike_from_both_sides():
    pytest.importorskip("embreex")
    from splatdistill.embedded.judge.calibrate import with_two_fronts

    views = torch.rand(8, 4, 4, 3, generator=torch.Generator().manual_seed(0))
    both = with_two_fronts(views)
    for near, far in ((0, 4), (1, 3), (7, 5)):
        assert torch.equal(both[near], views[near]) and torch.equal(both[far], views[near].flip(1))
    assert torch.equal(both[[2, 6]], views[[2, 6]])


def test_measuring_needs_no_training(library, tmp_path, monkeypatch):
    pytest.importorskip("embreex")
    from splatdistill.embedded.corpus.furniture import read_catalogue
    from splatdistill.embedded.judge import calibrate as judge_measure

    nouns = {noun.name: noun for noun in NOUNS}
    models = [(nouns[name], m, 0.0) for name, m in zip(("car", "hamburger"), read_catalogue(library), strict=True)]
    models.append((nouns["sofa"], models[0][1], 0.0))  # of no interest
    monkeypatch.setattr(judge_measure, "select_models", lambda furniture: models)
    tables = judge_measure.Turntables(tmp_path / "tables", furniture=None, nouns=("car", "hamburger"))
    measured = judge_measure.measure(untrained(), tables, sheet=tmp_path / "x.png")
    assert measured["r_precision"]["num_objects"] == 4  # the car in four colours
    assert measured["nouns"] | {"views": 0, "objects": 0} == {
        "views": 0, "objects": 0, "num_objects": 2, "prompts": len(NOUNS), "chance": round(1 / len(NOUNS), 4)
    }  # fmt: skip
    assert 0 <= measured["probe"]["real_flagged_all_nouns"] <= 1 and (tmp_path / "x.png").stat().st_size > 0
    assert (tmp_path / "tables" / "gbuffers.npy").exists()
    assert json.loads(json.dumps(measured)) == measured
