"""Between log, densify and save steps nothing waits for the device: the loop, on a device that is not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import optimizer

from splatdistill import ops
from splatdistill.config.schema import CameraConfig, LightConfig, OutputConfig, RegularizeConfig, TrainConfig
from splatdistill.ops import Raster, RasterInputs, RasterSettings
from splatdistill.priors import load
from splatdistill.rendering.renderer import CpuRenderer, GsplatRenderer
from splatdistill.scene.cameras import turntable
from splatdistill.training.run_log import NoLog
from splatdistill.training.trainer import Trainer
from splatdistill.utils.device import AsyncScalars, send
from tests.guidance.toys import FOR_ANY_PRIOR
from tests.pretend import DEVICE, There, Watch
from tests.rendering.test_renderer import scene
from tests.training.test_trainer import SMALL, unet_prior

gsplat = pytest.importorskip("gsplat")


class Here(torch.autograd.Function):
    """A tensor of the device as one of the CPU, its gradient back: what gsplat does inside does not count."""

    @staticmethod
    def forward(ctx: Any, x: There) -> Tensor:
        return x.here.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return There(grads[0])


class Away(torch.autograd.Function):
    """The other way round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return There(x.clone())

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0].here


def draw(inputs: RasterInputs, settings: RasterSettings) -> Raster:
    here = RasterInputs(*(Here.apply(x) if isinstance(x, There) else x for x in inputs))  # type: ignore[arg-type]
    drawn = ops.rasterize(here, settings)
    return Raster(*(Away.apply(x) for x in drawn))  # type: ignore[arg-type]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    from tests import fake_gsplat

    monkeypatch.setattr(fake_gsplat, "draw", draw)
    monkeypatch.setattr(gsplat, "rasterization", fake_gsplat.rasterization)
    monkeypatch.setattr(Tensor, "pin_memory", lambda x: x)
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: ["cpu", DEVICE.type])
    monkeypatch.setattr(torch, "autocast", lambda *args, **settings: nullcontext())  # it knows no such device
    with sdpa_kernel(SDPBackend.MATH), Watch() as watch:
        yield watch


def trainer_there(config: TrainConfig, watch: Watch) -> Trainer:
    with watch.allowed():
        prior = unet_prior()
        prior.unet.to(DEVICE)
        prior.text_encoder.to(DEVICE)
        prior.volume.to(DEVICE)
        prior.device, prior.alphas_cumprod = DEVICE, prior.alphas_cumprod.to(DEVICE)
        trainer = Trainer(config, prior=prior, device=DEVICE)
        trainer.renderer = GsplatRenderer()
        trainer.advance(NoLog())  # type: ignore[arg-type]  # texts are encoded once
    return trainer


VARIANTS: dict[str, dict[str, Any]] = {
    "perp_neg": {"sds": replace(SMALL.sds, perp_neg=True, guidance_scale=7.5)},
    "rescale": {"sds": replace(SMALL.sds, rescale=0.5, guidance_scale=7.5, clamp=(1.0, 0.1))},
    "regularized": {"regularize": RegularizeConfig(opacity=1.0, sparsity=1.0, scale=1.0)},
    "harmonics": {"splats": replace(SMALL.splats, sh_degree=2)},
    "light": {"light": LightConfig(start=0.0, albedo=0.0)},
}


@pytest.mark.parametrize("name", [*FOR_ANY_PRIOR, *VARIANTS])
def test_a_step_waits_for_nothing(name: str, watch: Watch) -> None:
    change = VARIANTS.get(name, {"method": name})
    quiet = replace(SMALL, size=16, output=OutputConfig(log_every=100), densify=replace(SMALL.densify, start=0.9))
    trainer = trainer_there(replace(quiet, **change), watch)
    assert isinstance(trainer.splats.means.data, There)
    before = trainer.splats.sh0.detach().clone()
    for _ in range(2):
        trainer.advance(NoLog())  # type: ignore[arg-type]
    assert watch.waits == []
    with watch.allowed():
        assert not torch.equal(before, trainer.splats.sh0)


