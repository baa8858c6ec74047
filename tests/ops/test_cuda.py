"""The CUDA operators on a GPU: the cases of the host, and what only a GPU can show."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch

from splatdistill import ops
from splatdistill.config.schema import OptimConfig, SplatsConfig
from splatdistill.ops import _library, densify
from splatdistill.ops.update import Statistics
from splatdistill.scene.gaussians import init_ball
from splatdistill.training.nonfinite import NonfiniteMonitor
from splatdistill.training.splat_optimizer import SplatOptimizer, check
from tests.ops import cuda_checks as checks
from tests.ops.test_densify import THRESHOLDS, assert_same, gradients, moments_of, splats
from tests.ops.test_residual import noise_problem, problem

pytestmark = pytest.mark.gpu


@pytest.fixture
def twin() -> checks.Twin:
    if not _library.native(torch.device("cuda")):
        pytest.fail("The extension was built without CUDA: build it with SPLATDISTILL_CUDA=1.")
    return checks.Twin(torch.ops.splatdistill, "cuda")


@pytest.mark.parametrize("case", checks.RESIDUALS, ids=str)
def test_residual(twin: checks.Twin, case: checks.ResidualCase) -> None:
    checks.check_residual(twin, case)
    checks.check_noising(twin, case)
    checks.check_gram(twin, case)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_half_number(twin: checks.Twin, dtype: torch.dtype) -> None:
    checks.check_halves(twin, dtype, 1.7)


@pytest.mark.parametrize("n", [*checks.SIZES, 100_003])
def test_statistics(twin: checks.Twin, n: int) -> None:
    for num_views in (0, 1, 5):
        checks.check_statistics(twin, n, num_views)


@pytest.mark.parametrize("n", [*checks.SIZES, 100_003])
def test_update(twin: checks.Twin, n: int) -> None:
    for offset in (0, 1):
        for skip in (False, True):
            checks.check_update(twin, n, offset=offset, skip=skip)


@pytest.mark.parametrize("n", [*checks.SIZES, 100_003])
@pytest.mark.parametrize("bad", checks.BAD)
def test_bad_gradients_are_found(twin: checks.Twin, n: int, bad: str) -> None:
    checks.check_gradients(twin, n, bad)


def test_counts(twin: checks.Twin) -> None:
    checks.check_counts(twin)


def test_channels_last(twin: checks.Twin) -> None:
    checks.check_channels_last(twin)


@pytest.mark.parametrize("n", [*checks.SIZES, 100_003])
def test_masks(twin: checks.Twin, n: int) -> None:
    for budget in (0.0, 0.8, 0.9, 1.0, 1.07, 1.2, 2.0):
        checks.check_masks(twin, n, budget)


@pytest.mark.parametrize("n", [*checks.SIZES, 100_003])
def test_scatter(twin: checks.Twin, n: int) -> None:
    for kind in (None, densify.KEEP, densify.CLONE, densify.SPLIT, densify.PRUNE):
        checks.check_scatter(twin, n, kind=kind)


def test_scatter_of_more_tensors_than_a_launch_takes(twin: checks.Twin) -> None:
    checks.check_scatter(twin, 300, copies=20)


def test_the_loss_has_its_gradient(twin: checks.Twin) -> None:
    x0, kwargs = problem(3)
    grads = []
    for device in ("cpu", "cuda"):
        moved = {name: twin._replace(device=device).on_device(value) for name, value in kwargs.items()}
        leaf = x0.detach().clone().to(device).requires_grad_()  # on the CPU `to` is x0 itself
        ops.residual(leaf, **moved, clamp=0.7).loss.mul(2).backward()
        grads.append(leaf.grad.cpu())
    assert torch.equal(*grads)


Event = tuple[densify.Plan, tuple[dict[str, torch.Tensor], densify.Moments]]


def event(device: str, n: int) -> Callable[[], Event]:
    """Classify and scatter n splats where most of those that want to grow find room."""
    tensors = {name: value.to(device) for name, value in splats(n).items()}
    moments, grad = moments_of(tensors), gradients(n).to(device)
    rules = THRESHOLDS | {"scales": tensors["scales"], "opacities": tensors["opacities"], "max_splats": n}
    rules["grow_gradient"] = torch.tensor(THRESHOLDS["grow_gradient"], device=device)

    def run() -> Event:
        plan = densify.classify(grad, **rules)
        return plan, densify.scatter(tensors, moments, plan=plan, key=5)

    return run


def test_an_event_equals_the_cpus(twin: checks.Twin) -> None:
    (plan, (tensors, moments)), (want_plan, want) = (event(device, 50_000)() for device in (twin.device, "cpu"))
    assert torch.equal(plan.kind.cpu(), want_plan.kind) and torch.equal(plan.counts, want_plan.counts)
    back = {name: value.cpu() for name, value in tensors.items()}
    assert_same((back, {name: {k: v.cpu() for k, v in state.items()} for name, state in moments.items()}), want)


def assert_repeats(work: Callable[[], list[torch.Tensor]]) -> None:
    first = work()
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, work(), strict=True))


def test_repetition_does_not_change_a_bit(twin: checks.Twin) -> None:
    g = torch.Generator(twin.device).manual_seed(0)
    x0, *terms = (torch.randn(4, 3, 511, 513, generator=g, device=twin.device) for _ in range(4))
    coef, weight = torch.randn(3, 4, device=twin.device), torch.rand(4, device=twin.device)
    assert_repeats(lambda: list(twin.ops.residual_forward(x0, terms, coef, weight, 0.5, 4)))
    assert_repeats(lambda: list(twin.ops.gram_forward(terms)))
    run = event(twin.device, 30_000)
    assert_repeats(lambda: [*(made := run())[0], *made[1][0].values()])


def test_work_goes_to_the_current_stream(twin: checks.Twin) -> None:
    """The side stream is kept busy, so that work on any other one would read x0 too early."""
    x0, kwargs = noise_problem(num_views=2, shape=(3, 512, 512))
    x0, eps, alpha, sigma = (value.to(twin.device) for value in (x0, *kwargs.values()))
    side, late = torch.cuda.Stream(), torch.zeros_like(x0)
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        late.copy_(x0)
        got = ops.noising(late, eps=eps, alpha=alpha, sigma=sigma)
    side.synchronize()
    assert torch.equal(got, ops.noising(x0, eps=eps, alpha=alpha, sigma=sigma))


def test_a_step_does_not_wait_for_the_device_and_an_event_does_once(twin: checks.Twin) -> None:
    x0, kwargs = problem(3)
    moved = {name: twin.on_device(value) for name, value in kwargs.items()}
    leaf = x0.to(twin.device).requires_grad_()
    splat_optimizer, health, statistics = splats_that_learn(500)

    def step() -> None:
        ops.residual(leaf, **moved).loss.backward()
        ops.gram(moved["terms"])
        end_of_step(splat_optimizer, health, statistics)

    run = event(twin.device, 500)
    for work, waits in ((step, 0), (run, 1)):
        work()
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert len([w for w in caught if "synchroniz" in str(w.message)]) == waits


def splats_that_learn(n: int) -> tuple[SplatOptimizer, NonfiniteMonitor, Statistics]:
    optimizer = SplatOptimizer(init_ball(SplatsConfig(num_init=n), seed=0).to("cuda"), OptimConfig(), steps=100)
    probe, radii = torch.randn(4, n, 2, device="cuda"), torch.ones(4, n, 2, dtype=torch.int32, device="cuda")
    sums = torch.zeros(n, device="cuda"), torch.zeros(n, dtype=torch.int64, device="cuda")
    return optimizer, NonfiniteMonitor(torch.device("cuda")), Statistics(*sums, probe, radii)


def end_of_step(optimizer: SplatOptimizer, health: NonfiniteMonitor, statistics: Statistics) -> None:
    """From the gradients on, which are those of before: none is made here."""
    for x in optimizer.splats.tensors.values():
        x.grad = x.detach()
    verdict = check([optimizer], num_nonfinite=statistics.count[0])
    optimizer.update(0, verdict=verdict, statistics=statistics)
    health.note(verdict.skip, step=1)


def launches(work: Callable[[], object]) -> list[str]:
    """Names of the kernels that `work` launches."""
    work()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        work()
        torch.cuda.synchronize()
    names = [e.name for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    if not names:
        pytest.skip("the profiler sees no kernels here")
    return [name for name in names if not name.startswith(("Memcpy", "Memset"))]


def test_launches_are_few(twin: checks.Twin) -> None:
    names = launches(event(twin.device, 100_000))
    assert len(names) <= 16
    assert len([name for name in names if "sd::cuda::run<" in name]) <= 4
    x0, kwargs = problem(3)
    arguments = [twin.on_device(value) for value in (x0, *kwargs.values())]
    assert len(launches(lambda: twin.ops.residual_forward(*arguments, 0.5, 3))) == 1
    assert len(launches(lambda: twin.ops.gram_forward(arguments[1]))) == 2
    parts = splats_that_learn(1000)
    assert len(launches(lambda: end_of_step(*parts))) == 3
