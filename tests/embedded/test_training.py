"""Training of the embedded prior on tiny networks: exact resume, warm starts by word, an exported folder that loads."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import threading

import pytest
import torch

from splatdistill.embedded.corpus.dataset import Corpus
from splatdistill.embedded.network_training import run
from splatdistill.embedded.prior import architecture as network
from splatdistill.embedded.prior import samples
from splatdistill.embedded.prior.denoiser import DenoiserConfig, DenoiserTrainer, warm_start
from splatdistill.embedded.prior.pretrain import RECIPES, main, prepare, tasks
from splatdistill.embedded.prior.samples import NearestRender, ddim, draw_loss, sample_grid
from splatdistill.priors.embedded import MultiViewPrior

CONFIG = DenoiserConfig(batch=8, resolution=16, warmup=2, max_images=100)


def trainer(corpus_folder, config=CONFIG) -> DenoiserTrainer:
    torch.manual_seed(0)
    networks = network.create(channels=(16, 32, 32), text_width=16)
    return DenoiserTrainer(config, networks=networks, corpus=Corpus(corpus_folder, seed=config.seed))


@pytest.mark.parametrize("ring", [0.0, 1.0])
def test_resuming_equals_not_stopping_bit_for_bit(corpus_folder, tmp_path, ring):
    config = dataclasses.replace(CONFIG, ring=ring)
    straight = trainer(corpus_folder, config)
    for _ in range(3):
        straight.train_step()
    stopped = trainer(corpus_folder, config)
    for _ in range(2):
        stopped.train_step()
    stopped.save(tmp_path)
    torch.manual_seed(99)
    resumed = DenoiserTrainer(
        config, networks=network.create(channels=(16, 32, 32), text_width=16), corpus=stopped.corpus
    )
    resumed.restore(tmp_path)
    resumed.train_step()
    assert (resumed.step, resumed.images) == (straight.step, straight.images) == (3, 24)
    for name, p in straight.parameters.items():
        assert torch.equal(resumed.parameters[name], p), name
        assert torch.equal(resumed.average[name], straight.average[name]), name


def test_the_loss_falls(corpus_folder):
    it = trainer(corpus_folder, dataclasses.replace(CONFIG, lr=3e-3, decay=0, max_images=10_000))
    losses = [it.train_step()["loss"].item() for _ in range(40)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_volumes_own_picture_is_held_against_views_with_a_camera(corpus_folder):
    it = trainer(corpus_folder)
    batch = it.corpus.batch(0, mode="ring", size=16, num_images=4)
    picture = batch.rgb.permute(0, 3, 1, 2) * 2 - 1
    features = torch.cat([picture, torch.randn(4, 5, 16, 16), torch.ones(4, 1, 16, 16)], 1)
    assert it._volume_color_loss(features, batch) == 0
    features[:, :3] += 0.5
    torch.testing.assert_close(it._volume_color_loss(features, batch), torch.tensor(0.25))
    empty = torch.zeros_like(features)  # nothing there: the background is seen
    ground = picture[:, :, :1, :1]
    torch.testing.assert_close(it._volume_color_loss(empty, batch), (ground - picture).square().mean())
    words = it.corpus.batch(0, mode="words", size=16, num_images=4)
    assert it._volume_color_loss(features, words) == 0


def test_drawing_ahead_changes_nothing(corpus_folder):
    it = trainer(corpus_folder)
    plans = []
    for it.step in (0, 1, 1, 5):
        plans.append(it._next().plan)
    for step, plan in zip((0, 1, 1, 5), plans, strict=True):
        fresh = it.corpus.draw(step, mode=it._mode(step), num_images=CONFIG.batch)
        assert torch.equal(plan.rows, fresh.rows) and plan.captions == fresh.captions


def test_a_step_lies_on_its_device_as_a_whole(corpus_folder, monkeypatch):
    """The device without memory stands for a GPU: what mixes it with the CPU, or reads from it, raises there."""
    meta = torch.device("meta")
    monkeypatch.setattr("splatdistill.embedded.prior.denoiser.send", lambda x, device: x.to(device))
    monkeypatch.setattr("splatdistill.embedded.corpus.dataset.send", lambda x, device: x.to(device))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(DenoiserTrainer, "_generator", lambda self: None)
    config = dataclasses.replace(CONFIG, ring=1.0)
    networks = network.create(channels=(16, 32, 32), text_width=16)
    it = DenoiserTrainer(config, networks=networks, corpus=Corpus(corpus_folder, seed=0), device=meta)
    drawn = it._next()
    batch = it.corpus.paint(drawn.plan, size=16)
    loss = it.loss(batch, ids=drawn.ids, which=drawn.which)
    loss.backward()
    assert batch.rgb.device == loss.device == meta and all(p.grad is not None for p in it.parameters.values())


def test_a_step_asks_for_no_number(corpus_folder, monkeypatch):
    """What would make a GPU wait: a number read back from a tensor. Plans are drawn on the CPU, by another thread."""
    it, asked = trainer(corpus_folder), []
    it.train_step()

    def noting(name):
        original = getattr(torch.Tensor, name)

        def note(tensor, *args):
            if threading.current_thread() is threading.main_thread():
                asked.append(name)
            return original(tensor, *args)

        return note

    for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(torch.Tensor, name, noting(name))
    loss = it.train_step()["loss"]
    assert asked == []
    assert loss.item() > 0 and asked == ["item"]


def test_learning_rate_warms_up_and_decays(corpus_folder):
    it = trainer(corpus_folder, dataclasses.replace(CONFIG, lr=1.0, warmup=4, decay=0.5, max_images=100))
    rates = []
    for it.step, it.images in ((0, 0), (3, 30), (10, 75), (20, 100)):
        rates.append(it.learning_rate())
    assert rates == [0.25, 1.0, 0.5, 0.0]


def test_a_run_writes_state_log_samples_and_a_prior_that_loads(corpus_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "splatdistill.embedded.prior.pretrain.sample_grid", lambda prior, path: path.write_bytes(b"png")
    )
    it = trainer(corpus_folder, dataclasses.replace(CONFIG, max_images=16))
    run(it, out=tmp_path, minutes=1, tasks=tasks(it, tmp_path, save_minutes=10, sample_minutes=10))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["loss.jsonl", "prior", "samples", "state.safetensors"]
    prior = MultiViewPrior.load(tmp_path / "prior", dtype="fp32")
    for name, value in prior.unet.named_parameters():
        assert torch.equal(value, it.average[f"unet.{name}"].half().float())  # as the file keeps it
    assert not list(tmp_path.rglob("*.bin")) + list(tmp_path.rglob("*.pt")) + list(tmp_path.rglob("*.new"))


def test_warm_start_matches_word_embeddings_by_word(tmp_path):
    parts = network.create(channels=(16, 32, 32), text_width=16)
    parts.tokenizer = network.make_tokenizer(sorted({*network.meta(image_size=16)["words"], "aardvark"}))
    parts.text_encoder.resize_token_embeddings(len(parts.tokenizer))
    network.save(parts, tmp_path / "old", image_size=16)
    fresh = network.create(channels=(16, 32, 32), text_width=16)
    warm_start(fresh, tmp_path / "old")
    for word in ("sofa", "zebra", "red"):
        if word not in fresh.tokenizer.get_vocab():
            continue
        old = parts.text_encoder.get_input_embeddings().weight[parts.tokenizer.get_vocab()[word]]
        new = fresh.text_encoder.get_input_embeddings().weight[fresh.tokenizer.get_vocab()[word]]
        assert torch.equal(new, old.half().float())  # as the file keeps it
    assert torch.equal(fresh.unet.conv_in.weight, parts.unet.conv_in.weight.half().float())


def test_sampling_draws_four_views(corpus_folder, tmp_path):
    it = trainer(corpus_folder)
    with it.averaged():
        prior = it.prior()
        assert ddim(prior, "a red sofa", steps=2).shape == (4, 16, 16, 3)
        sample_grid(prior, tmp_path / "grid.png", prompts=("a sofa", "a cactus", "a sofa"), columns=2)
    assert (tmp_path / "grid.png").stat().st_size > 100


def test_samples_come_with_the_nearest_training_picture(corpus_folder, tmp_path):
    corpus = Corpus(corpus_folder, seed=0)
    nearest = NearestRender(corpus)
    thing = corpus.objects[0]
    batch = corpus.batch(0, mode="ring", size=16, num_images=4)
    picture, distance, _ = nearest(batch.rgb, "a red sofa")
    assert picture.shape == (16, 16, 3) and 0 <= distance < 1
    own = nearest._paint(corpus.buffers[[thing.first + 3]], torch.tensor([3]), [])
    picture, distance, noun = nearest(own, "a sofa")
    assert distance == 0 and noun == thing.record.noun and torch.equal(picture, own[0])
    it = trainer(corpus_folder)
    with it.averaged():
        found = sample_grid(it.prior(), tmp_path / "grid.png", prompts=("a sofa",), columns=1, nearest=nearest, steps=2)
    assert found[0]["prompt"] == "a sofa" and len(samples.PROMPTS) == 24


def test_the_loss_is_drawn(tmp_path):
    with pytest.raises(ValueError, match="No losses"):
        draw_loss(tmp_path, tmp_path / "loss.png")
    lines = [json.dumps({"images": 50 * i, "loss": 1 / (i + 1)}) for i in range(5)]
    (tmp_path / "loss.jsonl").write_text("\n".join(lines))
    draw_loss(tmp_path, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").stat().st_size > 1000


def test_recipes_are_defaults_that_flags_change(tmp_path, capsys):
    from splatdistill.embedded.prior.pretrain import _parse

    args = _parse(["--corpus", "c", "--out", "o", "--recipe", "full", "--batch", "64"])
    assert args.batch == 64 and args.ema == RECIPES["full"].ema
    assert RECIPES["small"] == DenoiserConfig()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--device", "cuda"], "sees no CUDA device"),
        (["--batch", "6"], "multiple of 4"),
        (["--resolution", "15"], "must divide"),
        (["--warm-start", "nowhere"], "No prior in nowhere"),
    ],
)
def test_wrong_flags_are_one_sentence(corpus_folder, tmp_path, capsys, monkeypatch, flags, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--corpus", str(corpus_folder), "--out", str(tmp_path), "--resolution", "16", *flags]) == 1
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_another_architecture_is_one_sentence(corpus_folder, tmp_path):
    small = trainer(corpus_folder)
    small.train_step()
    small.save(tmp_path)
    with pytest.raises(ValueError, match="another network or vocabulary"):
        prepare(CONFIG, corpus=corpus_folder, out=tmp_path, warm=None, device="cpu")
    network.save(small.networks, tmp_path / "prior", image_size=16)
    with pytest.raises(ValueError, match="another architecture"):
        warm_start(network.create(channels=(16, 32), text_width=16), tmp_path / "prior")
    (tmp_path / "state.safetensors").write_bytes(b"not a state")
    with pytest.raises(ValueError, match="is damaged"):
        small.restore(tmp_path)


def test_training_needs_few_packages():
    """A machine without a network needs torch, diffusers, transformers, tyro and what these need, no more."""
    code = (
        "import sys\n"
        "for name in ('trimesh', 'embreex', 'plyfile', 'imageio', 'matplotlib'): sys.modules[name] = None\n"
        "import splatdistill.embedded.prior.pretrain, splatdistill.embedded.prior.samples\n"
        "import splatdistill.embedded.corpus.__main__"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
