"""The end of a step, check of the gradients and Adam with the statistics, against the same on torch's operators."""

from __future__ import annotations

import math
import platform
from pathlib import Path

import pytest
import torch
from torch import Tensor

from splatdistill.ops import densify, reference, update
from tests.ops.cuda_checks import BAD, BETAS, EPS, learning
from tests.ops.simd_levels import outputs
from tests.rounding import DOUBLE, UNIT

ROOT = Path(__file__).resolve().parents[2]
RATES = [0.03, 0.01, 0.02, 0.05, 0.04, 0.002]
# Where torch's own kernel multiplies and adds in one rounding, in the places of ours.
SAME_BITS = platform.machine() == "x86_64" and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
SIZES = [0, 1, 3, 8, 341, 1365, 2731]  # more than one of the pieces that threads share out, and all that eights leave


def seen(n: int) -> update.Statistics:
    g = torch.Generator().manual_seed(n + 2)
    radii = torch.randint(-1, 3, (3, n, 2), dtype=torch.int32, generator=g)
    return update.Statistics(torch.rand(n, generator=g), torch.arange(n), torch.randn(3, n, 2, generator=g), radii)


def take_steps(n: int, *, skips: tuple[int, ...] = (), separate: bool = False) -> list[Tensor]:
    """Five steps, those of `skips` with a number that is none: what is left of them. separate: on torch's
    operators, one after another.
    """
    values, _, exp_avgs, exp_avg_sqs = learning(n)
    statistics, num_updates = seen(n), torch.tensor(2.0)
    betas = update.Betas(*BETAS)
    for step in range(5):
        g = torch.Generator().manual_seed(1000 * n + step)
        grads = [torch.randn(x.shape, generator=g) for x in values]
        if n and step in skips:
            grads[-1].view(-1)[-1] = math.nan
        nonfinite = torch.zeros((), dtype=torch.int64)
        if separate:
            skip, _ = reference.check_gradients(grads, nonfinite, num_updates, *betas)
            reference.densify_accumulate(*statistics)
            reference.adam(values, grads, exp_avgs, exp_avg_sqs, RATES, skip, num_updates, *betas, EPS)
            continue
        verdict = update.check(grads, num_nonfinite=nonfinite, num_updates=num_updates, betas=betas)
        learned = [update.Learned(*x) for x in zip(values, grads, exp_avgs, exp_avg_sqs, RATES, strict=True)]
        update.update(learned, verdict=verdict, num_updates=num_updates, betas=betas, eps=EPS, statistics=statistics)
    return [*values, *exp_avgs, *exp_avg_sqs, num_updates, statistics.count, statistics.grad_sum]


@pytest.mark.parametrize("skips", [(), (0, 3)])
@pytest.mark.parametrize("n", SIZES)
def test_equals_the_separate_operators(n: int, skips: tuple[int, ...]) -> None:
    """To the bit, where the processor lets torch's kernel round as ours does; else to what the roundings may do.

    A step rounds the first moment 3 times, the second, of which no summand is negative, 4 times, and what follows from
    both 5 times: 12 UNIT a step in either program, of numbers that are at most 11 here.
    """
    got, want = take_steps(n, skips=skips), take_steps(n, skips=skips, separate=True)
    assert torch.equal(got[-3], want[-3]) and got[-3] == (2 + 5 - len(skips) if n else 7)
    assert torch.equal(got[-2], want[-2])
    torch.testing.assert_close(got[-1], want[-1], rtol=2 * 5 * (3 + 3) * UNIT, atol=0)
    for a, b in zip(got[:-3], want[:-3], strict=True):
        if SAME_BITS:
            assert torch.equal(a, b)
        else:
            torch.testing.assert_close(a, b, rtol=2 * 5 * 12 * UNIT, atol=2 * 5 * 12 * UNIT * 11)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("found", [0, 2])
def test_the_verdict(bad: str, found: int) -> None:
    grads = learning(40)[1]
    grads[3][-1] = BAD[bad] or grads[3][-1]
    counts = [torch.tensor(4.0), torch.tensor(4.0)]
    nonfinite, betas = torch.tensor(found), update.Betas(*BETAS)
    skip, correction = update.check(grads, num_nonfinite=nonfinite, num_updates=counts[0], betas=betas)
    wanted = reference.check_gradients(grads, nonfinite, counts[1], *betas)
    assert skip.dtype == torch.bool and skip == wanted[0] == (found > 0 or bad != "nothing")
    t = 4 if skip else 5
    assert counts[0] == counts[1] == t
    # A power of at most 1 may be off by two DOUBLE, of which 1 - 0.99^4 is 0.039, and two more follow.
    for got in (correction, wanted[1]):
        exact = [1 - 0.9**t, math.sqrt(1 - 0.99**t)]
        assert got.tolist() == pytest.approx(exact, rel=2 * (2 / 0.039 + 2) * DOUBLE)