@pytest.mark.parametrize("name", ["sds", "vsd"])
def test_a_log_step_waits_for_its_own_numbers_alone(name: Any, watch: Watch) -> None:
    """They travel by a copy that blocks nothing; `AsyncScalars.read` is what waits, once they have arrived."""
    quiet = replace(SMALL, method=name, size=16, output=OutputConfig(log_every=1))
    trainer = trainer_there(replace(quiet, densify=replace(SMALL.densify, start=0.9)), watch)
    numbers = trainer.advance(NoLog())  # type: ignore[arg-type]
    assert watch.waits == []
    assert {"grad_norm", "nonfinite", "num_splats", "network_share"} <= numbers.keys()
    assert ("lora_loss" in numbers) == (name == "vsd")
    assert all(isinstance(value, float | int) for value in numbers.values())


@pytest.mark.gpu
def test_on_cuda_a_step_waits_for_nothing_but_gsplat() -> None:
    device = torch.device("cuda")
    config = replace(
        SMALL,
        prior="embedded",
        prompt="a red lamp",
        output=OutputConfig(log_every=100),
        densify=replace(SMALL.densify, start=0.9),
    )
    trainer = Trainer(config, prior=load("embedded", device=device, dtype="auto"), device=device)
    render = trainer.renderer.render

    def unwatched(*args: Any, **kwargs: Any) -> Any:
        torch.cuda.set_sync_debug_mode("default")
        try:
            return render(*args, **kwargs)
        finally:
            torch.cuda.set_sync_debug_mode("error")

    trainer.advance(NoLog())  # type: ignore[arg-type]
    trainer.renderer.render = unwatched  # type: ignore[method-assign]
    torch.cuda.set_sync_debug_mode("error")  # a wait raises
    try:
        for _ in range(3):
            trainer.advance(NoLog())  # type: ignore[arg-type]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.step == 4


def test_our_rasteriser_draws_splats_of_another_device(watch: Watch) -> None:
    """--renderer cpu on CUDA: there and back, which waits, with the gradients that a CPU gives."""
    views, white = turntable(CameraConfig(), num_frames=2, size=16), torch.ones(2, 3)
    grads = []
    with watch.allowed():
        for device in (torch.device("cpu"), DEVICE):
            splats = scene(degree=1).to(device).requires_grad_()
            output = CpuRenderer().render(splats, views, background=white.to(device), normals=True)
            assert {x.device for x in vars(output).values()} == {device}
            output.rgb.square().sum().backward()
            grads.append([x.cpu() for x in (output.probe.grad, *(value.grad for value in splats.tensors.values()))])  # type: ignore[union-attr]
    for here, there in zip(*grads, strict=True):
        assert torch.equal(here, there)


WAITS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "truth": lambda x: bool((x > 0).any()),
    "nonzero": lambda x: torch.nonzero(x),
    "mask": lambda x: x[x > 0],
    "to the CPU": lambda x: x.cpu(),
    "from the CPU": lambda x: torch.ones(3).to(DEVICE),
    "solve": lambda x: torch.linalg.inv(x[:, None] * x + x.diag()),
}


@pytest.mark.parametrize("name", WAITS)
def test_planted_waits_are_found(name: str, watch: Watch) -> None:
    with watch.allowed():
        x = torch.rand(3).to(DEVICE)
    WAITS[name](x)
    assert watch.waits and "test_no_waiting.py" in watch.waits[0]


REFUSED: dict[str, Callable[[Tensor], object]] = {
    "a tensor of the CPU": lambda x: x + torch.rand(3),
    "a number made a tensor": lambda x: x + torch.as_tensor(1.0, device=DEVICE),
    "an index of the CPU": lambda x: x[torch.tensor([0, 1])],
    "a list": lambda x: x.tolist(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_device_would_refuse_or_hide_stops_the_loop(name: str, watch: Watch) -> None:
    x = send(torch.rand(3), DEVICE)
    with pytest.raises((AssertionError, RuntimeError)):
        REFUSED[name](x)


def test_what_does_not_wait_is_not_found(watch: Watch) -> None:
    x = send(torch.rand(3), DEVICE)
    y = (2 * x).clamp(min=0.5) + x.new_full((3,), 1.0)
    AsyncScalars({"sum": y.sum()})
    assert watch.waits == []
