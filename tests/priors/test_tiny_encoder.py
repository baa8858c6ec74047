"""An AutoencoderTiny in the place of the VAE: its latents and their gradient, and what does not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from splatdistill import priors
from splatdistill.config.schema import SplatsConfig, TrainConfig
from splatdistill.io.runs import Run
from splatdistill.priors.check import describe
from splatdistill.priors.diffusion import LatentPrior
from splatdistill.priors.latent_space import LatentSpace
from splatdistill.priors.resolve import ENCODER_WEIGHTS, resolve_encoder
from splatdistill.priors.tiny_encoder import TinyLatentSpace
from splatdistill.training.run import train
from splatdistill.utils.progress import Progress
from tests.priors import families
from tests.priors.test_latent_space import gradient, pictures, pull
from tests.rounding import assert_same, assert_within, bound

CPU = torch.device("cpu")


def latent_space(**settings: Any) -> TinyLatentSpace:
    torch.manual_seed(1)
    return TinyLatentSpace(families.tiny_encoder(**settings).eval().requires_grad_(False), dtype="fp32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(2)
    where = tmp_path_factory.mktemp("tiny") / "encoder"
    families.tiny_encoder().save_pretrained(where)
    return where


def load(folder: Path | str, encoder: Path | str) -> LatentPrior:
    prior = priors.load(str(folder), device=CPU, dtype="fp32", encoder=str(encoder))
    assert isinstance(prior, LatentPrior)
    return prior


@pytest.mark.parametrize("settings", [{}, {"scaling_factor": 0.5, "shift_factor": 0.25}])
def test_latents_and_their_gradient_are_those_of_the_layers_in_float64(settings: dict[str, float]) -> None:
    """z = scale (layers((x + 1) / 2) - shift), with the scale and shift of its own settings: 1 and 0 by default."""
    c, images, direction = latent_space(**settings), pictures(), pull()
    layers = latent_space(**settings).vae.encoder.layers.double()
    leaf = images.double().requires_grad_()
    scale, shift = settings.get("scaling_factor", 1.0), settings.get("shift_factor", 0.0)
    latents = scale * (layers((leaf + 1) / 2) - shift)
    (expected,) = torch.autograd.grad(latents, leaf, direction.double())
    assert_within(c.encode(images), latents.detach(), bound(lambda: c.encode(images), samples=4).max())
    assert_within(
        gradient(c, images, direction), expected, bound(lambda: gradient(c, images, direction), samples=4).max()
    )


def test_with_default_settings_nothing_is_scaled() -> None:
    c = latent_space()
    assert torch.equal(c.encode(pictures()), c.vae.encode(pictures()).latents)
    x0 = c.encode(pictures())
    assert torch.equal(c.decode(x0), c.vae.decode(x0).sample)


def test_out_of_memory_means_fewer_views_and_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers' own checkpoints would leave out a part of its encoder."""
    images, direction = pictures(), pull()
    latents, grad = latent_space().encode(images), gradient(latent_space(), images, direction)
    small = latent_space()
    encode = small.vae.encode

    def limited(x: Tensor, **kwargs: Any) -> Any:
        if len(x) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return encode(x, **kwargs)

    monkeypatch.setattr(small.vae, "encode", limited)
    found = gradient(small, images, direction)
    assert small.recompute and small.micro_batches.rows == 2
    assert_within(found, grad, 2 * bound(lambda: gradient(latent_space(), images, direction), samples=2).max())
    assert_within(small.encode(images), latents, 2 * bound(lambda: latent_space().encode(images), samples=2).max())


