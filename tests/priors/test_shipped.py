"""The priors that come with the package: found by name, and what their words give."""

import math

import pytest
import torch

from splatdistill import cli, priors
from splatdistill.priors.base import Choice
from splatdistill.priors.known import KnownPrior
from splatdistill.scene.cameras import orbit

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def known() -> KnownPrior:
    prior = priors.load("embedded", device=CPU, dtype="fp32")
    assert isinstance(prior, KnownPrior) and prior.origin == "embedded"
    return prior


def ring(size: int):
    one = torch.ones(4)
    azimuth = torch.arange(4) * (math.pi / 2)
    return orbit(azimuth=azimuth, elevation=0.2 * one, radius=3 * one, fovy=0.7 * one, size=size)


def test_known_has_hundreds_of_objects_and_several_models_of_many(known):
    several = [numbers for numbers in known.instances.of_noun.values() if len(numbers) > 1]
    assert len(known.instances.of_noun) >= 400 and len(several) >= 200


def test_a_prompt_without_a_colour_has_the_look_of_the_model(known):
    """Of every object, but for the procedural models, which have no paint of their own."""
    cameras, checked = ring(16), 0
    for noun, numbers in known.instances.of_noun.items():
        known.begin(Choice(prompt=f"a {noun}"))
        candidates = known.embed(f"a {noun}", cameras).candidates
        assert candidates is not None and set(candidates.numbers) <= set(numbers), noun
        for number, tints in zip(candidates.numbers, candidates.tints, strict=True):
            assert known.instances.known[number].bare or tints.isnan().all(), noun
        checked += not known.instances.known[numbers[0]].bare
    assert checked > 400


@pytest.mark.parametrize(("prompt", "colour"), [("a red chair", (1, 0, 0)), ("a blue car", (0, 0, 1))])
def test_a_colour_of_the_prompt_shows(known, prompt, colour):
    """The network's answer at a high noise level, where the prompt alone says what is seen."""
    known.begin(Choice(prompt=prompt, instance=1))
    cameras, t = ring(64), torch.full((4,), 900)
    condition = known.embed(prompt, cameras)
    alpha = known.alphas_cumprod[900].sqrt()
    xt = torch.randn(4, 4, 64, 64, generator=torch.Generator().manual_seed(0)) * (1 - alpha**2).sqrt()
    epsilon = known.predict(xt, t, [condition])[0]
    x0 = (xt - (1 - alpha**2).sqrt() * epsilon) / alpha
    inside = x0[:, 3] > 0.5
    seen = x0[:, :3].permute(0, 2, 3, 1)[inside].mean(0)
    strongest = torch.tensor(colour).bool()
    assert inside.any() and seen[strongest].min() > seen[~strongest].max()


def test_the_command_line_finds_it_and_its_settings(capsys):
    assert cli.main(["vocab", "--stats"]) == cli.DONE
    assert "1906" in capsys.readouterr().out
    assert cli.main(["config", "--prompt", "an owl"]) == cli.DONE
    assert "guidance_scale: 1.0  # prior" in capsys.readouterr().out
