"""The renderer: colours against gsplat's harmonics, empty scenes, the probe; gsplat itself where there is a GPU."""

from __future__ import annotations

import pytest
import torch

from splatdistill.cameras import turntable
from splatdistill.config import CameraConfig, SplatsConfig
from splatdistill.renderer import CpuRenderer, GsplatRenderer, colors, sh_basis
from splatdistill.splats import Splats, init_ball


def scene(n: int = 100, *, degree: int = 0, seed: int = 0) -> Splats:
    splats = init_ball(SplatsConfig(num_init=n, sh_degree=degree, opacity=0.5), seed=seed)
    g = torch.Generator().manual_seed(seed)
    splats.tensors["sh0"] = torch.randn(n, 1, 3, generator=g)
    splats.tensors["shN"] = 0.3 * torch.randn(splats.shN.shape, generator=g)
    return splats


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_harmonics_equal_gsplats(degree: int) -> None:
    reference = pytest.importorskip("gsplat.cuda._torch_impl")._spherical_harmonics
    g = torch.Generator().manual_seed(degree)
    direction = torch.nn.functional.normalize(torch.randn(50, 3, generator=g), dim=-1)
    coefficients = torch.randn(50, (degree + 1) ** 2, 3, generator=g)
    ours = torch.einsum("ns,nsc->nc", sh_basis(direction, degree), coefficients)
    assert torch.allclose(ours, reference(degree, direction, coefficients), atol=1e-5)


def test_colours_are_view_dependent_only_with_harmonics() -> None:
    views = turntable(CameraConfig(), num_frames=4, size=16)
    assert colors(scene(), views).shape == (100, 3)
    assert colors(scene(degree=2), views).shape == (4, 100, 3)
    flat = scene(degree=2)
    flat.tensors["shN"] = torch.zeros_like(flat.shN)
    assert torch.allclose(colors(flat, views), colors(scene(), views).expand(4, 100, 3), atol=1e-6)


def test_background_shows_where_nothing_is() -> None:
    views = turntable(CameraConfig(), num_frames=2, size=16)
    background = torch.tensor([[0.2, 0.4, 0.6], [1.0, 0.0, 0.5]])
    empty = Splats(**{name: value[:0] for name, value in scene().tensors.items()})
    output = CpuRenderer().render(empty, views, background=background)
    assert torch.allclose(output.rgb, background[:, None, None].expand(2, 16, 16, 3))
    assert output.alpha.eq(0).all()


def test_probe_gradient_is_the_screen_space_gradient() -> None:
    """It is there for every splat that is seen, and 0 for the others."""
    views = turntable(CameraConfig(), num_frames=3, size=24)
    splats = scene().requires_grad_()
    output = CpuRenderer().render(splats, views, background=torch.ones(3, 3))
    weight = torch.rand(output.rgb.shape, generator=torch.Generator().manual_seed(0))
    (output.rgb * weight).sum().backward()
    assert output.probe.grad is not None
    assert output.probe.grad.shape == (3, 100, 2)
    assert output.probe.grad.abs().sum() > 0
    assert output.probe.grad[~(output.radii > 0).all(-1)].eq(0).all()


@pytest.mark.gpu
def test_gsplat_draws_the_same_picture() -> None:
    views = turntable(CameraConfig(), num_frames=4, size=64)
    splats = scene(2000, degree=1)
    ours = CpuRenderer().render(splats, views, background=torch.ones(4, 3))
    theirs = GsplatRenderer().render(splats.to("cuda"), views, background=torch.ones(4, 3))
    difference = (ours.rgb - theirs.rgb.cpu()).abs()
    assert difference.mean() <= 1e-4
    assert (difference.amax(-1) > 2e-3).float().mean() <= 1e-3
