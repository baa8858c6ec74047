"""Stages: what they may change, and that a run which is stopped anywhere goes on bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from splatdistill import cli
from splatdistill.config import settings, validation
from splatdistill.config.schema import DensifyConfig, LightConfig, SplatsConfig, TrainConfig
from splatdistill.guidance.methods.sds import SDSConfig
from splatdistill.priors.analytic import AnalyticPrior, beach_ball
from splatdistill.training import checkpoint
from splatdistill.training.trainer import Trainer
from tests.priors.oracles import LinearPrior

SMALL = TrainConfig(
    prompt="a red ball",
    prior="analytic",
    steps=20,
    size=16,
    splats=SplatsConfig(num_init=60),
    densify=DensifyConfig(start=0.2, stop=0.4, interval=3, max_splats=80),
    sds=SDSConfig(guidance_scale=1.0),
    stages=(
        {
            "start": 0.5,
            "size": 32,
            "camera": {"fovy_deg": [30, 35]},
            "densify": {"start": 0.6, "stop": 0.8, "max_splats": 120},
            "sds": {"t_max": 0.5},
            "prior": "fine",
        },
        {"start": 0.75, "optim": {"sh0": 0.01}, "regularize": {"tv": 0.1}},
    ),
)


class Log:
    def __init__(self) -> None:
        self.densified: list[tuple[int, int]] = []

    def metrics(self, *args: Any, **values: Any) -> None: ...

    summary = metrics

    def event(self, kind: str, *, step: int, num_splats: int, **values: Any) -> None:
        self.densified.append((step, num_splats))


def make(config: TrainConfig = SMALL, *, kind: type[AnalyticPrior] = AnalyticPrior) -> Trainer:
    coarse, fine = (kind(beach_ball(image_size=size), image_size=size) for size in (16, 32))
    return Trainer(config, prior=coarse, device=torch.device("cpu"), others={"fine": fine})


def advance(trainer: Trainer, *, to: int, log: Any = None) -> Trainer:
    while trainer.step < to:
        trainer.advance(log or Log())
    return trainer


def state(trainer: Trainer, folder: Path) -> dict[str, torch.Tensor]:
    trainer.save(folder)
    return checkpoint.load(folder)[0]


def test_each_stage_builds_on_the_one_before() -> None:
    validation.validate(SMALL)
    firsts, configs = zip(*settings.stages(SMALL), strict=True)
    assert firsts == (0, 10, 15)
    assert [c.size for c in configs] == [16, 32, 32]
    assert [c.prior for c in configs] == ["analytic", "fine", "fine"]
    assert [c.optim.sh0 for c in configs] == [SMALL.optim.sh0, SMALL.optim.sh0, 0.01]
    assert configs[0] is SMALL


def test_the_settings_of_a_stage_take_hold_at_its_start() -> None:
    trainer, log, seen = make(), Log(), []
    render = trainer.renderer.render

    def watched(splats: Any, cameras: Any, **rest: Any) -> Any:
        seen.append((cameras.width, (cameras.Ks[:, 0, 0] / cameras.width).mean().item(), trainer.prior.image_size))
        return render(splats, cameras, **rest)

    trainer.renderer.render = watched  # type: ignore[method-assign]
    advance(trainer, to=20, log=log)
    assert [side for side, _, _ in seen] == [16] * 10 + [32] * 10
    assert [side for _, _, side in seen] == [16] * 10 + [32] * 10
    assert min(focal for side, focal, _ in seen if side == 32) > 1.5  # 0.5 / tan(35 deg / 2)
    assert [step for step, _ in log.densified] == [4, 7, 10, 12, 15, 18]
    assert max(n for step, n in log.densified if step <= 10) <= 80 < log.densified[-1][1] <= 120


LIT = replace(SMALL, light=LightConfig(start=0.2, albedo=0.2, random_ambient=True))


def test_light_changes_the_run_from_its_start_on() -> None:
    plain, lit = make(), make(LIT)
    for step, same in ((4, True), (8, False)):
        first, second = (advance(trainer, to=step).splats.means for trainer in (plain, lit))
        assert torch.equal(first, second) is same


@pytest.mark.parametrize("at", [7, 10, 11])
@pytest.mark.parametrize("first", ["sds", "esd"])
def test_a_method_may_follow_another_and_stopping_changes_no_bit(tmp_path: Path, at: int, first: str) -> None:
    """SDS then VSD, as ProlificDreamer refines, and ESD then CSD; the second one's prior is another where it learns."""
    second = {"sds": "vsd", "esd": "csd"}[first]
    own = {"guidance_scale": 2.0, "lora_lr": 1e-2} if second == "vsd" else {"t_max": 0.6}
    stage = {"start": 0.5, "method": second, second: own, "prior": "fine", "size": 32}
    config = replace(SMALL, method=first, stages=(stage,))
    validation.validate(config)
    trainer = advance(make(config, kind=LinearPrior), to=10)
    assert type(trainer.guidance).__name__.lower() == first
    advance(trainer, to=20)
    assert type(trainer.guidance).__name__.lower() == second
    assert all(getattr(trainer.guidance.config, name) == value for name, value in own.items())
    whole = state(trainer, tmp_path / "whole")
    advance(make(config, kind=LinearPrior), to=at).save(tmp_path / "part")
    again = make(config, kind=LinearPrior)
    again.restore(checkpoint.load(tmp_path / "part"))
    parts = state(advance(again, to=20), tmp_path / "end")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


