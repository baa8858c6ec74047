"""The prior of known models: exported, loaded by name, and asked; untrained it is the mixture of its models."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import shutil
import warnings

import numpy as np
import pytest
import torch

from splatdistill import cli, priors
from splatdistill.config.schema import (
    GUIDANCE,
    METHODS,
    CameraConfig,
    DensifyConfig,
    ReferenceConfig,
    SplatsConfig,
    TrainConfig,
)
from splatdistill.embedded.corpus.__main__ import main as corpus_main
from splatdistill.embedded.corpus.captions import dominant_colour
from splatdistill.embedded.corpus.fit import pack, run
from splatdistill.embedded.corpus.layout import BUFFERS, INDEX, write_index
from splatdistill.embedded.corpus.pack import render_procedural
from splatdistill.embedded.prior import architecture as network
from splatdistill.embedded.prior import assemble as export
from splatdistill.embedded.prior.refiner import RefineConfig
from splatdistill.embedded.prior.rings import Rings, render
from splatdistill.embedded.prior.train_refiner import prepare
from splatdistill.priors.base import Choice, Picture
from splatdistill.priors.engine import installed, pick
from splatdistill.priors.gbuffer import ALPHA, PAINTS
from splatdistill.priors.instances import Instances
from splatdistill.priors.known import KnownPrior
from splatdistill.priors.mixture import coarse, keep_likely, weights
from splatdistill.priors.packed import ask
from splatdistill.priors.pictured import cut
from splatdistill.priors.refine import COARSE, combine, linear_answer
from splatdistill.priors.schedule import alpha_sigma
from splatdistill.priors.vocabulary import Advice, Vocabulary
from splatdistill.priors.zbuffer import draw
from splatdistill.scene.cameras import orbit
from splatdistill.training.beginning import initial_splats
from splatdistill.training.picture_loss import camera_of
from splatdistill.training.run_log import NoLog
from splatdistill.training.trainer import Trainer
from tests.priors.test_embedded import tiny
from tests.rounding import GRAY, assert_rounded, assert_same, assert_within

CPU = torch.device("cpu")
needs_onnx = pytest.mark.skipif(not installed(), reason="onnxruntime is not installed")
SIZE = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A prior of three houses, three cubes and three balls, whose network was not trained."""
    root = tmp_path_factory.mktemp("known")
    records, views = render_procedural(number=3, rings=3, seed=0, size=SIZE, first=0, processes=1)
    kept = [r for r in records if r.noun in ("cube", "ball", "house") and not r.relation]
    np.save(root / BUFFERS, views)
    made_of = {"number": 3, "rings": 3, "seed": 0}
    (root / INDEX).write_text(json.dumps(write_index(kept, size=SIZE, seed=0, toys=made_of)))
    torch.manual_seed(0)
    run(root, root / "meshes", models=None, furniture=None, processes=1)
    instances = pack(root, root / "meshes", root / "models")
    render(root, instances, root / "features", rings=2)
    network.save(network.create(channels=(16, 32, 32), text_width=16), root / "warm", image_size=SIZE)
    rings = [Rings.open(root, root / "features", seed=0)]
    trainer = prepare(RefineConfig(), rings=rings, out=root / "run", warm=root / "warm")
    export.export(trainer, root / "models", root / "prior")
    return root / "prior"


@pytest.fixture
def prior(folder) -> KnownPrior:
    found = priors.load(str(folder), device=CPU, dtype="fp32")
    assert isinstance(found, KnownPrior)
    return found


def ring(num: int = 4, *, elevation: float = 0.2):
    one = torch.ones(num)
    azimuth = torch.arange(num) * (2 * math.pi / num)
    return orbit(azimuth=azimuth, elevation=elevation * one, radius=3 * one, fovy=0.7 * one, size=SIZE)


def noisy(prior: KnownPrior, shown: torch.Tensor, t: int):
    rows = torch.full((len(shown),), t)
    alpha, sigma = alpha_sigma(prior.alphas_cumprod, rows)
    xt = alpha * shown + sigma * torch.randn(shown.shape, generator=torch.Generator().manual_seed(t))
    return xt, rows, alpha, sigma


