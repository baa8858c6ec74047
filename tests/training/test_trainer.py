"""The loop on the analytic prior: it learns, it resumes bit for bit, and its settings act."""

from __future__ import annotations

import gzip
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from splatdistill import priors
from splatdistill.config import presets
from splatdistill.config.schema import (
    METHODS,
    BackgroundConfig,
    CameraConfig,
    DensifyConfig,
    OutputConfig,
    RegularizeConfig,
    SplatsConfig,
    TrainConfig,
)
from splatdistill.embedded.prior import architecture as network
from splatdistill.guidance.methods.esd import ESDConfig
from splatdistill.guidance.methods.sds import SDSConfig
from splatdistill.guidance.methods.vsd import VSDConfig
from splatdistill.priors import load
from splatdistill.priors.analytic import AnalyticPrior, Gaussian, beach_ball
from splatdistill.priors.embedded import MultiViewPrior
from splatdistill.priors.schedule import Schedule
from splatdistill.rendering.renderer import make_renderer
from splatdistill.scene.cameras import turntable
from splatdistill.scene.gaussians import Splats
from splatdistill.training import checkpoint
from splatdistill.training.beginning import initial_splats
from splatdistill.training.regularizers import regularizer
from splatdistill.training.run import train
from splatdistill.training.run_log import NoLog, RunLog
from splatdistill.training.step import backward, draw, render, score
from splatdistill.training.trainer import Trainer
from splatdistill.utils.progress import Progress
from tests.guidance.toys import FOR_ANY_PRIOR
from tests.priors.oracles import LinearPrior

SMALL = TrainConfig(
    prompt="a red ball",
    prior="analytic",
    steps=40,
    num_views=4,
    size=32,
    splats=SplatsConfig(num_init=200),
    densify=DensifyConfig(start=0.25, stop=0.8, interval=10, max_splats=260),
    background=BackgroundConfig(white=1.0, gray=0.0),
    sds=SDSConfig(guidance_scale=1.0),
    optim=presets.load("sds")[0].optim,
    output=OutputConfig(log_every=5, preview_every=20, save_every=15, size=32, frames=4),
)


def run(folder: Path, config: TrainConfig = SMALL, *, resume: bool = False) -> Splats:
    with Progress(total=config.steps) as progress:
        return train(config, folder=folder, progress=progress, resume=resume).splats


def test_it_learns_the_ball(tmp_path: Path) -> None:
    config = replace(SMALL, steps=120, splats=SplatsConfig(num_init=400))
    splats = run(tmp_path / "run", config)
    trainer = Trainer(
        config, prior=load("analytic", device=torch.device("cpu"), dtype="auto"), device=torch.device("cpu")
    )
    prior = trainer.prior
    views = turntable(config.camera, num_frames=8, size=64)
    picture = make_renderer(torch.device("cpu")).render(splats, views, background=torch.ones(8, 3)).rgb
    target = prior.decode(prior.embed(config.prompt, views).density.mean)
    start = make_renderer(torch.device("cpu")).render(trainer.splats, views, background=torch.ones(8, 3)).rgb
    error, error_at_start = ((x - target).square().mean().item() for x in (picture, start))
    assert error < 0.25 * error_at_start
    assert error < 0.02