@pytest.mark.parametrize("config", [SMALL, LIT])
@pytest.mark.parametrize("at", [7, 10, 11, 15, 17])
def test_stopping_before_at_or_after_a_switch_changes_no_bit(tmp_path: Path, at: int, config: TrainConfig) -> None:
    whole = state(advance(make(config), to=20), tmp_path / "whole")
    advance(make(config), to=at).save(tmp_path / "part")
    second = make(config)
    second.restore(checkpoint.load(tmp_path / "part"))
    parts = state(advance(second, to=20), tmp_path / "end")
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_what_a_method_has_learned_lives_through_a_switch() -> None:
    stages = ({"start": 0.5, "esd": {"guidance_scale": 3.0}, "size": 32},)
    trainer = make(replace(SMALL, method="esd", stages=stages), kind=LinearPrior)
    advance(trainer, to=10)
    before = trainer.guidance.state_dict()
    trainer._enter(10)
    assert trainer.guidance.config.guidance_scale == 3.0  # type: ignore[attr-defined]
    assert before["num_updates"] == 10
    assert all(torch.equal(value, trainer.guidance.state_dict()[name]) for name, value in before.items())


@pytest.mark.parametrize(
    ("method", "stages", "sentence"),
    [
        ("sds", [{"size": 32}], "stages: start must be above 0 and below 1 here; it is None."),
        ("sds", [{"start": 1.5}], "stages: start must be above 0 and below 1 here; it is 1.5."),
        ("sds", [{"start": 0.5}, {"start": 0.4}], "stages: start must be above 0.5 and below 1 here; it is 0.4."),
        ("sds", [{"start": 0.5, "steps": 9}], "stages: steps cannot change on the way."),
        ("sds", [{"start": 0.5, "splats": {"num_init": 9}}], "stages: splats.num_init cannot change on the way."),
        ("sds", [{"start": 0.5, "csd": {"t_min": 0.1}}], "stages: --method sds does not read csd.t_min."),
        ("sds", [{"start": 0.5, "sise": 9}], "stages: unknown key 'sise'; did you mean 'size'?"),
        ("sds", [{"start": 0.5, "size": 0}], "stages: size must be above 0; it is 0."),
        ("sds", [{"start": 0.5, "num_views": 6}], "stages: num_views must be a multiple of camera.views_per_group"),
        ("vsd", [{"start": 0.5, "vsd": {"particles": 2}}], "stages: vsd.particles cannot change on the way."),
        ("vsd", [{"start": 0.5, "prior": "x"}], "stages: prior cannot change on the way, because vsd learns on it."),
        ("sds", [{"start": 0.5, "method": "sdx"}], "stages: method must be one of sds, vsd"),
        ("sds", [{"start": 0.5, "method": "vsd", "sds": {"t_min": 0.1}}], "--method vsd does not read sds.t_min."),
        (
            "sds",
            [{"start": 0.5, "method": "vsd", "vsd": {"particles": 2}}],
            "vsd must have 1 particles, as the",
        ),
        ("sds", [{"start": 0.2, "method": "vsd"}, {"start": 0.5, "vsd": {"lora_rank": 2}}], "vsd.lora_rank cannot"),
        ("sds", [{"start": 0.2, "method": "vsd"}, {"start": 0.5, "prior": "x"}], "prior cannot change on the way"),
        ("sds", 3, "stages must be a list of settings as 'key: value'; it is 3."),
        ("sds", ["size"], "stages must be a list of settings as 'key: value'; it is ['size']."),
    ],
)
def test_stages_no_run_can_have(method: Any, stages: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match="stages") as caught:
        validation.validate(settings.merge(TrainConfig(prompt="x", method=method), {"stages": stages}, where="my.yaml"))
    assert sentence in str(caught.value)


def test_one_command_runs_all_stages_in_one_folder_and_edits_an_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(
        "prior: analytic\nsize: 16\nsteps: 6\nsplats: {num_init: 40}\noutput: {frames: 2, size: 32, log_every: 1}\n"
        "stages:\n  - start: 0.5\n    size: 32\n    sds: {t_max: 0.5, t_max_final: 0.5}\n"
    )
    arguments = ["train", "--config", str(file), "--out", str(tmp_path)]
    assert cli.main([*arguments, "--prompt", "a red ball", "--name", "red"]) == cli.DONE
    assert len((tmp_path / "red" / "metrics.jsonl").read_text().splitlines()) == 6
    assert cli.main(["train", "--resume", str(tmp_path / "red"), "--steps", "8"]) == cli.DONE
    edited = ["--prompt", "a blue ball", "--init", f"ply:{tmp_path / 'red' / 'splats.ply'}", "--name", "blue"]
    assert cli.main([*arguments, *edited]) == cli.DONE
    summary = json.loads((tmp_path / "blue" / "summary.json").read_text())
    assert (summary["prompt"], summary["step"]) == ("a blue ball", 6)
    file.write_text(file.read_text().replace("size: 32\n    sds", "prior: nowhere\n    sds"))
    capsys.readouterr()
    assert cli.main([*arguments, "--prompt", "a ball", "--name", "none"]) == cli.USAGE
    assert "there is no prior or folder called 'nowhere'" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
