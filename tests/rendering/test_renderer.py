"""The renderer: colours against gsplat's harmonics, empty scenes, the probe; gsplat itself where there is a GPU."""

from __future__ import annotations

from typing import Any

import gpu_parity as parity
import pytest
import torch

from splatdistill.config.schema import CameraConfig, SplatsConfig
from splatdistill.ops.geometry import sh_basis
from splatdistill.rendering.renderer import CpuRenderer
from splatdistill.scene.cameras import turntable
from splatdistill.scene.gaussians import Splats, init_ball
from splatdistill.scene.types import RenderOutput
from tests.rounding import UNIT, assert_same, assert_within


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

    def colours() -> tuple[torch.Tensor, torch.Tensor]:
        ours = torch.einsum("ns,nsc->nc", sh_basis(direction, degree), coefficients)
        return ours, reference(degree, direction, coefficients)

    assert_same(colours)


def test_higher_harmonics_of_zero_change_nothing() -> None:
    views, white = turntable(CameraConfig(), num_frames=4, size=16), torch.ones(4, 3)
    flat, curved = scene(), scene(degree=2)
    plain = CpuRenderer().render(flat, views, background=white).rgb
    assert (CpuRenderer().render(curved, views, background=white).rgb - plain).abs().max() > 0.01
    curved.tensors["shN"] = torch.zeros_like(curved.shN)
    assert torch.equal(CpuRenderer().render(curved, views, background=white).rgb, plain)


@pytest.mark.parametrize("degree", [0, 2])
def test_normals_come_with_the_same_picture(degree: int) -> None:
    views, white = turntable(CameraConfig(), num_frames=3, size=24), torch.ones(3, 3)
    splats = scene(degree=degree)
    plain = CpuRenderer().render(splats, views, background=white)
    assert plain.normal is None
    output = CpuRenderer().render(splats, views, background=white, normals=True)
    assert output.normal is not None
    assert output.normal.shape == (3, 24, 24, 3)
    # Their colours are S harmonics here and there, S + 2 sums and products of which none is above `size`; then each of
    # the blends of both may round to a neighbour.
    size = float(0.5 + splats.sh0.abs().amax() + (splats.shN.abs().sum(1).amax() if degree else 0))
    assert_within(output.rgb, plain.rgb, 2 * ((degree + 1) ** 2 + 2 + len(splats)) * UNIT * size)
    assert torch.equal(output.depth, plain.depth)


def test_normal_of_a_disc_faces_every_camera() -> None:
    """A flat disc across the z axis has the normal +z from the front and -z from behind, weighted by alpha."""
    views = turntable(CameraConfig(), num_frames=2, size=16, elevation_deg=0.0)
    disc = Splats(
        means=torch.zeros(1, 3),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        scales=torch.tensor([[-1.0, -1.0, -5.0]]),
        opacities=torch.tensor([3.0]),
        sh0=torch.zeros(1, 1, 3),
        shN=torch.zeros(1, 0, 3),
    )
    output = CpuRenderer().render(disc, views, background=torch.zeros(2, 3), normals=True)
    assert output.normal is not None
    signs = torch.tensor([0.0, 0.0, 1.0]) * torch.tensor([1.0, -1.0])[:, None, None, None]
    # The weight of the one splat is what is left of 1, which is rounded twice.
    assert_within(output.normal, output.alpha * signs, 2 * UNIT)
    assert output.alpha.max() > 0.5


def test_background_shows_where_nothing_is() -> None:
    views = turntable(CameraConfig(), num_frames=2, size=16)
    background = torch.tensor([[0.2, 0.4, 0.6], [1.0, 0.0, 0.5]])
    empty = Splats(**{name: value[:0] for name, value in scene().tensors.items()})
    output = CpuRenderer().render(empty, views, background=background)
    assert torch.equal(output.rgb, background[:, None, None].expand(2, 16, 16, 3))
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
@pytest.mark.parametrize("size", [64, 512])
@pytest.mark.parametrize("degree", [0, 3])
@pytest.mark.parametrize("normals", [False, True])
def test_gsplat_draws_the_same_picture_with_the_same_gradients(size: int, degree: int, normals: bool) -> None:
    """At a cut at 1/255 or at 1e-4 the two may differ by one splat, so these are claims about means and shares of
    pixels, and not bounds of rounding.
    """
    pytest.importorskip("gsplat")
    result = parity.compare(parity.ball(2000, degree), size=size, normals=normals)
    of_means = 1e-4  # a fortieth of what the lowest alpha that is drawn adds to one pixel
    assert result["mean_abs"] <= of_means and result["alpha_mean_abs"] <= of_means
    assert not normals or result["normal_mean_abs"] <= of_means
    assert result["depth_mean_abs"] <= 10 * of_means  # in world units, of which the ball is some three away
    assert result["share_above_2e-3"] <= 1 - 0.999 and result["radii_equal"] >= 0.999
    errors = {name: error for name, error in result["gradient_errors"].items()}
    assert errors.keys() >= {"means", "quats", "scales", "opacities", "sh0", "probe"}
    assert {name: error for name, error in errors.items() if error > 1e-2} == {}


def test_parity_is_measured_as_no_difference_between_a_renderer_and_itself() -> None:
    result = parity.compare(scene(100, degree=1), size=24, normals=True, renderer=CpuRenderer(), device="cpu")
    assert result["mean_abs"] == result["share_above_2e-3"] == result["normal_mean_abs"] == 0.0
    assert result["radii_equal"] == 1.0
    assert set(result["gradient_errors"].values()) == {0.0}


def test_parity_measures_a_wrong_picture_and_wrong_gradients() -> None:
    class Shifted(CpuRenderer):
        def render(self, splats: Splats, *args: Any, **kwargs: Any) -> RenderOutput:
            moved = Splats(**{**splats.tensors, "means": splats.means + 0.05})
            return super().render(moved, *args, **kwargs)

    result = parity.compare(scene(100), size=24, normals=False, renderer=Shifted(), device="cpu")
    assert result["mean_abs"] > 1e-3 and result["share_above_2e-3"] > 0.1
    assert min(result["gradient_errors"].values()) > 1e-2