@pytest.mark.parametrize("method", METHODS)
def test_resume_equals_not_stopping_across_densify(tmp_path: Path, method: Any) -> None:
    """What fits views needs a prior that draws them."""
    taught: dict[str, Any] = (
        {} if method in FOR_ANY_PRIOR else {"prior": "embedded", "prompt": "a red lamp", "dtype": "fp32"}
    )
    small = replace(SMALL, method=method, **taught)
    whole = run(tmp_path / "whole", small)
    steps = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    events = [json.loads(line)["kind"] for line in (tmp_path / "whole" / "events.jsonl").read_text().splitlines()]
    assert events.count("densify") >= 2

    class Stop(Exception):
        pass

    class Interrupted(Progress):
        def update(self, step: int, **numbers: object) -> None:
            if step >= 25:
                raise Stop

    with pytest.raises(Stop), Interrupted(total=SMALL.steps) as progress:
        train(small, folder=tmp_path / "parts", progress=progress)
    assert checkpoint.load(tmp_path / "parts" / "checkpoints")[1]["step"] == 15  # before the event at step 20
    parts = run(tmp_path / "parts", small, resume=True)
    assert len(parts) == len(whole) != SMALL.splats.num_init
    for name, value in whole.tensors.items():
        assert torch.equal(value, parts.tensors[name]), name
    again = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    drop = {"seconds", "time"}
    assert [{k: v for k, v in s.items() if k not in drop} for s in again] == [
        {k: v for k, v in s.items() if k not in drop} for s in steps
    ]
    assert (tmp_path / "whole" / "splats.ply").read_bytes() == (tmp_path / "parts" / "splats.ply").read_bytes()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_short_run_with_the_embedded_prior_learns_logs_and_resumes(tmp_path: Path, device: Any) -> None:
    """On CUDA sums have no fixed order, so bits are not compared, and log lines come a step late."""
    config = replace(
        SMALL, prior="embedded", prompt="a red lamp", device=device, size=64, steps=24, sds=SDSConfig(),
        densify=replace(SMALL.densify, start=0.2, interval=5),
        output=replace(SMALL.output, log_every=3, save_every=8, preview_every=100),
    )  # fmt: skip
    folder = tmp_path / "run"

    class Stop(Exception):
        pass

    class Interrupted(Progress):
        def update(self, step: int, **numbers: object) -> None:
            if step >= 14:
                raise Stop

    with pytest.raises(Stop), Interrupted(total=config.steps) as progress:
        train(config, folder=folder, progress=progress)
    assert checkpoint.load(folder / "checkpoints")[1]["step"] == 8
    splats = run(folder, config, resume=True)
    assert splats.device.type == device and len(splats) > config.splats.num_init
    assert all(torch.isfinite(value).all() for value in splats.tensors.values())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 9, 12, 15, 18, 21, 24]
    assert all(line["nonfinite"] == 0 and line["grad_norm"] > 0 for line in lines)
    assert 0 < json.loads((folder / "summary.json").read_text())["network_share"] < 1
    views = turntable(config.camera, num_frames=4, size=64)
    renderer, white = make_renderer(torch.device(device)), torch.ones(4, 3)
    start = initial_splats(config.init, config.splats, seed=config.seed).to(device)
    with torch.no_grad():
        before, after = (renderer.render(x, views, background=white).rgb for x in (start, splats))
    assert (before - after).abs().mean() > 0.01


def test_a_profile_is_a_trace_of_a_few_steps_and_changes_nothing(tmp_path: Path) -> None:
    config = replace(SMALL, steps=10)
    plain = run(tmp_path / "plain", config)
    with Progress(total=config.steps) as progress:
        traced = train(config, folder=tmp_path / "traced", progress=progress, profile=True).splats
    assert torch.equal(plain.means, traced.means)
    assert not (tmp_path / "plain" / "trace.json.gz").exists()
    with gzip.open(tmp_path / "traced" / "trace.json.gz") as file:
        names = [event.get("name") for event in json.load(file)["traceEvents"]]
    assert len({name for name in names if name and name.startswith("ProfilerStep")}) == 4


def interrupted(config: TrainConfig, *, prior: Any, at: int) -> dict[str, torch.Tensor]:
    """The checkpoint of a run of `config` that was saved at step `at` and taken up by another trainer."""
    folder = tempfile.TemporaryDirectory()
    first, second = (Trainer(config, prior=prior(), device=torch.device("cpu")) for _ in range(2))
    for _ in range(at):
        first.advance(NoLog())  # type: ignore[arg-type]
    first.save(Path(folder.name))
    second.restore(checkpoint.load(Path(folder.name)))
    return finished(second)


