"""The CUDA kernels on the host: the shipped sources, run block after block, against the CPU operators.

Wrong indices, sizes, workspaces and arithmetic show here; under `make sanitize` so does every access out of bounds.
Blocks and threads run in one order and in the other, with equal results. Races show on a GPU alone: test_cuda.py.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.cpp_extension import include_paths, library_paths

from splatdistill.ops import densify
from tests.ops import cuda_checks as checks

pytestmark = pytest.mark.xdist_group("cuda_host")  # one worker compiles
SOURCE = Path(__file__).with_name("cuda_host.cpp")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    built = tmp_path_factory.mktemp("cuda_host") / "cuda_host.so"
    command = [os.environ.get("CXX", "c++"), "-std=c++17", "-O1", "-ffp-contract=off", "-fno-math-errno"]
    command += ["-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
    if "asan" in os.environ.get("LD_PRELOAD", ""):  # make sanitize
        command += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g1"]
    command += ["-DTORCH_TARGET_VERSION=0x020b000000000000", "-DTORCH_STABLE_ONLY"]
    command += [f"-isystem{path}" for path in include_paths()] + [f"-L{path}" for path in library_paths()]
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    subprocess.run([*command, str(SOURCE), "-o", str(built), "-lc10", "-ltorch_cpu"], check=True, env=environment)
    torch.ops.load_library(str(built))
    return ctypes.CDLL(str(built))


@pytest.fixture(params=["in order", "reversed"])
def twin(library: ctypes.CDLL, request: pytest.FixtureRequest) -> Iterator[checks.Twin]:
    library.sd_reverse(request.param == "reversed")
    yield checks.Twin(torch.ops.splatdistill_cuda_host, "cpu")
    library.sd_reverse(0)


@pytest.mark.parametrize("case", checks.RESIDUALS, ids=str)
def test_residual(twin: checks.Twin, case: checks.ResidualCase) -> None:
    checks.check_residual(twin, case)
    checks.check_noising(twin, case)
    checks.check_products(twin, case)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_half_number(twin: checks.Twin, dtype: torch.dtype) -> None:
    checks.check_halves(twin, dtype, 1.7)


@pytest.mark.parametrize("n", checks.SIZES)
def test_statistics(twin: checks.Twin, n: int) -> None:
    for num_views in (0, 1, 5):
        checks.check_statistics(twin, n, num_views)


@pytest.mark.parametrize("n", checks.SIZES)
def test_update(twin: checks.Twin, n: int) -> None:
    for offset in (0, 1):
        for skip in (False, True):
            checks.check_update(twin, n, offset=offset, skip=skip)


@pytest.mark.parametrize("n", checks.SIZES)
@pytest.mark.parametrize("bad", checks.BAD)
def test_bad_gradients_are_found(twin: checks.Twin, n: int, bad: str) -> None:
    checks.check_gradients(twin, n, bad)


def test_counts(twin: checks.Twin) -> None:
    checks.check_counts(twin)


def test_channels_last(twin: checks.Twin) -> None:
    checks.check_channels_last(twin)


@pytest.mark.parametrize("n", checks.SIZES)
def test_masks(twin: checks.Twin, n: int) -> None:
    for budget in (0.0, 0.8, 0.9, 1.0, 1.07, 1.2, 2.0):
        checks.check_masks(twin, n, budget)


@pytest.mark.parametrize("n", checks.SIZES)
def test_scatter(twin: checks.Twin, n: int) -> None:
    for kind in (None, densify.KEEP, densify.CLONE, densify.SPLIT, densify.PRUNE):
        checks.check_scatter(twin, n, kind=kind)


def test_launches_are_few(library: ctypes.CDLL, twin: checks.Twin) -> None:
    """One for the residual, one each for the check and the update of all tensors, one for the counts."""
    library.sd_launches.restype = ctypes.c_int64

    def launches(work: Callable[[], object]) -> int:
        before = library.sd_launches()
        work()
        return library.sd_launches() - before

    terms = [torch.randn(4, 3, 64, 64) for _ in range(3)]
    arguments = torch.randn(3, 4), torch.rand(4), None, 4
    assert launches(lambda: twin.ops.residual_forward(terms[0], terms, *arguments)) == 1
    n, verdict = 300, []
    tensors, sums = checks.learning(n), (torch.zeros(n), torch.zeros(n, dtype=torch.int64))
    count = torch.zeros((), dtype=torch.int64)

    def update() -> None:
        seen = torch.randn(4, n, 2), torch.ones(4, n, 2, dtype=torch.int32)
        twin.ops.update_splats(*tensors, [0.1] * 6, *verdict, *checks.BETAS, checks.EPS, *sums, *seen)

    assert (
        launches(lambda: verdict.extend(twin.ops.check_gradients(tensors[1], count, torch.zeros(()), 0.9, 0.99))) == 1
    )
    assert launches(update) == 1
    assert launches(lambda: twin.ops.count_skip(torch.zeros(3, dtype=torch.int64), verdict[0], False)) == 1


def test_scatter_of_more_tensors_than_a_launch_takes(twin: checks.Twin) -> None:
    checks.check_scatter(twin, 300, copies=20)


def test_a_plan_that_does_not_add_up_writes_nothing_out_of_bounds(twin: checks.Twin) -> None:
    tensors = list(checks.splats(700).values())
    kind = torch.full((700,), densify.CLONE, dtype=torch.int8)
    for num_out in (0, 1, 255, 513, 1399):
        out = twin.ops.densify_scatter(tensors, 0, kind, num_out, 0)
        assert all(len(rows) == num_out for rows in out)
        assert torch.equal(out[1], tensors[1].repeat_interleave(2, 0)[:num_out])