@pytest.mark.filterwarnings("ignore::splatdistill.priors.vocabulary.Advice")
@pytest.mark.parametrize("t", [100, 500, 950])
def test_untrained_and_pinned_it_answers_as_the_gaussian_about_the_model(prior, t):
    prior.begin(Choice("a red house with a blue roof and a green door", instance=2))
    condition = prior.embed(prior.choice.prompt, ring())
    picture = prior.pictures(condition.candidates, [0], ring(), size=SIZE)[0]
    xt, rows, alpha, sigma = noisy(prior, picture, t)

    def epsilons() -> tuple[torch.Tensor, torch.Tensor]:
        (epsilon,) = prior.predict(xt, rows, [condition])
        answer, _ = linear_answer(xt, picture, alpha=alpha, sigma=sigma, spread=prior.accuracy.variance(picture))
        return epsilon, (xt - alpha * answer) / sigma

    assert_same(epsilons)


@pytest.mark.filterwarnings("ignore::splatdistill.priors.vocabulary.Advice")
def test_an_open_mixture_is_believed_as_its_models_are_likely(prior):
    prior.begin(Choice("a red house with a blue roof and a green door", mixture=True))
    condition = prior.embed(prior.choice.prompt, ring())
    known = prior.pictures(condition.candidates, range(3), ring(), size=SIZE)
    assert not condition.candidates.logits.any()
    xt, rows, alpha, sigma = noisy(prior, known[1], 970)
    # Candidates are weighed by pictures that are rendered at twice COARSE and made smaller.
    large = prior.pictures(condition.candidates, range(3), ring(), size=2 * COARSE)
    small = coarse(large, 2)

    def answers() -> tuple[torch.Tensor, torch.Tensor]:
        (epsilon,) = prior.predict(xt, rows, [condition])
        weight = weights(
            coarse(xt[None], 1), small[:, None], alpha=alpha[0].flatten(), sigma=sigma[0].flatten(),
            logits=torch.zeros(3), temperature=prior.temperature, floor=prior.accuracy.coarse,
        )  # fmt: skip
        found = combine(weight, keep_likely(weight), known, accuracy=prior.accuracy)
        answer, _ = linear_answer(xt, found.features[0], alpha=alpha, sigma=sigma, spread=found.spread[0])
        return (xt - sigma * epsilon) / alpha, answer

    assert_same(answers)


@pytest.mark.filterwarnings("ignore::splatdistill.priors.vocabulary.Advice")
def test_a_seed_draws_one_model_and_an_instance_is_pinned(prior):
    drawn = set()
    for seed in range(12):
        model = prior.begin(Choice("a red cube", seed=seed))
        (number,) = prior.embed("a red cube", ring()).candidates.numbers
        assert model == prior.instances.known[number].key
        drawn.add(number)
    assert drawn == set(prior.instances.of_noun["cube"])
    assert prior.begin(Choice("a red cube", mixture=True)) is None
    assert prior.begin(Choice("a red cube", instance=3)) == prior.instances.known[number_of(prior, 3)].key
    assert prior.embed("a red cube", ring()).candidates.numbers == [number_of(prior, 3)]


def number_of(prior: KnownPrior, instance: int) -> int:
    return prior.instances.of_noun["cube"][instance - 1]


@pytest.mark.filterwarnings("ignore::splatdistill.priors.vocabulary.Advice")
def test_a_run_says_which_model_it_shows(prior, monkeypatch):
    facts: dict[str, object] = {}
    monkeypatch.setattr(NoLog, "summary", lambda _, **fields: facts.update(fields))
    config = TrainConfig(prompt="a red cube", steps=1, size=SIZE, prior_instance=2)
    Trainer(config, prior=prior, device=CPU).advance(NoLog())
    assert facts["prior_model"] == prior.instances.known[number_of(prior, 2)].key