def finished(trainer: Trainer) -> dict[str, torch.Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        while trainer.step < trainer.config.steps:
            trainer.advance(NoLog())  # type: ignore[arg-type]
        trainer.save(Path(folder))
        return checkpoint.load(Path(folder))[0]


def linear_prior() -> LinearPrior:
    return LinearPrior(beach_ball(image_size=8), image_size=8)


def unet_prior() -> MultiViewPrior:
    torch.manual_seed(0)
    parts = network.create(channels=(16, 32, 32), text_width=16)
    return MultiViewPrior(
        parts.unet.eval(),
        text_encoder=parts.text_encoder.eval(),
        volume=parts.volume.eval(),
        tokenizer=parts.tokenizer,
        schedule=Schedule.from_config(parts.scheduler.config),
        meta=network.meta(image_size=16),
    )


@pytest.mark.parametrize("prior", [linear_prior, unet_prior])
def test_particles_and_what_is_learned_resume_bit_for_bit(prior: Any) -> None:
    config = replace(
        SMALL,
        method="esd",
        steps=6,
        size=16,
        splats=SplatsConfig(num_init=30),
        densify=replace(SMALL.densify, start=0.6, interval=1, max_splats=50),
        esd=ESDConfig(particles=2, lora_rank=2, lora_lr=1e-2),
    )
    whole = finished(Trainer(config, prior=prior(), device=torch.device("cpu")))
    parts = interrupted(config, prior=prior, at=3)
    assert whole.keys() == parts.keys()
    assert {name.split(".")[0] for name in whole} == {"0", "1", "guidance"}
    assert not torch.equal(whole["0.splats.means"][:10], whole["1.splats.means"][:10])
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_every_particle_is_exported_and_what_is_learned_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(priors, "load", lambda *args, **kwargs: linear_prior())
    config = replace(SMALL, method="vsd", steps=5, vsd=VSDConfig(particles=3, lora_lr=1e-2))
    run(tmp_path / "run", config)
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"splats.ply", "splats-1.ply", "splats-2.ply", "contact.png", "contact-1.png", "contact-2.png"} <= files
    assert (tmp_path / "run" / "splats.ply").read_bytes() != (tmp_path / "run" / "splats-1.ply").read_bytes()
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert {"lora_loss", "frozen_loss", "camera_ratio"} <= json.loads(line).keys()


def gradients(trainer: Trainer) -> torch.Tensor:
    """Those of step 0, in the splats; returns the norms of the views [P*V]."""
    drawn = draw(trainer.sampling, seed=0, step=0, device=trainer.device)
    rendered = [render(p.splats, drawn, renderer=trainer.renderer) for p in trainer.particles]
    images = [one.image for one in rendered]
    scored = score(images, drawn.cameras, guidance=trainer.guidance, prior=trainer.prior, seed=0, step=0)
    backward(trainer.particles, rendered, scored)
    return scored.norms


def test_one_particle_is_the_same_object_however_many_there_are() -> None:
    """Particles share cameras and noise streams only; each gradient is the mean over its own views."""
    config = replace(SMALL, method="vsd", steps=1, vsd=VSDConfig(guidance_scale=1.0))
    alone, pair = (
        Trainer(
            replace(config, vsd=replace(config.vsd, particles=count)), prior=linear_prior(), device=torch.device("cpu")
        )
        for count in (1, 2)
    )
    assert torch.equal(alone.splats.means, pair.splats.means)
    assert not torch.equal(pair.particles[0].splats.means, pair.particles[1].splats.means)
    norms = [gradients(trainer) for trainer in (alone, pair)]
    assert norms[0].shape == (4,) and norms[1].shape == (8,)
    grads = [trainer.splats.sh0.grad.norm().item() for trainer in (alone, pair)]  # type: ignore[union-attr]
    assert 0.5 < grads[0] / grads[1] < 2.0


def test_run_folder_holds_what_it_promises(tmp_path: Path) -> None:
    run(tmp_path / "run")
    for name in (
        "config.yaml",
        "command.txt",
        "summary.json",
        "metrics.jsonl",
        "events.jsonl",
        "splats.ply",
        "contact.png",
    ):
        assert (tmp_path / "run" / name).stat().st_size >= 0, name
    assert {p.name for p in (tmp_path / "run" / "preview").iterdir()} >= {
        f"000020-{v}.jpg" for v in ("front", "side", "back", "top")
    }
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["step"] == summary["steps"] == 40
    assert summary["num_splats"] == 260
    assert 0 < summary["seconds_network"] < summary["seconds_total"]
    # The share has four decimals.
    assert summary["network_share"] == pytest.approx(summary["seconds_network"] / summary["seconds_total"], abs=0.51e-4)


