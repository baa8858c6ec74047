"""How gsplat is called, against its real signature and the picture of our own rasteriser; which renderer is taken."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from splatdistill.config.schema import CameraConfig
from splatdistill.ops.geometry import SH_C0
from splatdistill.priors import load
from splatdistill.rendering import renderer
from splatdistill.rendering.renderer import CpuRenderer, GsplatRenderer, make_renderer
from splatdistill.scene.cameras import turntable
from splatdistill.scene.types import RenderOutput
from splatdistill.training.run_log import NoLog
from splatdistill.training.trainer import Trainer
from tests.rendering.test_renderer import scene
from tests.rounding import FACTOR, UNIT, assert_within
from tests.training.test_trainer import SMALL

gsplat = pytest.importorskip("gsplat")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(params=["installed", "main branch"])
def _fake(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """By the signature of the gsplat that is installed, and by that of the next one."""
    from tests import fake_gsplat, gsplat_main

    if request.param == "main branch":
        monkeypatch.setattr(fake_gsplat, "SIGNATURE", gsplat_main.SIGNATURE)
    monkeypatch.setattr(gsplat, "rasterization", fake_gsplat.rasterization)


def drawn(
    by: Any, *, degree: int, normals: bool, seed: int | None = None
) -> tuple[RenderOutput, dict[str, torch.Tensor]]:
    """A picture, and the gradients of the splats and of their projections for a random loss of all that is drawn. seed:
    of how the colours are rounded twice more.
    """
    views = turntable(CameraConfig(), num_frames=3, size=24)
    splats = scene(degree=degree)
    if seed is not None:
        side = 2 * torch.rand(splats.sh0.shape, generator=torch.Generator().manual_seed(seed)) - 1
        splats.tensors["sh0"] += 2 * UNIT * side * (0.5 + SH_C0 * splats.sh0.abs()) / SH_C0
    splats = splats.requires_grad_()
    g = torch.Generator().manual_seed(5)
    output = by.render(splats, views, background=torch.rand(3, 3, generator=g), normals=normals)
    parts = [x for x in (output.rgb, output.alpha, output.depth, output.normal) if x is not None]
    torch.stack([(x * torch.rand(x.shape, generator=g)).sum() for x in parts]).sum().backward()
    grads = {name: value.grad for name, value in splats.tensors.items() if value.grad is not None}
    assert output.probe.grad is not None
    return output, {**grads, "probe": output.probe.grad}


@pytest.mark.usefixtures("_fake")
@pytest.mark.parametrize("normals", [False, True])
@pytest.mark.parametrize("degree", [0, 2])
def test_gsplat_is_called_so_that_it_draws_our_picture(degree: int, normals: bool) -> None:
    (ours, our_grads), (theirs, their_grads) = (
        drawn(by, degree=degree, normals=normals) for by in (CpuRenderer(), GsplatRenderer())
    )
    # Colours of degree 0 are rounded once more on their way to gsplat, after the product and after the sum, and so each
    # of the blends that follow may round to a neighbour.
    same = bool(degree or normals)
    splats = scene(degree=degree)
    rounding = UNIT * float(0.5 + SH_C0 * splats.sh0.abs().max())
    assert_within(ours.rgb, theirs.rgb, 0 if same else 2 * (len(splats) + 1) * rounding)
    for name in ("alpha", "depth", "means2d", "radii"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert (theirs.normal is not None) == normals
    if normals:
        assert torch.equal(ours.normal, theirs.normal)  # type: ignore[arg-type]
    assert our_grads.keys() == their_grads.keys() > {"means", "quats", "scales", "opacities", "sh0"}
    seeds = [] if same else range(4)
    others = [drawn(CpuRenderer(), degree=degree, normals=normals, seed=seed)[1] for seed in seeds]
    for name, grad in our_grads.items():
        # Backwards, the product with SH_C0 comes before or after the sum over three views.
        product = 0 if same else 2 * (3 + 1) * UNIT * grad.abs().max()
        allowed = max((FACTOR * (x[name] - grad).abs().max() for x in others), default=0)
        assert_within(their_grads[name], grad, allowed + product)


@pytest.mark.usefixtures("_fake")
@pytest.mark.parametrize("degree", [0, 1])
def test_gsplat_gets_harmonics_only_where_colours_depend_on_the_view(
    degree: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It inverts the cameras to evaluate them, and waits for that before anything else is queued."""
    asked: list[tuple[int | None, tuple[int, ...]]] = []
    fake = gsplat.rasterization

    def noted(*args: Any, **kwargs: Any) -> Any:
        asked.append((kwargs["sh_degree"], tuple(args[4].shape)))
        return fake(*args, **kwargs)

    monkeypatch.setattr(gsplat, "rasterization", noted)
    splats, views = scene(degree=degree), turntable(CameraConfig(), num_frames=2, size=16)
    GsplatRenderer().render(splats, views, background=torch.ones(2, 3))
    n = len(splats)
    assert asked == [(None, (n, 3)) if degree == 0 else (1, (n, 4, 3))]


