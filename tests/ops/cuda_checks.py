"""What the CUDA operators must do that the CPU's do, on any operators and device: the same cases run on a GPU
(test_cuda.py) and, as loops, without one (test_cuda_host.py).
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tests.ops.children import assert_children
from tests.ops.test_densify import THRESHOLDS, gradients, moments_of, random_plan, splats
from tests.rounding import DOUBLE, UNIT, assert_within

OURS = torch.ops.splatdistill
SIZES = [0, 1, 2, 255, 256, 257, 2048, 4097]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


class Twin(NamedTuple):
    """Operators with the names and schemas of torch.ops.splatdistill, and where their tensors are."""

    ops: Any
    device: str

    def on_device(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.on_device(item) for item in value]
        return value.to(self.device) if isinstance(value, Tensor) else value

    def both(self, name: str, *arguments: Any) -> tuple[Any, Any]:
        """What the twin and the CPU operator return, on the CPU."""
        got = getattr(self.ops, name)(*(self.on_device(a) for a in arguments))
        want = getattr(OURS, name)(*arguments)
        if isinstance(got, Tensor):
            return got.cpu(), want
        return [g.cpu() for g in got], list(want)


class ResidualCase(NamedTuple):
    shape: tuple[int, ...]
    terms: tuple[torch.dtype, ...]
    x0: torch.dtype = torch.float32
    clamp: float | None = None
    offset: int = 0  # of every tensor in its storage, in elements

    def draw(self, g: torch.Generator, dtype: torch.dtype) -> Tensor:
        size = math.prod(self.shape)
        values = torch.randn(size + self.offset, generator=g, dtype=torch.float64)
        if size > 40:  # numbers that are not finite, in any type
            values[self.offset + 7 :: 41] = math.nan
            values[self.offset + 11 :: 43] = math.inf
        return values.to(dtype)[self.offset :].view(self.shape)


F32, F64, F16, BF16 = DTYPES
RESIDUALS = [
    *(ResidualCase((3, 2, 24, 24), (F32,) * k, clamp=clamp) for k in range(1, 9) for clamp in (None, 0.5)),
    *(ResidualCase((2, 5, 30), (F32,) * k, x0=BF16, offset=1) for k in (1, 8)),
    *(ResidualCase((2, 644), (term, F32, term), x0=x0) for x0, term in itertools.product(DTYPES, DTYPES)),
    *(ResidualCase((3, 321), (F16, BF16, term), x0=x0) for x0, term in itertools.product(DTYPES, DTYPES)),
    *(ResidualCase((2, *shape), (F16, F64)) for shape in ((), (1,), (4095,), (4096,), (4097,), (4100,), (9001,))),
    *(ResidualCase((views, 64), (F32, F32)) for views in (0, 1, 17, 1300)),
    *(ResidualCase((2, 4096), (dtype, dtype), x0=dtype, offset=1) for dtype in DTYPES),
    ResidualCase((2, 0), (F32,)),
    ResidualCase((1, 300 * 4096 + 4), (F32, F16)),
]


def check_residual(twin: Twin, case: ResidualCase) -> None:
    """The gradient to the bit, and norms but for rounding."""
    g = torch.Generator().manual_seed(0)
    views, dtype = case.shape[0], torch.float64 if case.x0 == torch.float64 else torch.float32
    x0 = case.draw(g, case.x0)
    terms = [case.draw(g, term) for term in case.terms]
    coef, weight = torch.randn(len(terms), views, generator=g, dtype=dtype), torch.rand(views, generator=g, dtype=dtype)
    (norms, count, grad), want = twin.both("residual_forward", x0, terms, coef, weight, case.clamp, views + 1)
    assert torch.equal(grad, want[2]) and grad.dtype == case.x0
    assert_norms(norms, want[0], num_summands=math.prod(case.shape[1:]))
    assert torch.equal(count, want[1])


def check_channels_last(twin: Twin) -> None:
    """Terms in that order of memory give a gradient in it, with the numbers of contiguous ones."""
    g = torch.Generator().manual_seed(4)
    terms = [torch.randn(3, 4, 24, 20, generator=g) for _ in range(3)]
    numbers = [torch.randn(3, 3, generator=g), torch.rand(3, generator=g), 0.7, 3]
    want = OURS.residual_forward(terms[0], terms, *numbers)
    terms = [x.to(memory_format=torch.channels_last) for x in terms]
    (norms, count, grad), _ = twin.both("residual_forward", terms[0], terms, *numbers)
    assert grad.stride() == terms[0].stride() and torch.equal(grad, want[2])
    assert_norms(norms, want[0], num_summands=terms[0][0].numel())
    assert torch.equal(count, want[1])


def assert_norms(got: Tensor, want: Tensor, *, num_summands: int) -> None:
    """The same squares are summed in float64 in another order, and the root is rounded to the type of the answer."""
    unit = DOUBLE if want.dtype == torch.float64 else UNIT
    assert got.dtype == want.dtype
    assert_within(got, want, (2 * unit + num_summands * DOUBLE) * want.double())


def check_noising(twin: Twin, case: ResidualCase) -> None:
    g = torch.Generator().manual_seed(1)
    dtype = torch.float64 if case.x0 == torch.float64 else torch.float32
    alpha, sigma = (torch.rand(case.shape[0], generator=g, dtype=dtype) for _ in range(2))
    got, want = twin.both("noising_forward", case.draw(g, case.x0), case.draw(g, case.terms[0]), alpha, sigma)
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


def check_gram(twin: Twin, case: ResidualCase) -> None:
    """The sums are float64 and in another order: each is one DOUBLE of what is added, and so is each product."""
    g = torch.Generator().manual_seed(2)
    terms = [torch.nan_to_num(case.draw(g, term), posinf=1.0) for term in case.terms]
    rows = torch.stack([term.reshape(len(term), math.prod(term.shape[1:])).double() for term in terms], 1).abs()
    for got, want, size in zip(*twin.both("gram_forward", terms), (rows.sum(-1), rows @ rows.mT), strict=True):
        assert got.dtype == torch.float64
        assert ((got - want).abs() <= 2 * (rows.shape[-1] + 1) * DOUBLE * size).all()


def check_halves(twin: Twin, dtype: torch.dtype, alpha: float) -> None:
    """All 65536 numbers of a half type, read and rounded."""
    x0 = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)[None]
    got, want = twin.both("noising_forward", x0, torch.zeros_like(x0), torch.tensor([alpha]), torch.zeros(1))
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


def check_statistics(twin: Twin, n: int, num_views: int) -> None:
    """To the bit: the views are added in the same order."""
    g = torch.Generator().manual_seed(n)
    grad = torch.randn(num_views, n, 2, generator=g)
    grad.view(-1)[5::31] = math.nan
    grad.view(-1)[7::37] = 1e30
    radii = torch.randint(-1, 3, (num_views, n, 2), dtype=torch.int32, generator=g)
    want = torch.rand(n, generator=g), torch.arange(n)
    got = [twin.on_device(value.clone()) for value in want]
    twin.ops.densify_accumulate(*got, twin.on_device(grad), twin.on_device(radii))
    OURS.densify_accumulate(*want, grad, radii)
    assert torch.equal(got[0].cpu(), want[0]) and torch.equal(got[1].cpu(), want[1])


def learning(n: int, *, offset: int = 0) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """Splats of degree 3 with gradients and both moments. offset: of every tensor in its storage, in elements."""
    g = torch.Generator().manual_seed(n)

    def draw(*sizes: int) -> Tensor:
        return torch.randn(n * math.prod(sizes) + offset, generator=g)[offset:].view(n, *sizes)

    lists = [[draw(*sizes) for sizes in ((3,), (4,), (3,), (), (1, 3), (15, 3))] for _ in range(4)]
    return lists[0], lists[1], lists[2], [x.square_() for x in lists[3]]


BETAS, EPS = (0.9, 0.99), 1e-15
BAD = {"nothing": 0.0, "a NaN": math.nan, "infinity": -math.inf, "an infinite square": 2e19}


def check_gradients(twin: Twin, n: int, bad: str) -> None:
    """A number that is not finite is found wherever it lies, in the first launch or a later one."""
    for where in range(6 if n and BAD[bad] else 1):
        grads = learning(n)[1] * (12 if n < 300 else 1)
        if n and BAD[bad]:
            grads[where] = grads[where].clone()
            grads[where].view(-1)[-1 if where % 2 else 0] = BAD[bad]
        for found in (0, 3):
            got, want = torch.tensor(6.0), torch.tensor(6.0)
            there, nonfinite = twin.on_device(got), torch.tensor(found)
            skip, correction = twin.ops.check_gradients(twin.on_device(grads), twin.on_device(nonfinite), there, *BETAS)
            expected = OURS.check_gradients(grads, nonfinite, want, *BETAS)
            assert skip.item() == expected[0].item() == (found > 0 or bool(n and BAD[bad]))
            assert torch.equal(there.cpu(), want) and want == (6.0 if skip else 7.0)
            # A power of at most 1 may be off by two DOUBLE, of which 1 - 0.99^6 is 0.059, and two more follow.
            assert_within(correction.cpu(), expected[1], 2 * (2 / 0.059 + 2) * DOUBLE * expected[1])


def check_update(twin: Twin, n: int, *, offset: int, skip: bool) -> None:
    """Splats and moments but for rounding, statistics to the bit; and nothing but these where the step is skipped.

    As in test_update.py: 12 UNIT a step in either program, of the largest number.
    """
    g = torch.Generator().manual_seed(n + 1)
    probe, radii = torch.randn(3, n, 2, generator=g), torch.randint(-1, 3, (3, n, 2), dtype=torch.int32, generator=g)
    sums = torch.rand(n, generator=g), torch.arange(n)
    rates, correction = [0.01 * i for i in range(6)], torch.tensor([1 - 0.9**3, (1 - 0.99**3) ** 0.5]).double()
    arguments = [rates, torch.tensor(skip), correction, *BETAS, EPS]
    before, want = learning(n, offset=offset), learning(n, offset=offset)
    got = [[_at_offset(twin, x, offset) for x in tensors] for tensors in before]
    there = [twin.on_device(x.clone()) for x in sums]
    twin.ops.update_splats(*got, *(twin.on_device(x) for x in arguments), *there, *twin.on_device([probe, radii]))
    OURS.update_splats(*want, *arguments, *sums, probe, radii)
    assert all(torch.equal(a.cpu(), b) for a, b in zip(there, sums, strict=True))
    for tensors, expected, old in zip(got, want, before, strict=True):
        for a, b, c in zip(tensors, expected, old, strict=True):
            largest = torch.cat([b.flatten(), c.flatten()]).abs().amax() if n else 0.0
            assert_within(a.cpu(), b, 2 * 12 * UNIT * largest)
            assert not skip or torch.equal(a.cpu(), c)


def _at_offset(twin: Twin, x: Tensor, offset: int) -> Tensor:
    held = torch.empty(x.numel() + offset, device=twin.device)
    return held[offset:].view(x.shape).copy_(x)


def check_counts(twin: Twin) -> None:
    got, want = twin.on_device(torch.zeros(3, dtype=torch.int64)), torch.zeros(3, dtype=torch.int64)
    for step in range(40):
        skipped = torch.tensor(step % 7 in (2, 3) or step == 25)
        twin.ops.count_skip(got, twin.on_device(skipped), step % 20 == 0)
        OURS.count_skip(want, skipped, step % 20 == 0)
        assert torch.equal(got.cpu(), want)
    assert want.tolist() == [0, 3, 7]


def check_masks(twin: Twin, n: int, budget: float) -> None:
    """Every splat becomes the same, ties and numbers that are not finite included."""
    tensors, grad = splats(n), gradients(n)
    tensors["scales"][7::53, 1] = math.nan
    tensors["opacities"][11::53] = math.nan
    rules = [torch.tensor(THRESHOLDS["grow_gradient"]), *(THRESHOLDS[name] for name in list(THRESHOLDS)[1:])]
    got, want = twin.both("densify_classify", grad, tensors["scales"], tensors["opacities"], *rules, int(budget * n))
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])


def check_scatter(twin: Twin, n: int, *, kind: int | None = None, copies: int = 1) -> None:
    """Rows and their order exactly, children but for rounding. copies: of extra tensors, to fill several launches."""
    tensors = splats(n)
    for name in [name for name in tensors if name.startswith("s")] * (copies - 1):
        tensors[f"{name}_{len(tensors)}"] = tensors[name].clone()
    tensors["odd"] = torch.randn(n * 5 + 1, generator=torch.Generator().manual_seed(3)).half()[1:].view(n, 5)
    moments = [value for state in moments_of(tensors).values() for value in state.values()]
    plan = random_plan(n, seed=n)
    kinds = plan.kind if kind is None else torch.full_like(plan.kind, kind)
    num_out = int(torch.tensor([1, 2, 2, 0])[kinds.long()].sum())
    rows = [*tensors.values(), *moments]
    got, want = twin.both("densify_scatter", rows, len(moments), kinds, num_out, 2**40 + 7)
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        name = list(tensors)[i] if i < len(tensors) else f"moment {i - len(tensors)}"
        assert name in ("means", "opacities") or torch.equal(a, b), name
    assert_children(*(dict(zip(tensors, found, strict=False)) for found in (got, want)))
