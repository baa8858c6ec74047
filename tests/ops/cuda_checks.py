"""What the CUDA operators must do that the CPU's do, on any operators and device: the same cases run on a GPU
(test_cuda.py) and, as loops, without one (test_cuda_host.py).
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tests.ops.test_densify import THRESHOLDS, gradients, moments_of, random_plan, splats

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
    """The gradient to the bit, its sums to 1e-6."""
    g = torch.Generator().manual_seed(0)
    views, dtype = case.shape[0], torch.float64 if case.x0 == torch.float64 else torch.float32
    x0 = torch.nan_to_num(case.draw(g, case.x0), posinf=1.0)
    terms = [case.draw(g, term) for term in case.terms]
    coef, weight = torch.randn(len(terms), views, generator=g, dtype=dtype), torch.rand(views, generator=g, dtype=dtype)
    (loss, norms, count, grad), want = twin.both("residual_forward", x0, terms, coef, weight, case.clamp, views + 1)
    assert torch.equal(grad, want[3]) and grad.dtype == case.x0
    torch.testing.assert_close(norms, want[1], rtol=1e-6, atol=0)
    largest = (x0.double() * grad.double()).abs().sum().item()  # what cancels in the loss
    torch.testing.assert_close(loss, want[0], rtol=0, atol=1e-6 * max(largest, 1e-3))
    assert torch.equal(count, want[2])


def check_noising(twin: Twin, case: ResidualCase) -> None:
    g = torch.Generator().manual_seed(1)
    dtype = torch.float64 if case.x0 == torch.float64 else torch.float32
    alpha, sigma = (torch.rand(case.shape[0], generator=g, dtype=dtype) for _ in range(2))
    got, want = twin.both("noising_forward", case.draw(g, case.x0), case.draw(g, case.terms[0]), alpha, sigma)
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


def check_products(twin: Twin, case: ResidualCase) -> None:
    """To 1e-12 of what is added: the order of the sums differs, and they are float64."""
    g = torch.Generator().manual_seed(2)
    terms = [torch.nan_to_num(case.draw(g, term), posinf=1.0) for term in case.terms]
    rows = torch.stack([term.reshape(len(term), math.prod(term.shape[1:])).double() for term in terms], 1).abs()
    for got, want, size in zip(*twin.both("products_forward", terms), (rows.sum(-1), rows @ rows.mT), strict=True):
        assert got.dtype == torch.float64
        assert ((got - want).abs() <= 1e-12 * size).all()


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


def check_masks(twin: Twin, n: int, budget: float) -> None:
    """Every splat becomes the same, ties and numbers that are not finite included."""
    tensors, grad = splats(n), gradients(n)
    tensors["scales"][7::53, 1] = math.nan
    tensors["opacities"][11::53] = math.nan
    rules = [torch.tensor(THRESHOLDS["grow_gradient"]), *(THRESHOLDS[name] for name in list(THRESHOLDS)[1:])]
    got, want = twin.both("densify_classify", grad, tensors["scales"], tensors["opacities"], *rules, int(budget * n))
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])


def check_scatter(twin: Twin, n: int, *, kind: int | None = None, copies: int = 1) -> None:
    """Rows and their order exactly, children to 1e-6. copies: of every extra tensor, to fill more than one launch."""
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
        if i in (0, 2, 3):  # means, scales and opacities of children
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
        else:
            assert torch.equal(a, b), list(tensors)[i] if i < len(tensors) else f"moment {i - len(tensors)}"
