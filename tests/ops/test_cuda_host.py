"""The CUDA kernels on the host: the shipped sources, run block after block, against the CPU operators.

Wrong indices, sizes, workspaces and arithmetic show here; under `make sanitize` so does every access out of bounds.
Blocks and threads run in one order and in the other, with equal results. Races show on a GPU alone: test_cuda.py.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest
import torch

from splatdistill.ops import densify
from tests.ops import cuda_checks as checks

pytestmark = pytest.mark.xdist_group("cuda_host")  # one worker compiles


@pytest.mark.parametrize("case", checks.RESIDUALS, ids=str)
def test_residual(host_twin: checks.Twin, case: checks.ResidualCase) -> None:
    checks.check_residual(host_twin, case)
    checks.check_noising(host_twin, case)
    checks.check_gram(host_twin, case)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_half_number(host_twin: checks.Twin, dtype: torch.dtype) -> None:
    checks.check_halves(host_twin, dtype, 1.7)


@pytest.mark.parametrize("n", checks.SIZES)
def test_statistics(host_twin: checks.Twin, n: int) -> None:
    for num_views in (0, 1, 5):
        checks.check_statistics(host_twin, n, num_views)


@pytest.mark.parametrize("n", checks.SIZES)
def test_update(host_twin: checks.Twin, n: int) -> None:
    for offset in (0, 1):
        for skip in (False, True):
            checks.check_update(host_twin, n, offset=offset, skip=skip)


@pytest.mark.parametrize("n", checks.SIZES)
@pytest.mark.parametrize("bad", checks.BAD)
def test_bad_gradients_are_found(host_twin: checks.Twin, n: int, bad: str) -> None:
    checks.check_gradients(host_twin, n, bad)


def test_counts(host_twin: checks.Twin) -> None:
    checks.check_counts(host_twin)


def test_channels_last(host_twin: checks.Twin) -> None:
    checks.check_channels_last(host_twin)


@pytest.mark.parametrize("n", checks.SIZES)
def test_masks(host_twin: checks.Twin, n: int) -> None:
    for budget in (0.0, 0.8, 0.9, 1.0, 1.07, 1.2, 2.0):
        checks.check_masks(host_twin, n, budget)


@pytest.mark.parametrize("n", checks.SIZES)
def test_scatter(host_twin: checks.Twin, n: int) -> None:
    for kind in (None, densify.KEEP, densify.CLONE, densify.SPLIT, densify.PRUNE):
        checks.check_scatter(host_twin, n, kind=kind)


def test_launches_are_few(cuda_host: ctypes.CDLL, host_twin: checks.Twin) -> None:
    """One for the residual, one each for the check and the update of all tensors, one for the counts."""
    cuda_host.sd_launches.restype = ctypes.c_int64

    def launches(work: Callable[[], object]) -> int:
        before = cuda_host.sd_launches()
        work()
        return cuda_host.sd_launches() - before

    terms = [torch.randn(4, 3, 64, 64) for _ in range(3)]
    arguments = torch.randn(3, 4), torch.rand(4), None, 4
    assert launches(lambda: host_twin.ops.residual_forward(terms[0], terms, *arguments)) == 1
    n, verdict = 300, []
    tensors, sums = checks.learning(n), (torch.zeros(n), torch.zeros(n, dtype=torch.int64))
    count = torch.zeros((), dtype=torch.int64)

    def update() -> None:
        seen = torch.randn(4, n, 2), torch.ones(4, n, 2, dtype=torch.int32)
        host_twin.ops.update_splats(*tensors, [0.1] * 6, *verdict, *checks.BETAS, checks.EPS, *sums, *seen)

    def check() -> None:
        verdict.extend(host_twin.ops.check_gradients(tensors[1], count, torch.zeros(()), *checks.BETAS))

    assert launches(check) == 1
    assert launches(update) == 1
    assert launches(lambda: host_twin.ops.count_skip(torch.zeros(3, dtype=torch.int64), verdict[0], False)) == 1


def test_scatter_of_more_tensors_than_a_launch_takes(host_twin: checks.Twin) -> None:
    checks.check_scatter(host_twin, 300, copies=20)


def test_a_plan_that_does_not_add_up_writes_nothing_out_of_bounds(host_twin: checks.Twin) -> None:
    tensors = list(checks.splats(700).values())
    kind = torch.full((700,), densify.CLONE, dtype=torch.int8)
    for num_out in (0, 1, 255, 513, 1399):
        out = host_twin.ops.densify_scatter(tensors, 0, kind, num_out, 0)
        assert all(len(rows) == num_out for rows in out)
        assert torch.equal(out[1], tensors[1].repeat_interleave(2, 0)[:num_out])
