"""Numbers that are not finite, wherever they come from, never reach what is learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from splatdistill import cli
from splatdistill.config.schema import SplatsConfig, TrainConfig
from splatdistill.guidance.methods.esd import ESDConfig
from splatdistill.guidance.methods.vsd import VSDConfig
from splatdistill.priors.analytic import AnalyticPrior
from splatdistill.rendering.renderer import CpuRenderer
from splatdistill.training import checkpoint
from splatdistill.training.errors import RunFailure
from splatdistill.training.nonfinite import AMONG, NonfiniteMonitor
from splatdistill.training.run_log import NoLog
from splatdistill.training.trainer import Trainer
from tests.guidance.toys import FOR_ANY_PRIOR
from tests.priors.oracles import GaussianScore
from tests.training.test_trainer import SMALL, interrupted, linear_prior, run
from tests.training.test_trainer import finished as last

SHORT = replace(SMALL, steps=20, size=16, splats=SplatsConfig(num_init=30), output=replace(SMALL.output, log_every=1))
VALUES = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


def broken(x: Tensor, value: float) -> Tensor:
    """With the first element of the first view replaced, on the graph of `x`."""
    mask = torch.zeros(x.shape)
    mask.view(-1)[0] = value
    return x + mask


class Fault:
    """Puts `value` into what a call gives while `active`."""

    def __init__(self, value: float) -> None:
        self.value, self.active = value, False

    def into(self, call: Callable[..., Any], change: Callable[[Any], Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: change(call(*args, **kwargs)) if self.active else call(*args, **kwargs)

    def prior(self, patch: pytest.MonkeyPatch) -> None:
        changed = self.into(AnalyticPrior.predict, lambda out: [broken(out[0], self.value), *out[1:]])
        patch.setattr(AnalyticPrior, "predict", changed)

    def render(self, patch: pytest.MonkeyPatch) -> None:
        changed = self.into(CpuRenderer.render, lambda out: replace(out, rgb=broken(out.rgb, self.value)))
        patch.setattr(CpuRenderer, "render", changed)

    def learning(self, patch: pytest.MonkeyPatch) -> None:
        """The loss of the variational score alone."""
        forward = GaussianScore.forward

        def changed(*args: Any) -> Tensor:
            out = forward(*args)
            return broken(out, self.value) if self.active and torch.is_grad_enabled() else out

        patch.setattr(GaussianScore, "forward", changed)


def config_of(method: Any) -> TrainConfig:
    return replace(SHORT, method=method, vsd=VSDConfig(lora_lr=1e-2), esd=ESDConfig(lora_lr=1e-2))


def state(trainer: Trainer) -> dict[str, Tensor]:
    """What is learned, with its moments and counts."""
    tensors = {f"{i}.{k}": v for i, p in enumerate(trainer.particles) for k, v in p.state_dict().items()}
    tensors |= {f"guidance.{k}": v for k, v in trainer.guidance.state_dict().items()}
    tensors["count"] = trainer.particles[0].optimizer.num_updates
    return {name: value.clone() for name, value in tensors.items() if "densify." not in name}


def changed(a: dict[str, Tensor], b: dict[str, Tensor]) -> set[str]:
    return {name.split(".")[0] for name in a if not torch.equal(a[name], b[name])}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("where", ["prior", "render"])
@pytest.mark.parametrize("method", FOR_ANY_PRIOR)
def test_a_bad_step_changes_nothing(method: str, where: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault(VALUES[value])
    getattr(fault, where)(monkeypatch)
    trainer = Trainer(config_of(method), prior=linear_prior(), device=torch.device("cpu"))
    trainer.advance(NoLog())  # type: ignore[arg-type]
    before = state(trainer)
    fault.active = True
    numbers = trainer.advance(NoLog())  # type: ignore[arg-type]
    fault.active = False
    assert numbers["skipped"] == numbers["skipped_in_a_row"] == 1
    # The second score learns from renders: it is spared where those are bad, and goes on where only the prior is.
    assert changed(before, state(trainer)) <= ({"guidance"} if where == "prior" else set())
    trainer.advance(NoLog())  # type: ignore[arg-type]
    after = state(trainer)
    assert "0" in changed(before, after) and after["count"] == 2
    assert all(torch.isfinite(x).all() for x in after.values())


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("method", ["vsd", "esd"])
def test_a_bad_loss_of_the_second_score_teaches_it_nothing(
    method: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault(VALUES[value])
    fault.learning(monkeypatch)
    trainer = Trainer(config_of(method), prior=linear_prior(), device=torch.device("cpu"))
    trainer.advance(NoLog())  # type: ignore[arg-type]
    before = state(trainer)
    fault.active = True
    assert trainer.advance(NoLog())["skipped"] == 1  # type: ignore[arg-type]
    assert changed(before, state(trainer)) == {"0", "count"}
    fault.active = False
    trainer.advance(NoLog())  # type: ignore[arg-type]
    assert "guidance" in changed(before, state(trainer))
    assert all(torch.isfinite(x).all() for x in state(trainer).values())


def test_a_run_with_bad_steps_resumes_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Across densify: Adam's count must be that of the steps that were taken."""
    embed = AnalyticPrior.predict
    steps = []

    def sometimes(self: AnalyticPrior, xt: Tensor, *args: Any) -> list[Tensor]:
        out = embed(self, xt, *args)
        return [broken(x, VALUES["nan"]) for x in out] if trainer_step() in (2, 7) else out

    def trainer_step() -> int:
        return steps[-1].step

    init = Trainer.__init__

    def noted(self: Trainer, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        advance = self.advance
        self.advance = lambda log: (steps.append(self), advance(log))[1]  # type: ignore[method-assign]

    monkeypatch.setattr(AnalyticPrior, "predict", sometimes)
    monkeypatch.setattr(Trainer, "__init__", noted)
    config = replace(config_of("vsd"), steps=12, densify=replace(SMALL.densify, start=0.4, interval=2, max_splats=50))
    whole = last(Trainer(config, prior=linear_prior(), device=torch.device("cpu")))
    parts = interrupted(config, prior=linear_prior, at=6)
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_five_bad_steps_in_a_row_end_the_run_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = Fault(VALUES["nan"])
    fault.prior(monkeypatch)
    fault.active = True
    config = replace(SHORT, output=replace(SHORT.output, log_every=2))
    with pytest.raises(RunFailure, match=r"^steps: 6 steps in a row up to step 6 had numbers that are not finite"):
        run(tmp_path / "run", config)
    assert checkpoint.load(tmp_path / "run" / "checkpoints")[1]["step"] == 6
    command = ["train", "--config", "smoke", "--prompt", "a ball", "--steps", "20", "--splats.num-init", "30"]
    assert cli.main([*command, "--size", "16", "--out", str(tmp_path), "--name", "again"]) == cli.FAILED
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("splatdistill: steps: 10 steps in a row up to step 10") and said.endswith("learning rates.")


def test_one_percent_of_a_thousand_steps_is_too_much_and_less_is_not() -> None:
    health = NonfiniteMonitor(torch.device("cpu"))
    verdicts = []
    for step in range(2 * AMONG):
        bad = step % 100 == 7 if step < AMONG else step % 112 == 7
        health.note(torch.tensor(bad), step=step)
        numbers = {name: float(value) for name, value in health.counts.items()}
        verdicts.append(health.verdict(numbers, step=step + 1))
    ended = [step for step, verdict in enumerate(verdicts) if verdict is not None]
    assert ended == list(range(907, AMONG))
    assert "10 of 1000 steps up to step 908" in str(verdicts[907])