@pytest.mark.filterwarnings("ignore::splatdistill.priors.vocabulary.Advice")
def test_a_picture_tells_which_model_it_shows_and_its_words_leave_that_open(prior):
    for number in (1, 2, 3):
        prior.begin(Choice("a red house", instance=number))
        seen = prior.pictures(prior.embed("a red house", ring()).candidates, [0], ring(), size=SIZE)[0]
        for picture in (seen, seen.roll((1, -1), (2, 3))):  # splats may lie beside the surface
            assert prior.most_like("a red house", picture, ring()) == number
    assert prior.most_like("a", seen, ring()) == 0
    # A run that ends in model 3 may begin with any: what the words for its beginning mean, pictures tell.
    prior.begin(Choice("a blue house", instance=3, source="a red house"))
    assert len(prior.embed("a blue house", ring()).candidates.numbers) == 1
    assert len(prior.embed("a red house", ring()).candidates.numbers) == 3
    prior.begin(Choice("a blue house", instance=3, source="a red house", source_instance=2))
    pinned = [prior.embed(text, ring()).candidates.numbers for text in ("a blue house", "a red house")]
    assert pinned == [[prior.instances.of_noun["house"][2]], [prior.instances.of_noun["house"][1]]]


@pytest.mark.filterwarnings("ignore::splatdistill.priors.vocabulary.Advice")
@pytest.mark.parametrize("colour", ["blue", "yellow"])
def test_a_picture_pins_the_model_and_its_paint(prior, colour):
    """The picture is of a model in paint that the prompt says nothing of, cut out of a larger one."""
    camera = camera_of(ReferenceConfig(), CameraConfig(), size=64)
    painted = f"a {colour} house with a purple roof and a green door"
    for number in (1, 2, 3):
        prior.begin(Choice(painted, instance=number))
        candidates = prior.embed(painted, camera).candidates
        rgba = 0.5 + 0.5 * prior.pictures(candidates, [0], camera, size=64)[0, 0]
        rgba[:3] = (rgba[:3] - 1 + rgba[3:]) / rgba[3:].clamp(min=1e-3)  # from white to straight colours
        shown = Picture(cut(torch.nn.functional.pad(rgba.clamp(0, 1), (5, 30, 9, 0)), size=96), camera)
        key = prior.begin(Choice("a house", picture=shown))
        assert prior.choice.instance == number
        assert key == prior.instances.known[prior.instances.of_noun["house"][number - 1]].key
        found = prior.embed("a house", camera).candidates
        assert found.numbers == candidates.numbers
        # Walls and roof show, a door may not. Most of their pixels are of one colour, whatever the edges mix.
        assert_within(found.tints[0, :2], candidates.tints[0, :2], GRAY)
    assert prior.begin(Choice("a house", instance=3, picture=shown)) == key  # the number that is asked for stays
    with pytest.raises(ValueError, match="prior_mixture: a picture pins the model"):
        prior.begin(Choice("a house", mixture=True, picture=shown))
    prior.begin(Choice("a house", source="a red house", source_instance=1, picture=shown))
    source = prior.embed("a red house", camera).candidates
    assert torch.equal(source.tints[0, 0], prior.paint["red"])  # what a run begins with is not in the picture
    prior.begin(Choice("a red house", picture=shown))
    with pytest.warns(Advice, match="image: parts that the picture shows have its colours"):
        prior.embed("a red house", camera)
    prior.begin(Choice("a red house"))
    assert prior.match is None


def test_a_model_that_is_not_there_is_refused(prior):
    with pytest.raises(ValueError, match="prior_instance: this prior knows 3 of 'cube'; it is 4"):
        prior.begin(Choice("a red cube", instance=4))
    with pytest.raises(ValueError, match="leave one of them out"):
        prior.begin(Choice("a red cube", instance=1, mixture=True))
    with pytest.raises(ValueError, match="prompt: This prior does not know 'zyzzyva'"):
        prior.begin(Choice("a red zyzzyva with a blue roof"))
    with pytest.raises(ValueError, match=r"prior_instance: the prior .* keeps no list of models"):
        tiny().begin(Choice("a red car", instance=1))
    with pytest.raises(ValueError, match="prior_mixture: "):
        priors.load("analytic", device=CPU, dtype="fp32").begin(Choice("a red car", mixture=True))


