"""Networks in bf16 as a whole, against fp32 and against autocast with norms in fp32.

Autocast rounds what enters a convolution or linear layer and what leaves it; a network in bf16 rounds what leaves the
norms, activations and sums between them as well, at most once more for each of those. So it may be at most twice as far
from fp32, and no further than results that are moved at random by a unit roundoff of bf16 each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from eager_traffic import norms_as_on_cuda
from torch import Tensor

from splatdistill import priors
from splatdistill.guidance.base import noisy_batch
from splatdistill.priors.assembly import place
from splatdistill.priors.diffusion import LatentPrior
from splatdistill.priors.latent_space import LatentSpace
from splatdistill.priors.network import DenoiserInput, keep_bf16
from splatdistill.priors.scores import make_score
from splatdistill.scene.cameras import orbit
from tests.priors import families
from tests.rounding import BF16_UNIT, moved

CPU = torch.device("cpu")


def load(folder: Path, dtype: str) -> LatentPrior:
    prior = priors.load(str(folder), device=CPU, dtype=dtype)
    assert isinstance(prior, LatentPrior)
    return prior


def under_autocast(folder: Path) -> LatentPrior:
    prior = load(folder, "fp32")
    keep_bf16(prior.network)
    prior.dtype, prior.mixed = "bf16", True
    return prior


def ring(num: int = 4) -> Any:
    one = torch.ones(num)
    azimuth = torch.arange(num) * (torch.pi / 2) + 0.3
    return orbit(azimuth=azimuth, elevation=0.2 * one, radius=3 * one, fovy=0.7 * one, size=16)


def autocast() -> Any:
    return torch.autocast("cpu", torch.bfloat16)


def assert_as_close_as_autocast(whole: Tensor, mixed: Tensor, exact: Tensor) -> None:
    away, allowed = (whole - exact).norm(), 2 * (mixed - exact).norm()
    assert 0 < away <= allowed, f"{away / exact.norm():.2e} of fp32, {allowed / exact.norm():.2e} at most"


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_network_in_bf16_answers_as_under_autocast(folders: dict[str, Path], family: str) -> None:
    exact, whole = (load(folders[family], dtype) for dtype in ("fp32", "bf16"))
    assert {p.dtype for p in whole.network.parameters()} == {torch.bfloat16}
    conditioned = exact.embed("a red chair", ring())
    x = torch.randn(4, *exact.encode(torch.rand(1, 16, 16, 3)).shape[1:])
    t = torch.tensor([60, 300, 600, 900])

    def answer(prior: LatentPrior) -> Tensor:
        with torch.no_grad():
            return prior.denoise(DenoiserInput(x, t, conditioned.text, conditioned.camera, conditioned.pooled))

    fp32, bf16 = answer(exact), answer(whole)
    assert bf16.dtype == torch.float32
    with autocast(), norms_as_on_cuda():
        assert_as_close_as_autocast(bf16, answer(under_autocast(folders[family])), fp32)
    away = moved(lambda: {"answer": answer(exact)}, unit=BF16_UNIT)["answer"]
    assert (bf16 - fp32).norm() <= away.norm()


def test_a_vae_in_bf16_encodes_and_pulls_back_as_under_autocast() -> None:
    def latent_space(dtype: str) -> LatentSpace:
        torch.manual_seed(1)
        return LatentSpace(place(families.vae(force_upcast=False), device=CPU, dtype=dtype), dtype=dtype)

    exact, whole, mixed = latent_space("fp32"), latent_space("bf16"), latent_space("fp32")
    keep_bf16(mixed.vae)
    images, pull = torch.rand(4, 3, 16, 16) * 2 - 1, torch.randn(4, 4, 8, 8)

    def results(latents: LatentSpace) -> dict[str, Tensor]:
        leaf = images.clone().requires_grad_()
        z = latents.latents(leaf)
        return {"latents": z.detach(), "gradient": torch.autograd.grad(z, leaf, pull)[0], "picture": latents.decode(z)}

    fp32, bf16 = results(exact), results(whole)
    with autocast(), norms_as_on_cuda():
        compared = results(mixed)
    away = moved(lambda: results(exact), unit=BF16_UNIT)
    for name, want in fp32.items():
        assert bf16[name].dtype == torch.float32
        assert_as_close_as_autocast(bf16[name], compared[name], want)
        assert (bf16[name] - want).norm() <= away[name].norm()


def test_a_vae_that_asks_for_fp32_gets_it_beside_a_network_in_bf16(folders: dict[str, Path]) -> None:
    exact, coarse = (load(folders["sdxl"], dtype) for dtype in ("fp32", "bf16"))
    assert {p.dtype for p in coarse.network.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in coarse.latent_space.vae.parameters()} == {torch.float32}  # type: ignore[union-attr]
    rgb = torch.rand(2, 16, 16, 3)
    assert torch.equal(exact.encode(rgb), coarse.encode(rgb))


@pytest.mark.parametrize("family", ["sd15", "mvdream", "sdxl", "sd3"])
def test_adapters_stay_in_fp32_and_learn_on_a_network_in_bf16(folders: dict[str, Path], family: str) -> None:
    exact, whole = (load(folders[family], dtype) for dtype in ("fp32", "bf16"))
    z = torch.randn(4, *exact.encode(torch.rand(1, 16, 16, 3)).shape[1:])
    t = torch.tensor([60, 300, 600, 900])

    def gradients(prior: LatentPrior) -> Tensor:
        score = make_score(prior, "a red chair", particles=1, rank=2, lr=1e-3, dropout=0.5, seed=0)
        batch = noisy_batch(z, ring(), prior, t=t, eps=torch.zeros_like(z))
        score.update(batch, seed=0, step=0, measure=True)
        state = score.state_dict()
        assert {value.dtype for name, value in state.items() if name != "num_updates"} == {torch.float32}
        return torch.cat([value.flatten() for name, value in state.items() if name.startswith("exp_avg.")])

    fp32, bf16 = gradients(exact), gradients(whole)
    with autocast(), norms_as_on_cuda():
        assert_as_close_as_autocast(bf16, gradients(under_autocast(folders[family])), fp32)
