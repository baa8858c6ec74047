"""Training of the embedded prior on tiny networks: exact resume, warm starts by word, an exported folder that loads."""

from __future__ import annotations

import dataclasses

import torch

from splatdistill.embedded import network
from splatdistill.embedded.corpus.dataset import Corpus
from splatdistill.embedded.samples import ddim, sample_grid
from splatdistill.embedded.train import TrainConfig, Trainer, run, warm_start
from splatdistill.priors.multiview import MultiViewPrior

CONFIG = TrainConfig(batch=8, resolution=16, warmup=2, max_images=100)


def trainer(corpus_folder, config=CONFIG) -> Trainer:
    torch.manual_seed(0)
    networks = network.create(channels=(16, 32, 32), text_width=16)
    return Trainer(config, networks=networks, corpus=Corpus(corpus_folder, seed=config.seed))


def test_resuming_equals_not_stopping(corpus_folder, tmp_path):
    straight = trainer(corpus_folder)
    for _ in range(3):
        straight.train_step()
    stopped = trainer(corpus_folder)
    for _ in range(2):
        stopped.train_step()
    stopped.save(tmp_path)
    torch.manual_seed(99)
    resumed = Trainer(CONFIG, networks=network.create(channels=(16, 32, 32), text_width=16), corpus=stopped.corpus)
    resumed.restore(tmp_path)
    resumed.train_step()
    assert (resumed.step, resumed.images) == (straight.step, straight.images) == (3, 24)
    for name, p in straight.parameters.items():
        torch.testing.assert_close(resumed.parameters[name], p, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(resumed.average[name], straight.average[name], atol=1e-6, rtol=1e-4)


def test_the_loss_falls(corpus_folder):
    it = trainer(corpus_folder, dataclasses.replace(CONFIG, lr=3e-3, decay=0, max_images=10_000))
    losses = [it.train_step() for _ in range(40)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_learning_rate_warms_up_and_decays(corpus_folder):
    it = trainer(corpus_folder, dataclasses.replace(CONFIG, lr=1.0, warmup=4, decay=0.5, max_images=100))
    rates = []
    for it.step, it.images in ((0, 0), (3, 30), (10, 75), (20, 100)):
        rates.append(it._learning_rate())
    assert rates == [0.25, 1.0, 0.5, 0.0]


def test_a_run_writes_state_log_samples_and_a_prior_that_loads(corpus_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("splatdistill.embedded.train.sample_grid", lambda prior, path: path.write_bytes(b"png"))
    it = trainer(corpus_folder, dataclasses.replace(CONFIG, max_images=16))
    run(it, out=tmp_path, minutes=1, save_minutes=10, sample_minutes=10)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["loss.jsonl", "prior", "samples", "state.safetensors"]
    prior = MultiViewPrior.load(tmp_path / "prior", dtype="fp32")
    for name, value in prior.unet.named_parameters():
        torch.testing.assert_close(value, it.average[f"unet.{name}"], atol=1e-3, rtol=1e-3)
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
        torch.testing.assert_close(new, old, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(fresh.unet.conv_in.weight, parts.unet.conv_in.weight, atol=1e-3, rtol=1e-3)


def test_sampling_draws_four_views(corpus_folder, tmp_path):
    it = trainer(corpus_folder)
    with it.averaged():
        prior = it.prior()
        assert ddim(prior, "a red sofa", steps=2).shape == (4, 16, 16, 3)
        sample_grid(prior, tmp_path / "grid.png", prompts=("a sofa", "a cactus", "a sofa"), columns=2)
    assert (tmp_path / "grid.png").stat().st_size > 100