@pytest.mark.parametrize(("whole", "roof", "door"), [("red", "blue", "green"), ("yellow", "purple", "blue")])
def test_each_part_has_the_colour_that_the_prompt_says(prior, whole, roof, door):
    prompt = f"a {whole} house with a {roof} roof and a {door} door"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prior.begin(Choice(prompt))
        candidates = prior.embed(prompt, ring(elevation=0.5)).candidates
    for place, number in enumerate(candidates.numbers):
        seen = draw(prior.instances.mesh(number), ring(elevation=0.5), size=64)
        picture = prior.pictures(candidates, [place], ring(elevation=0.5), size=64)[0, :, :3].permute(0, 2, 3, 1)
        for slot, colour in zip(PAINTS[:2], (whole, roof), strict=False):
            sure = (seen[..., slot] > 0.8) & (seen[..., ALPHA] > 0.9)
            assert dominant_colour((picture[sure] * 0.5 + 0.5).numpy()) == colour


def test_nothing_asked_for_is_any_object_and_a_lone_view_is_weighed_by_itself(prior):
    prior.begin(Choice("a red cube"))
    cameras = ring()
    anything, given = prior.embed("", cameras), prior.embed("a red cube", cameras, cross_view_attention=False)
    assert anything.candidates is None and not given.cross_view_attention
    xt, rows, _, _ = noisy(prior, torch.zeros(4, 4, SIZE, SIZE), 900)
    both = prior.predict(xt, rows, [anything, given])
    lone = dataclasses.replace(given, camera=given.camera[:1], cameras=cameras)
    assert_same(lambda: (prior.predict(xt, rows, [anything, given])[1][:1], prior.predict(xt[:1], rows[:1], [lone])[0]))
    assert all(x.isfinite().all() for x in both)
    with pytest.raises(ValueError, match="multiple of 4"):
        prior.predict(xt[:3], rows[:3], [prior.embed("a red cube", cameras)])
    with pytest.raises(ValueError, match="must be on: this prior shows"):
        prior.embed("a red cube", None)


def test_pictures_on_white_with_alpha_come_back(prior):
    rgba = torch.rand(4, SIZE, SIZE, 4, generator=torch.Generator().manual_seed(0))
    x0 = prior.encode(rgba)
    assert x0.shape == (4, 4, SIZE, SIZE)
    assert_rounded(lambda: prior.decode(prior.encode(rgba)), rgba[..., :3])


def test_advice_is_a_warning_of_the_run_s_own_prompt(prior):
    prior.begin(Choice("a red and blue cube"))
    with pytest.warns(Advice, match="says 'blue' as well"):
        prior.embed("a red and blue cube", ring())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prior.embed("ugly, blurry", ring())


@pytest.mark.filterwarnings("ignore::splatdistill.priors.vocabulary.Advice")
@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_it(prior, folder, method):
    config = TrainConfig(
        prompt="a red house", method=method, prior=str(folder), steps=4, size=SIZE, splats=SplatsConfig(num_init=100),
        densify=DensifyConfig(start=0.6), prior_mixture=True,
        bridge=GUIDANCE["bridge"].Settings(negative_prompt=""),  # the prior does not read words for faults
    )  # fmt: skip
    trainer = Trainer(config, prior=prior, device=CPU)
    trainer.advance(NoLog())
    moved = trainer.splats.sh0 - initial_splats(config.init, config.splats, seed=0).sh0
    assert moved.isfinite().all() and moved.abs().max() > 0 and prior.choice.mixture


def test_its_settings_lie_under_files_and_flags(folder, tmp_path, capsys):
    base = ["config", "--prompt", "a red cube", "--prior", str(folder)]
    by_sds = ["--method", "sds", "--sds.guidance-scale", "3"]
    for more, line in (
        ([], "guidance_scale: 1.0  # prior"), (by_sds, "guidance_scale: 3.0  # flag"),
    ):  # fmt: skip
        assert cli.main([*base, *more]) == cli.DONE
        assert line in capsys.readouterr().out
    file = tmp_path / "mine.yaml"
    file.write_text(f"prior: {folder}\nsds: {{guidance_scale: 2}}\n")
    assert cli.main(["config", "--prompt", "a red cube", "--config", str(file)]) == cli.DONE
    assert "guidance_scale: 2.0  # file" in capsys.readouterr().out


