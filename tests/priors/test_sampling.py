"""Pictures drawn from teachers: of one whose answers are known, and from every kind at the command line."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image
from torch import Tensor

from splatdistill import cli, priors
from splatdistill.config import presets
from splatdistill.priors import sampling
from splatdistill.priors.base import Choice
from splatdistill.priors.sampling import FIRST, sample
from splatdistill.priors.schedule import alpha_sigma
from tests.priors import families, tiny_dits
from tests.priors.test_diffusion import CPU, exact_network
from tests.rounding import assert_within

MEAN, SPREAD = 0.4, 0.5  # of what `exact_network` knows


@pytest.mark.parametrize("name", ["sd15", "sd3"])
def test_samples_of_a_known_density_have_its_mean_and_spread(folders: dict[str, Path], name: str) -> None:
    """The network is exact for x0 from N(0.4, 0.5^2) with the prompt. A path then keeps its quantile: it ends at
    mean + spread times what it began with.
    """
    prior: Any = priors.load(str(folders[name]), device=CPU, dtype="fp32")
    cond = prior.embed("a red chair", None)
    prior.network.forward = exact_network(prior, cond.text)
    drawn: list[Tensor] = []
    prior.decode = lambda x0: drawn.append(x0) or torch.zeros(1, 16, 16, 3)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    off = []
    for steps in (100, 200):
        sample(prior, Choice("a red chair", seed=2), guidance_scale=1.0, steps=steps, device=CPU)
        first, last = (torch.tensor([round(x)]) for x in (FIRST * 999, FIRST * 999 / steps))
        (a, sa), (b, sb) = (alpha_sigma(prior.alphas_cumprod, t) for t in (first, last))
        quantile = (noise - a * MEAN) / (a**2 * SPREAD**2 + sa**2).sqrt()
        # What the network takes for x0 at the last noisy level, where its path is at this quantile.
        expected = MEAN + quantile * b * SPREAD**2 / (b**2 * SPREAD**2 + sb**2).sqrt()
        off.append(drawn[-1] - expected)
    assert_within(off[1].norm(), 0.5 * off[0].norm(), 0.15 * off[0].norm())  # a method of the first order
    assert off[1].norm() < 0.05 * noise.norm()


@pytest.mark.parametrize(("name", "width"), [("mvdream", 64), ("pixart", 16), ("analytic", 64), ("embedded", 256)])
def test_any_teacher_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, width: int) -> None:
    makers = families.FAMILIES | tiny_dits.DITS
    prior = str(makers[name](tmp_path / "x" / "model")) if name in makers else name
    file = tmp_path / "chair.png"
    capsys.readouterr()
    arguments = ["prior", "sample", prior, "--prompt", "a red chair", "--steps", "2", "--device", "cpu", "--seed", "3"]
    assert cli.main([*arguments, "--dtype", "fp32", "--output", str(file)]) == cli.DONE
    assert capsys.readouterr().out == f"{file}\n"
    picture = Image.open(file)
    assert picture.size[0] == width
    before = picture.tobytes()
    cli.main([*arguments, "--dtype", "fp32", "--output", str(file)])
    assert Image.open(file).tobytes() == before


def test_parts_of_one_seed_have_other_cameras_and_other_noise() -> None:
    """With four views at once, two parts are the ring of eight; the first is what no parts give."""
    prior: Any = priors.load("analytic", device=CPU, dtype="fp32")
    prior.num_views = 4
    whole, halves = sampling.ring(prior), sampling.ring(prior, parts=2)
    torch.testing.assert_close(halves.azimuth.sort().values, torch.arange(8) * (math.pi / 4))
    assert torch.equal(halves.viewmats[:4], whole.viewmats)
    noise: list[Tensor] = []
    kept = prior.predict
    prior.predict = lambda x, t, conditions: noise.append(x) or kept(x, t, conditions)
    first, alone, second = (
        sample(prior, Choice("a red ball", seed=3), guidance_scale=1.0, steps=1, device=CPU, **part)
        for part in ({"part": 0, "parts": 2}, {}, {"part": 1, "parts": 2})
    )
    assert torch.equal(first, alone) and torch.equal(noise[0], noise[1])
    assert not torch.equal(noise[2], noise[0]) and not torch.equal(second, first)


PIPELINES = {
    "latent-512": diffusers.StableDiffusionPipeline, "latent-1024": diffusers.StableDiffusionXLPipeline,
    "pixel-64": diffusers.IFPipeline, "flow": diffusers.StableDiffusion3Pipeline,
}  # fmt: skip


@pytest.mark.parametrize("family", PIPELINES)
def test_pictures_are_guided_as_the_pipelines_of_the_family_do_it(family: str) -> None:
    usual = inspect.signature(PIPELINES[family].__call__).parameters["guidance_scale"].default
    assert presets.sampling_guidance(family) == usual
    assert presets.sampling_guidance("mvdream") == presets.sampling_guidance("") == 7.5


def test_the_shipped_prior_draws_without_guidance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At 7.5 its pictures have specks all over the white ground; by itself it leaves that white."""
    names = {"usual": [], "one": ["--guidance-scale", "1"], "more": ["--guidance-scale", "7.5"]}
    for name, flags in names.items():
        words = ["prior", "sample", "embedded", "--prompt", "a chair", "--steps", "4", "--dtype", "fp32", *flags]
        assert cli.main([*words, "--output", str(tmp_path / f"{name}.png")]) == cli.DONE
    usual, one, more = (Image.open(tmp_path / f"{name}.png").tobytes() for name in names)
    assert usual == one != more
    capsys.readouterr()
    words = ["prior", "sample", "embedded", "--prompt", "a chair", "--negative-prompt", "legs"]
    assert cli.main([*words, "--output", str(tmp_path / "none.png")]) == cli.USAGE
    assert "negative_prompt: at a guidance scale of 1 it counts for nothing" in capsys.readouterr().err
    assert not (tmp_path / "none.png").exists()
