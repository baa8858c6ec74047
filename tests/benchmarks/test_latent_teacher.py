"""The small latent diffusion model of our own: its first weights, and that the product reads its folder."""

from __future__ import annotations

import itertools
from pathlib import Path

import latent_networks
import torch
import torch.nn.functional as F
from torch import Tensor

from splatdistill import priors
from splatdistill.priors.families import family_of
from splatdistill.priors.prompts import SIDES, seen_from

PROMPTS = ("a red armchair", "an orange lamp")


def blotches(*, seed: int) -> Tensor:
    """[4,3,64,64] in -1..1: colours that are flat over 16 x 16 pixels."""
    colours = 1.6 * torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) - 0.8
    return F.interpolate(colours, scale_factor=16.0)


@torch.no_grad()
def test_the_autoencoder_begins_with_mean_colours() -> None:
    """Before any training its pictures have the colours given: groups of channels are not normalised to none."""
    torch.manual_seed(0)
    vae, pictures = latent_networks.vae(), blotches(seed=0)
    found = vae.decode(vae.encode(pictures).latent_dist.mode()).sample
    inner = F.avg_pool2d((found - pictures).abs(), 16)
    assert inner.mean() < 0.5 * pictures.abs().mean()  # a claim about quality: half of the colours come back
    assert torch.corrcoef(torch.stack([found.flatten(), pictures.flatten()]))[0, 1] > 0.8  # and so is this


def test_the_tokenizer_knows_the_words(tmp_path: Path) -> None:
    words = latent_networks.tokenizer(tmp_path / "words", PROMPTS)
    for prompt, side in itertools.product(PROMPTS, SIDES):
        text = seen_from(prompt, side)
        assert words.tokenize(text) == [f"{word}</w>" for word in text.replace(",", " ,").split()]
    assert words.tokenize("zebra")[-1].endswith("</w>")  # others come in letters


def test_the_product_reads_the_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    words = latent_networks.tokenizer(tmp_path / "words", PROMPTS)
    vae, unet, text = latent_networks.vae(), latent_networks.unet(), latent_networks.text_encoder(words)
    latent_networks.save(tmp_path / "pipeline", vae, unet, text, words, latent_networks.scheduler())
    assert family_of(str(tmp_path / "pipeline")) == "latent-512"
    size = sum(path.stat().st_size for path in (tmp_path / "pipeline").rglob("*") if path.is_file())
    assert size < 20 << 20  # that it may be handed on as a file
    prior = priors.load(str(tmp_path / "pipeline"), device=torch.device("cpu"), dtype="fp32")
    assert prior.image_size == 64
    rgb = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    latents = prior.encode(rgb)
    half = vae.half().float().encode(2 * rgb.permute(0, 3, 1, 2) - 1).latent_dist.mode()  # weights as they are kept
    torch.testing.assert_close(latents, half * vae.config["scaling_factor"])
    conditions = [prior.embed(seen_from(PROMPTS[0], side), None) for side in ("front", "back")]
    front, back = prior.predict(latents, torch.tensor([500, 500]), conditions)
    assert front.shape == latents.shape and not torch.equal(front, back)
