"""Scenes for the rasteriser's tests."""

from __future__ import annotations

import ctypes
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.cpp_extension import include_paths, library_paths

from splatdistill.ops import RasterInputs, RasterSettings
from tests.ops import cuda_checks
from tests.packaging.audit import ROOT

sys.path.insert(0, str(ROOT / "csrc" / "cuda" / "check"))
import build

Scene = dict[str, Any]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def look_at_origin(azimuth: float, elevation: float, radius: float) -> Tensor:
    """[4,4] world to camera, OpenCV axes."""
    position = radius * torch.tensor(
        [math.cos(elevation) * math.sin(azimuth), math.sin(elevation), math.cos(elevation) * math.cos(azimuth)]
    )
    forward = -position / position.norm()
    right = torch.linalg.cross(forward, torch.tensor([0.0, 1.0, 0.0]))
    right = right / right.norm()
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
    viewmat = torch.eye(4)
    viewmat[:3, :3] = rotation
    viewmat[:3, 3] = -rotation @ position
    return viewmat


def build_scene(
    num_splats: int,
    *,
    num_views: int = 2,
    width: int = 32,
    height: int = 32,
    scale: float = 0.06,
    opacity: tuple[float, float] = (0.05, 0.95),
    radius: float = 2.5,
    per_view_colors: bool = False,
    channels: int = 3,
    sh_degree: int | None = None,
    seed: int = 0,
) -> Scene:
    """Fields of `RasterInputs` and `RasterSettings`: a ball of splats of radius 0.5, seen from around it."""
    g = torch.Generator().manual_seed(seed)
    direction = torch.randn(num_splats, 3, generator=g)
    means = direction / direction.norm(dim=1, keepdim=True) * torch.rand(num_splats, 1, generator=g) ** (1 / 3) * 0.5
    color_shape = (num_views, num_splats, channels) if per_view_colors else (num_splats, channels)
    focal = 0.5 * width / math.tan(math.radians(22.5))
    K = torch.tensor([[focal, 0.0, width / 2], [0.0, 1.1 * focal, height / 2 - 0.7], [0.0, 0.0, 1.0]])
    low, high = opacity
    scene = {
        "means": means,
        "quats": 1.5 * torch.randn(num_splats, 4, generator=g),
        "scales": scale * torch.exp(0.5 * torch.randn(num_splats, 3, generator=g)),
        "opacities": low + (high - low) * torch.rand(num_splats, generator=g),
        "colors": torch.rand(color_shape, generator=g),
        "viewmats": torch.stack([look_at_origin(2.1 * v + 0.3, 0.26, radius) for v in range(num_views)]),
        "Ks": K.repeat(num_views, 1, 1),
        "width": width,
        "height": height,
        "background": torch.rand(num_views, channels, generator=g),
        "means2d_offset": torch.zeros(num_views, num_splats, 2),
    }
    if sh_degree is not None:
        scene["sh_degree"] = sh_degree
        scene["colors"] = torch.randn(num_splats, 16, 3, generator=g) * 0.4  # some are cut at 0
    return scene


def arguments(scene: Scene) -> tuple[RasterInputs, RasterSettings]:
    """What `rasterize` takes of the fields by name."""
    inputs = RasterInputs(**{name: value for name, value in scene.items() if name in RasterInputs._fields})
    return inputs, RasterSettings(**{name: value for name, value in scene.items() if name in RasterSettings._fields})


@pytest.fixture
def make_scene() -> Callable[..., Scene]:
    return build_scene


@pytest.fixture(scope="session")
def cuda_host(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The CUDA kernels and their bindings as loops, in the library `splatdistill_cuda_host` of operators."""
    built = tmp_path_factory.mktemp("cuda_host") / "cuda_host.so"
    bindings = [ROOT / "csrc" / "bind" / f"{path.stem}.cpp" for path in build.KERNELS]
    sources = [ROOT / "tests" / "ops" / "cuda_host.cpp", build.HERE / "host.cpp", *build.KERNELS, *bindings]
    command = [os.environ.get("CXX", "c++"), "-std=c++17", "-O1", "-ffp-contract=off", "-fno-math-errno"]
    command += ["-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", "-DSD_CUDA_ON_HOST"]
    if "asan" in os.environ.get("LD_PRELOAD", ""):  # make sanitize
        command += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g1"]
    command += ["-DTORCH_TARGET_VERSION=0x020b000000000000", "-DTORCH_STABLE_ONLY"]
    command += [f"-isystem{path}" for path in include_paths()] + [f"-L{path}" for path in library_paths()]
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command += ["-x", "c++", *(str(path) for path in sources), "-o", str(built), "-lc10", "-ltorch_cpu"]
    subprocess.run(command, check=True, env=environment)
    torch.ops.load_library(str(built))
    return ctypes.CDLL(str(built))


@pytest.fixture(params=["in order", "reversed"])
def host_twin(cuda_host: ctypes.CDLL, request: pytest.FixtureRequest) -> Iterator[cuda_checks.Twin]:
    """The CUDA operators on a host, blocks and threads in one order and in the other."""
    cuda_host.sd_reverse(request.param == "reversed")
    yield cuda_checks.Twin(torch.ops.splatdistill_cuda_host, "cpu")
    cuda_host.sd_reverse(0)