@pytest.mark.usefixtures("_fake")
def test_gsplat_draws_previews_without_a_graph() -> None:
    views, splats = turntable(CameraConfig(), num_frames=2, size=16), scene().requires_grad_()
    with torch.no_grad():
        output = GsplatRenderer().render(splats, views, background=torch.ones(2, 3))
    assert not output.rgb.requires_grad and not output.probe.requires_grad


def test_the_fixed_rules_are_gsplats_own_defaults() -> None:
    from tests.fake_gsplat import SIGNATURE

    defaults = {name: parameter.default for name, parameter in SIGNATURE.parameters.items()}
    ours = {"near_plane": renderer.NEAR, "far_plane": renderer.FAR, "eps2d": renderer.EPS2D}
    assert {name: defaults[name] for name in ours} == ours
    assert defaults["radius_clip"] == 0.0 and defaults["rasterize_mode"] == "classic"


@pytest.mark.usefixtures("_fake")
def test_a_run_through_gsplat_is_the_run_through_ours() -> None:
    """Densify reads the gradients that gsplat leaves on its own tensor, so both runs grow alike."""
    config = replace(SMALL, steps=20)
    prior = load("analytic", device=CPU, dtype="auto")
    ours, theirs = (Trainer(config, prior=prior, device=CPU) for _ in range(2))
    theirs.renderer = GsplatRenderer()
    for _ in range(12):  # past an event
        for trainer in (ours, theirs):
            trainer.advance(NoLog())  # type: ignore[arg-type]
    assert len(ours.splats) == len(theirs.splats) > SMALL.splats.num_init
    # Pictures, not splats: Adam makes whole steps of rounding errors, such as the gradients of round splats' turns.
    views, white = turntable(config.camera, num_frames=4, size=32), torch.ones(4, 3)
    pictures = [CpuRenderer().render(trainer.splats, views, background=white).rgb for trainer in (ours, theirs)]
    # A claim about the run: a tenth of what it has drawn so far is more than a different event would leave alike.
    assert (pictures[0] - pictures[1]).abs().mean() <= 1e-3
    assert (pictures[0] - 1).abs().mean() > 0.01


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """gsplat's compiled half, stood in for; where it would be built is an empty folder."""
    module = ModuleType("gsplat.cuda._backend")
    module._C = object()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", module)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    renderer.load_gsplat.cache_clear()
    yield module
    renderer.load_gsplat.cache_clear()


@pytest.mark.usefixtures("backend")
def test_the_device_chooses_the_renderer_and_a_name_overrules_it() -> None:
    assert isinstance(make_renderer(CPU), CpuRenderer)
    assert isinstance(make_renderer(CUDA), GsplatRenderer)
    assert isinstance(make_renderer(CUDA, "cpu"), CpuRenderer)
    assert isinstance(make_renderer(CUDA, "gsplat"), GsplatRenderer)


def test_gsplat_on_a_cpu_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"^renderer: gsplat draws on CUDA devices only.*--renderer cpu\.$"):
        make_renderer(CPU, "gsplat")


@pytest.mark.parametrize("name", ["auto", "gsplat"])
def test_a_missing_gsplat_is_named_with_its_extra(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^renderer: gsplat is not installed; install splatdistill\[gsplat\]"):
        make_renderer(CUDA, name)


def test_gsplat_without_nvcc_is_refused_in_one_sentence(backend: Any) -> None:
    """It sets its kernels to None then, and fails with an AttributeError at the first picture."""
    backend._C = None
    with pytest.raises(ValueError, match=r"^renderer: gsplat came without compiled .* no nvcc .*--renderer cpu\.$"):
        make_renderer(CUDA)


def test_kernels_of_gsplat_that_do_not_load_are_told_in_one_sentence(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(backend, "_C")
    with pytest.raises(ValueError, match=r"^renderer: gsplat's CUDA kernels do not load \(.*\); .*cpu does without\.$"):
        make_renderer(CUDA)


@pytest.mark.usefixtures("backend")
def test_a_compile_is_announced_once_and_one_that_is_there_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        make_renderer(CUDA)
    assert capsys.readouterr().err.count("gsplat compiles its CUDA kernels now, once on this machine") == 1
    (tmp_path / "gsplat_cuda" / "gsplat_cuda.so").touch()
    renderer.load_gsplat.cache_clear()
    make_renderer(CUDA)
    assert capsys.readouterr().err == ""


def test_processes_that_need_the_kernels_at_once_take_turns(
    tmp_path: Path, backend: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gsplat removes what is being built, so nobody imports it before the lock is his."""
    asked = []

    def flock(file: Any, how: int) -> None:
        asked.append((Path(file.name), how))
        monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", backend)

    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", None)  # an import fails
    monkeypatch.setattr(fcntl, "flock", flock)
    assert isinstance(make_renderer(CUDA), GsplatRenderer)
    assert asked == [(tmp_path / "gsplat_cuda.splatdistill_lock", fcntl.LOCK_EX)]
