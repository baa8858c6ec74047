"""Magic3D as published, two teachers in one command: pixels at 64 first, then latents, on tiny random networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from splatdistill import cli, priors
from splatdistill.commands.train import Config, parse_settings
from splatdistill.config import presets, settings, validation
from splatdistill.config.schema import CameraConfig, SplatsConfig, TrainConfig
from splatdistill.rendering.renderer import make_renderer
from splatdistill.scene import cameras as orbits
from splatdistill.training import checkpoint
from splatdistill.training.beginning import initial_splats
from splatdistill.training.trainer import Trainer
from tests.priors import families
from tests.rounding import UNIT
from tests.training.test_stages import Log

CPU = torch.device("cpu")
STEPS, SWITCH = 12, 8


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped one, with tiny teachers, few steps and small renders."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("magic3d")
    text = presets.shipped("magic3d-if-sd").read_text(encoding="utf-8")
    for old, new in (
        ("prior: if\n", f"prior: {families.deepfloyd(root / 'if' / 'model')}\nsize: 16\n"),
        ("prior: sd21-base", f"prior: {families.sd15(root / 'sd' / 'model')}"),
        ("size: 512", "size: 32"), ("steps: 15000", f"steps: {STEPS}\nsplats: {{num_init: 60}}"),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    file = root / "recipe.yaml"
    file.write_text(text + "output: {frames: 2, size: 32, log_every: 1, save_every: 5}\n", encoding="utf-8")
    return file


def config_of(recipe: Path) -> TrainConfig:
    return parse_settings(Config, ["--config", str(recipe), "--prompt", "a corgi", "--device", "cpu"], verb="config")[1]


def make(config: TrainConfig) -> Trainer:
    teachers = {stage.prior: None for _, stage in settings.stages(config)}
    loaded: dict[str, Any] = {name: priors.load(name, device=CPU, dtype="fp32") for name in teachers}
    return Trainer(config, prior=loaded[config.prior], device=CPU, others=loaded)


def test_the_published_values_are_in_force_in_both_stages() -> None:
    config, _ = presets.load("sds", file=Path("magic3d-if-sd"), family="pixel-64")
    config = presets.with_stage_families(config, lambda name: {"sd21-base": "latent-512"}[name])
    (_, coarse), (first, fine) = settings.stages(config)
    assert (first, coarse.prior, fine.prior, coarse.size, fine.size) == (10005, "if", "sd21-base", 64, 512)
    # magic3d-coarse-if.yaml and magic3d-refine-sd.yaml of threestudio, whose 20 and 100 are our 21 and 101 or less.
    assert (coarse.sds.guidance_scale, coarse.sds.weight, coarse.sds.t_max) == (21.0, "one", 0.98)
    assert (fine.sds.guidance_scale, fine.sds.weight) == (100.0, "sigma2")
    assert fine.sds.t_max == fine.sds.t_max_final == 0.5
    assert fine.camera.elevation_deg == (-10.0, 45.0)
    middle = torch.deg2rad(torch.tensor([55.0, 37.5]) / 2).tan()  # of their 40 to 70 and 30 to 45 degrees
    assert abs(float(middle[0] / middle[1]) - fine.camera.zoom) < 0.05  # the recipe rounds it to one decimal
    validation.validate(settings.merge(config, {"prompt": "x"}, where="test"))


def test_the_hand_over_changes_no_bit_of_the_object_and_stopping_there_none_of_the_run(
    recipe: Path, tmp_path: Path
) -> None:
    config = config_of(recipe)
    trainer = make(config)
    while trainer.step < SWITCH:
        trainer.advance(Log())  # type: ignore[arg-type]
    trainer.save(tmp_path / "part")
    before = {name: value.clone() for name, value in trainer.particles[0].state_dict().items()}
    means = trainer.splats.means.clone()
    trainer._enter(SWITCH)
    assert trainer.stage.size == 32 and trainer.stage.prior != config.prior
    after = trainer.particles[0].state_dict()
    assert before.keys() == after.keys()
    kept = [name for name in before if not name.startswith("densify.")]  # those count gradients by pixels of a stage
    assert len(kept) > 10 and all(torch.equal(before[name], after[name]) for name in kept)
    while trainer.step < STEPS:
        trainer.advance(Log())  # type: ignore[arg-type]
    assert not torch.equal(trainer.splats.means[:10], means[:10])
    again = make(config)
    again.restore(checkpoint.load(tmp_path / "part"))
    while again.step < STEPS:
        again.advance(Log())  # type: ignore[arg-type]
    whole, parts = trainer.particles[0].state_dict(), again.particles[0].state_dict()
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_a_longer_focal_length_enlarges_the_object_in_the_frame() -> None:
    near, far = CameraConfig(zoom=1.5), CameraConfig()
    pair = [orbits.sample(c, num_views=8, size=64, generator=torch.Generator().manual_seed(0)) for c in (far, near)]
    assert torch.equal(pair[0].viewmats, pair[1].viewmats)  # from where it was
    focal = [seen.Ks[:, 0, 0] for seen in pair]
    # Two tangents and an arc tangent, a few units each, of angles whose tangent grows at most by 1 + tan^2 <= 1.2.
    torch.testing.assert_close(focal[1], 1.5 * focal[0], rtol=16 * UNIT, atol=0)
    splats = initial_splats("ball", SplatsConfig(num_init=400, radius=0.3, opacity=0.9), seed=0)
    areas = [
        (make_renderer(CPU).render(splats, seen, background=torch.ones(8, 3)).alpha > 0.5).sum((1, 2, 3)).float()
        for seen in pair
    ]
    grown = areas[1] / areas[0]
    # Every pixel's place grows by 1.5, so areas by 2.25; a rim of one pixel about a disk of some 9 pixels is uncertain.
    assert (areas[0] > 100).all() and (grown > 1.8).all() and (grown < 2.8).all()


def test_one_command_runs_both_stages(recipe: Path, tmp_path: Path) -> None:
    arguments = ["train", "--config", str(recipe), "--prompt", "a corgi", "--out", str(tmp_path), "--name", "corgi"]
    assert cli.main([*arguments, "--device", "cpu"]) == cli.DONE
    summary = json.loads((tmp_path / "corgi" / "summary.json").read_text())
    assert (summary["step"], len(summary["priors"])) == (STEPS, 2)
    assert (tmp_path / "corgi" / "splats.ply").is_file()