def test_the_first_step_is_the_learning_rate_whatever_the_gradient() -> None:
    """Adam's closed form: m / (1 - beta1) is the gradient and the root of v / (1 - beta2) its size."""
    grad = torch.tensor([3.0, -1e-6, 1e6, -0.25, 2e-12])
    value, count = torch.zeros(5), torch.zeros(())
    betas = update.Betas(*BETAS)
    verdict = update.check([grad], num_nonfinite=torch.tensor(0), num_updates=count, betas=betas)
    learned = update.Learned(value, grad, torch.zeros(5), torch.zeros(5), 0.125)
    update.update([learned], verdict=verdict, num_updates=count, betas=betas, eps=EPS, statistics=seen(0))
    torch.testing.assert_close(value, -0.125 * grad.sign(), rtol=1e-3, atol=0)  # eps is 5e-4 of the smallest
    torch.testing.assert_close(value[:4], -0.125 * grad[:4].sign(), rtol=16 * UNIT, atol=0)


def test_statistics_are_those_of_the_operator_alone_and_no_step_skips_them() -> None:
    for skips in (False, True):
        got, want = seen(500), seen(500)
        verdict = update.Verdict(torch.tensor(skips), torch.ones(2, dtype=torch.float64))
        update.update(
            [], verdict=verdict, num_updates=torch.ones(()), betas=update.Betas(*BETAS), eps=EPS, statistics=got
        )
        densify.accumulate(want.grad_sum, want.count, probe_grad=want.probe_grad, radii=want.radii)
        assert torch.equal(got.grad_sum, want.grad_sum) and torch.equal(got.count, want.count)
        assert not torch.equal(got.count, seen(500).count)


def test_gradients_are_paired_with_their_elements_in_any_order_of_memory() -> None:
    results = []
    for order in (lambda x: x, lambda x: x.mT.contiguous().mT, lambda x: torch.stack([x, x], -1)[..., 0]):
        value, grad = torch.ones(20, 5, 3), torch.arange(300.0).view(20, 5, 3)
        verdict = update.Verdict(torch.tensor(False), torch.ones(2, dtype=torch.float64))
        learned = update.Learned(value, order(grad), torch.zeros(20, 5, 3), torch.zeros(20, 5, 3), 0.1)
        before = value._version
        update.update(
            [learned], verdict=verdict, num_updates=torch.ones(()), betas=update.Betas(*BETAS), eps=1.0,
            statistics=seen(0),
        )  # fmt: skip
        assert value._version > before  # autograd refuses a graph that has kept what it was
        results.append(value)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_threads_do_not_change_a_bit() -> None:
    one = take_steps(SIZES[-1], skips=(1,))
    for threads in (2, 4):
        torch.set_num_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(one, take_steps(SIZES[-1], skips=(1,)), strict=True))


HASH_OF_A_RESULT = """
import hashlib
from tests.ops.test_update import take_steps
print(hashlib.sha256(b"".join(r.numpy().tobytes() for r in take_steps(1365, skips=(2,)))).hexdigest())
"""


def test_instruction_sets_do_not_change_a_bit() -> None:
    assert len(outputs(HASH_OF_A_RESULT)) == 1


def test_skips_are_counted_as_the_reference_does() -> None:
    got, want = torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    for step in range(50):
        skipped = torch.tensor(step % 6 in (1, 2, 5))
        update.count_skip(got, skipped, fresh=step % 20 == 0)
        reference.count_skip(want, skipped, step % 20 == 0)
        assert torch.equal(got, want)
    assert want.tolist() == [1, 2, 5]


def test_opcheck() -> None:
    native = torch.ops.splatdistill
    values, grads, *moments = learning(20)
    correction = torch.ones(2, dtype=torch.float64)
    torch.library.opcheck(native.check_gradients.default, (grads, torch.tensor(0), torch.ones(()), *BETAS))
    arguments = values, grads, *moments, RATES, torch.tensor(False), correction, *BETAS, EPS, *seen(20)
    torch.library.opcheck(native.update_splats.default, arguments)
    torch.library.opcheck(native.count_skip.default, (torch.zeros(3, dtype=torch.int64), torch.tensor(True), False))


def test_the_operators_refuse_what_they_would_read_wrongly() -> None:
    native = torch.ops.splatdistill
    values, grads, *moments = learning(20)
    rest = RATES, torch.tensor(False), torch.ones(2, dtype=torch.float64), *BETAS, EPS, *seen(20)
    with pytest.raises(RuntimeError, match="every gradient has an unexpected shape or dtype"):
        native.update_splats(values, grads[::-1], *moments, *rest)
    turned = [x.T.contiguous().T if x.dim() == 2 else x for x in moments[0]]
    with pytest.raises(RuntimeError, match="every exp_avg must be contiguous"):
        native.update_splats(values, grads, turned, moments[1], *rest)
    with pytest.raises(RuntimeError, match="every tensor needs its gradient, moments and rate"):
        native.update_splats(values, grads, *moments, RATES[1:], *rest[1:])
    with pytest.raises(RuntimeError, match="8 tensors can learn at most"):
        native.update_splats(*([x[0]] * 9 for x in (values, grads, *moments)), [0.1] * 9, *rest[1:])
    with pytest.raises(RuntimeError, match=r"beta1 must be at least 0\.5"):
        native.update_splats(values, grads, *moments, *rest[:3], 0.4, *rest[4:])
    with pytest.raises(ValueError, match=r"grads\[1\] must be float32, got float64."):
        update.check(
            [grads[0], grads[1].double()], num_nonfinite=torch.tensor(0), num_updates=torch.ones(()),
            betas=update.Betas(*BETAS),
        )  # fmt: skip