@pytest.mark.parametrize("family", ["sd15", "sdxl", "mvdream"])
def test_it_takes_the_place_of_a_vae_whose_weights_are_not_read(
    folders: dict[str, Path], folder: Path, family: str, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folders[family], tmp_path / "copy"))
    for path in (copy / "vae").glob("*.safetensors"):
        path.unlink()
    prior = load(copy, folder)
    latent_space = prior.latent_space
    assert isinstance(latent_space, TinyLatentSpace) and prior.origin == f"{copy}, encoder {folder}"
    rgb = torch.rand(4, 16, 16, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    x0, images = prior.encode(rgb), 2 * rgb.detach().permute(0, 3, 1, 2) - 1
    assert_same(lambda: (prior.encode(rgb.detach()), latent_space.vae.encode(images).latents))
    (grad,) = torch.autograd.grad(x0, rgb, torch.ones_like(x0))
    assert x0.shape == (4, 4, 8, 8) and grad.abs().sum() > 0
    assert prior.decode(x0.detach()).shape == (4, 16, 16, 3)
    described = describe(str(copy), device=CPU, dtype="fp32", max_memory=0.0, encoder=str(folder))
    assert described["origin"] == prior.origin and "gradient norm" in described["step"]


def test_with_bf16_the_whole_of_it_is_in_bf16(folders: dict[str, Path], folder: Path) -> None:
    prior: Any = priors.load(str(folders["sd15"]), device=CPU, dtype="bf16", encoder=str(folder))
    assert prior.latent_space.bf16 and {p.dtype for p in prior.latent_space.vae.parameters()} == {torch.bfloat16}
    assert prior.encode(torch.rand(1, 16, 16, 3)).dtype == torch.float32


def test_without_it_the_vae_encodes(folders: dict[str, Path]) -> None:
    prior = load(folders["sd15"], "")
    assert type(prior.latent_space) is LatentSpace and prior.origin == str(folders["sd15"])


def test_a_run_records_it(folders: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    config = TrainConfig(prompt="ab", steps=2, size=16, num_views=4, splats=SplatsConfig(num_init=60), device="cpu")
    small = replace(config.output, size=16, frames=2)
    config = replace(config, prior=str(folders["sd15"]), encoder=str(folder), dtype="fp32", output=small)
    run = tmp_path / "run"
    run.mkdir()
    with Progress(total=2) as progress:
        train(config, folder=run, progress=progress)
    assert Run(run).summary()["priors"] == {str(folders["sd15"]): f"{folders['sd15']}, encoder {folder}"}
    assert f"encoder: {folder}" in (run / "config.yaml").read_text()


def with_settings(**values: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return spoil


def another(**settings: Any) -> Callable[[Path], None]:
    return lambda folder: families.tiny_encoder(**settings).save_pretrained(folder)


def no_settings(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_weights(folder: Path) -> None:
    (folder / ENCODER_WEIGHTS).unlink()


def cut(folder: Path) -> None:
    path = folder / ENCODER_WEIGHTS
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (no_settings, r"config\.json cannot be read as the settings of an encoder"),
        (lambda folder: (folder / "config.json").write_text("[1]"), r"config\.json cannot be read as the settings"),
        (with_settings(_class_name="AutoencoderKL"), "holds AutoencoderKL, not AutoencoderTiny; take one that"),
        (no_weights, r"is not whole: it has no diffusion_pytorch_model\.safetensors; download it again"),
        (cut, "cannot be loaded: "),
        (with_settings(encoder_block_out_channels=[8, 16]), "cannot be loaded: "),
        (another(in_channels=4), "reads pictures of 4 channels, and ours have 3; take another"),
        (another(latent_channels=16), r"makes latents of 16 channels, and .*sd15.* denoises 4; take the one that was"),
        (
            another(num_encoder_blocks=(1, 1, 1), encoder_block_out_channels=(8, 8, 8)),
            r"makes one latent of 4 x 4 pixels, and .*sd15.* of 2 x 2; take the one that was made for this prior",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    folders: dict[str, Path], folder: Path, spoil: Callable[[Path], None], sentence: str, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    spoil(copy)
    with pytest.raises(ValueError, match=sentence) as caught:
        load(folders["sd15"], copy)
    said = str(caught.value)
    assert said.startswith("encoder: ") and said.endswith(".") and "\n" not in said and said.count(". ") == 0


@pytest.mark.parametrize("name", ["analytic", "embedded", "if"])
def test_a_prior_without_a_vae_refuses_it(folders: dict[str, Path], folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"^encoder: [^\n]* has no VAE whose place an encoder could take[^\n]*\.$"):
        load(folders.get(name, name), folder)


@pytest.mark.parametrize("name", ["./nowhere", "no such", "a/b:c"])
def test_no_folder_is_one_sentence(name: str) -> None:
    with pytest.raises(ValueError, match=r"^encoder: there is no folder '[^\n]*'; name one, or an id of the [^\n]*\.$"):
        resolve_encoder(name)


def test_an_id_that_is_nowhere_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splatdistill.priors.resolve._fetch", lambda *_, **__: "the hub cannot be reached")
    with pytest.raises(ValueError, match=r"^encoder: a/b is not here: [^\n]*`hf download a/b` [^\n]*--encoder takes"):
        resolve_encoder("a/b")