@pytest.mark.parametrize(
    ("change", "pictures"),
    [
        ({}, 4),  # four views, the caption alone
        ({"sds": SDSConfig(guidance_scale=2.0)}, 8),  # and without a caption
        # Two particles of four views: the caption, the second score at every view, and its update on four renders.
        ({"method": "vsd", "vsd": VSDConfig(guidance_scale=1.0, particles=2)}, 8 + 8 + 4),
    ],
)
def test_image_evaluations_are_counted_across_a_resume(tmp_path: Path, change: Any, pictures: int) -> None:
    config = replace(SMALL, steps=4, **change)
    for steps in (2, 4):
        run(tmp_path / "run", replace(config, steps=steps), resume=steps == 4)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["image_evaluations"] == 4 * pictures


def test_init_from_ply_goes_on_from_the_file(tmp_path: Path) -> None:
    first = run(tmp_path / "first")
    config = replace(SMALL, init=f"ply:{tmp_path / 'first' / 'splats.ply'}", steps=1)
    trainer = Trainer(
        config, prior=load("analytic", device=torch.device("cpu"), dtype="auto"), device=torch.device("cpu")
    )
    for name, value in first.tensors.items():
        assert torch.equal(trainer.splats.tensors[name], value), name


def test_same_seed_same_bits_other_seed_other_splats(tmp_path: Path) -> None:
    short = replace(SMALL, steps=6)
    a, b, c = run(tmp_path / "a", short), run(tmp_path / "b", short), run(tmp_path / "c", replace(short, seed=1))
    assert torch.equal(a.means, b.means) and not torch.equal(a.means, c.means)


@pytest.mark.parametrize("name", ["opacity", "sparsity", "scale", "tv"])
def test_each_regulariser_scales_linearly(name: str) -> None:
    trainer = Trainer(
        SMALL, prior=load("analytic", device=torch.device("cpu"), dtype="auto"), device=torch.device("cpu")
    )
    views = turntable(SMALL.camera, num_frames=4, size=32)
    output = trainer.renderer.render(trainer.splats, views, background=torch.ones(4, 3))
    values = [
        regularizer(RegularizeConfig(**{"opacity": 0.0, name: weight}), output, trainer.splats, largest=0.01)
        for weight in (1.0, 2.0)
    ]
    assert values[0] is not None and values[1] is not None
    assert values[0].item() > 0 and values[1].item() == 2 * values[0].item()  # a factor of two is exact
    assert regularizer(RegularizeConfig(opacity=0.0), output, trainer.splats, largest=0.01) is None


def test_a_scene_is_trained_from_its_middle(tmp_path: Path) -> None:
    config = replace(
        SMALL,
        init="shell",
        steps=3,
        camera=CameraConfig(kind="outward", fovy_deg=(60.0, 60.0), elevation_deg=(-10.0, 10.0)),
        splats=SplatsConfig(num_init=400, radius=3.0),
    )
    trainer = Trainer(config, prior=AnalyticPrior(walls, image_size=16), device=torch.device("cpu"))
    before = trainer.splats.sh0.detach().clone()
    for _ in range(3):
        trainer.advance(NoLog())  # type: ignore[arg-type]
    moved = (trainer.splats.sh0 - before).detach()[:, 0]
    seen = moved.abs().amax(-1) > 0.01
    assert 0.3 < seen.float().mean() <= 1.0
    assert (moved[seen].sign() == torch.tensor([1.0, -1.0, -1.0])).float().mean() > 0.8
    log = RunLog(tmp_path / "run", config, command="")
    trainer.preview(log)
    assert len(list((log.folder / "preview").iterdir())) == 4


def walls(prompt: str, cameras: Any) -> Gaussian:
    """Red wherever one looks."""
    return Gaussian(torch.tensor([1.0, -1.0, -1.0]).view(3, 1, 1), 0.1)


def test_a_resumed_run_keeps_the_engine_it_began_with(tmp_path: Path) -> None:
    asked = []

    def noting(name: str, **settings: Any) -> Any:
        asked.append(settings["engine"])
        return load(name, **settings)

    for steps in (2, 4):
        config = replace(SMALL, steps=steps, output=replace(SMALL.output, save_every=2, frames=2))
        with Progress(total=steps) as progress:
            train(config, folder=tmp_path / "run", progress=progress, resume=steps == 4, load=noting)
        assert json.loads((tmp_path / "run" / "summary.json").read_text())["network_engine"] == "torch"
    assert asked == ["auto", "torch"]
