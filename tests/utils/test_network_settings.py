"""cuDNN's and TF32's switches around networks. They are switches of the process, which exist without CUDA too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from splatdistill.config.schema import TrainConfig
from splatdistill.priors import load
from splatdistill.training.run_log import NoLog
from splatdistill.training.trainer import Trainer
from splatdistill.utils.device import for_networks, network_settings

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
backends: Any = torch.backends
SWITCHES: dict[str, Callable[[], object]] = {
    "benchmark": lambda: backends.cudnn.benchmark,
    "convolutions": lambda: backends.cudnn.allow_tf32,
    "products": torch.get_float32_matmul_precision,
    "products, newer": lambda: backends.cuda.matmul.fp32_precision,
    "products on a CPU, newer": lambda: backends.mkldnn.matmul.fp32_precision,
    "convolutions, newer": lambda: backends.cudnn.conv.fp32_precision,
}


def state() -> dict[str, object]:
    return {name: read() for name, read in SWITCHES.items()}


def in_force() -> tuple[bool, bool, bool]:
    """cuDNN may time its algorithms; convolutions and products may round to TF32."""
    products = backends.cuda.matmul.allow_tf32
    assert products == (torch.get_float32_matmul_precision() == "high")
    return backends.cudnn.benchmark, backends.cudnn.allow_tf32, products


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    before = state()
    yield
    backends.cudnn.benchmark, backends.cudnn.allow_tf32 = before["benchmark"], before["convolutions"]
    torch.set_float32_matmul_precision(str(before["products"]))
    backends.cuda.matmul.fp32_precision = before["products, newer"]
    backends.mkldnn.matmul.fp32_precision = before["products on a CPU, newer"]
    assert state() == before


def nothing() -> None: ...


def allow_products() -> None:
    backends.cuda.matmul.allow_tf32 = True


def exact() -> None:
    backends.cudnn.allow_tf32 = False


def coarse() -> None:
    torch.set_float32_matmul_precision("medium")
    backends.cudnn.benchmark = True


@pytest.mark.parametrize("prepare", [nothing, allow_products, exact, coarse])
@pytest.mark.parametrize(("dtype", "tf32"), [("bf16", True), ("fp32", False)])
def test_they_are_set_inside_and_put_back_also_after_an_exception(
    prepare: Callable[[], None], dtype: str, tf32: bool
) -> None:
    prepare()
    before = state()
    with for_networks(CUDA, dtype=dtype):
        assert in_force() == (True, tf32, tf32)
    assert state() == before
    with pytest.raises(KeyError), for_networks(CUDA, dtype=dtype):
        raise KeyError
    assert state() == before
    with for_networks(CUDA, dtype="bf16"):
        with for_networks(CUDA, dtype=dtype):
            assert in_force() == (True, tf32, tf32)
        assert in_force() == (True, True, True)
    assert state() == before


def test_on_a_cpu_nothing_changes() -> None:
    before = state()
    with for_networks(CPU, dtype="bf16"):
        assert state() == before
    assert network_settings(CPU, dtype="bf16") == {}


def test_tf32_stays_as_the_newer_switches_of_the_process_have_it() -> None:
    """torch refuses to read the older ones then, so what is set could not be put back."""
    assert network_settings(CUDA, dtype="bf16") == {"cudnn_benchmark": True, "tf32": True}
    before = backends.cuda.matmul.fp32_precision
    backends.cuda.matmul.fp32_precision = "tf32"
    try:
        assert network_settings(CUDA, dtype="fp32") == {"cudnn_benchmark": True}
        with for_networks(CUDA, dtype="fp32"):
            assert backends.cudnn.benchmark and backends.cuda.matmul.fp32_precision == "tf32"
        assert not backends.cudnn.benchmark and backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        backends.cuda.matmul.fp32_precision = before


class Recording:
    """A prior that notes which switches are on while it computes, forward and backward."""

    def __init__(self, prior: Any, seen: dict[str, set[tuple[bool, bool, bool]]]) -> None:
        self._prior, self._seen = prior, seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    def note(self, part: str) -> None:
        self._seen.setdefault(part, set()).add(in_force())

    def encode(self, rgb: Tensor) -> Tensor:
        self.note("encode")
        rgb.register_hook(lambda grad: self.note("backward"))
        return self._prior.encode(rgb)

    def predict(self, xt: Tensor, t: Tensor, conditions: Sequence[Any]) -> list[Tensor]:
        self.note("predict")
        return self._prior.predict(xt, t, conditions)

    def particle_score(self, **settings: Any) -> Any:
        return RecordingScore(self._prior.particle_score(**settings), self)


class RecordingScore:
    def __init__(self, score: Any, prior: Recording) -> None:
        self._score, self._prior = score, prior
        self.state_dict, self.load_state_dict = score.state_dict, score.load_state_dict

    def predict(self, *asked: Any) -> list[Tensor]:
        self._prior.note("second score")
        return self._score.predict(*asked)

    def update(self, *asked: Any, **settings: Any) -> dict[str, Tensor]:
        self._prior.note("learning")
        return self._score.update(*asked, **settings)


def test_in_a_step_they_are_on_for_networks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[tuple[bool, bool, bool]]] = {}
    config = TrainConfig(prompt="a red ball", method="vsd", prior="analytic", device="cpu", size=16)
    config = replace(config, splats=replace(config.splats, num_init=50))
    prior: Any = Recording(load("analytic", device=CPU, dtype="fp32"), seen)
    trainer = Trainer(config, prior=prior, device=CPU)
    trainer.prior.stopwatch.device = CUDA  # its clock stays that of a CPU
    trainer.prior.dtype = "bf16"
    draw: Any = trainer.renderer.render

    def render(*asked: Any, **settings: Any) -> Any:
        prior.note("render")
        output = draw(*asked, **settings)
        output.rgb.register_hook(lambda grad: prior.note("render"))
        return output

    monkeypatch.setattr(trainer.renderer, "render", render)
    before = state()
    trainer.advance(NoLog())
    assert state() == before
    outside, inside = {in_force()}, {(True, True, True)}
    assert seen.pop("render") == outside != inside
    assert seen == dict.fromkeys(("encode", "predict", "second score", "backward", "learning"), inside)