def test_the_folder_does_not_say_where_its_network_was_begun_from(folder):
    assert json.loads((folder / "unet" / "config.json").read_text())["_name_or_path"] == ""


def test_its_words_are_those_of_its_models(folder, capsys):
    assert cli.main(["vocab", "--prior", str(folder), "--stats"]) == cli.DONE
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["objects", "3"] and "models                       9" in said
    vocabulary = Vocabulary.load(folder)
    assert vocabulary.check("a red house with a blue roof") == [] and vocabulary.paints
    instances = Instances.load(folder / "models")
    more = [*instances.known, dataclasses.replace(instances.known[0], noun="glass eel", key="own/eel")]
    assert (
        "glass eel"
        in Vocabulary.from_meta(
            json.loads((folder / "splatdistill.json").read_text()), models=[model.noun for model in more]
        ).nouns
    )


@pytest.mark.filterwarnings("ignore::splatdistill.priors.vocabulary.Advice")
def test_a_model_of_ones_own_is_known_by_its_name(folder, tmp_path, capsys):
    pytest.importorskip("embreex")
    import trimesh

    material = trimesh.visual.material.PBRMaterial(name="skin", baseColorFactor=[40, 160, 60, 255])
    part = trimesh.creation.box()
    part.visual = trimesh.visual.TextureVisuals(material=material)
    (tmp_path / "mine.glb").write_bytes(part.export(file_type="glb"))
    out, fit = tmp_path / "more", ["fit", str(tmp_path / "mine.glb"), "--instances", str(folder)]
    assert corpus_main([*fit, "--noun", "Glass  eel", "--out", str(out)]) == 0
    more = priors.load(str(out), device=CPU, dtype="fp32")
    more.begin(Choice("two glass eels with red skin"))
    candidates = more.embed("two glass eels with red skin", ring()).candidates
    assert [more.instances.known[n].key for n in candidates.numbers] == ["own/mine.glb"]
    assert not candidates.tints[0, 0].isnan().any()
    assert corpus_main([*fit, "--noun", "eel", "--out", str(out)]) == 1
    assert "is there already" in capsys.readouterr().err


def test_a_damaged_folder_is_one_sentence(folder, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "models" / "meshes.xz").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"is not whole: The meshes in .* are damaged"):
        priors.load(str(copy), device=CPU, dtype="fp32")
    assert (
        export.main(
            [
                "--corpus",
                "a",
                "--features",
                "b",
                "--run",
                str(tmp_path),
                "--instances",
                "c",
                "--out",
                str(tmp_path / "d"),
            ]
        )
        == 1
    )
    assert "holds no state.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["torch", pytest.param("onnx", marks=needs_onnx)])
@pytest.mark.parametrize("joint", [True, False])
def test_an_engine_is_as_exact_as_the_network(folder, engine, joint):
    """Sums in another order: neither is more than a few times farther from float64 than the other. Asked at 64 pixels:
    at 16 the deepest level has one, and its norms of two equal values multiply every rounding.
    """
    with_engine = KnownPrior.load(folder, dtype="fp32", engine=engine)
    assert with_engine.network_engine == engine
    refiner = with_engine.refiner
    torch.nn.init.normal_(refiner.unet.conv_out.weight)  # untrained, it would answer 0
    refiner.engines[refiner.patch] = pick(engine, refiner.unet, dtype="fp32", trial=refiner.trial(SIZE))
    asked = refiner.trial(64)
    asked = dataclasses.replace(asked, joint_rows=asked.joint_rows * joint)
    wide = {key: getattr(asked, key).double() for key in ("sample", "text", "class_labels")}
    exact = ask(copy.deepcopy(refiner.unet).double(), dataclasses.replace(asked, **wide))
    plain_error, error = (
        float((x - exact).norm()) for x in (ask(refiner.unet, asked), refiner.engines[refiner.patch](asked))
    )
    assert 0 < plain_error and error < 4 * plain_error
