"""How far rounding may move an answer, found from the arithmetic and not from a machine.

`moved` runs a computation again with the result of each operation moved at random by up to one unit roundoff (Monte
Carlo arithmetic, Parker 1997). The counts of operations and the condition numbers are in what comes out, so the bounds
made of it hold for any order of the same sums on any instruction set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

UNIT, DOUBLE, BF16_UNIT = 2.0**-24, 2.0**-53, 2.0**-8  # unit roundoff of float32, float64 and bfloat16
GRAY = 1 / 255  # the step of a value in 0..1 that is stored in eight bits

# Two for code that does the same sums in another way than the one that was moved, as when a backward pass divides a
# transmittance back that autograd has kept. Two for the largest of thousands of errors, of which few samples are drawn.
FACTOR = 4.0
SAMPLES = 2

# Operations that do not round. Any other that returns new numbers does, and of SUMS each summand does so first.
EXACT = set(
    """
    neg abs sign sgn clone detach _to_copy copy where masked_fill clamp clamp_min clamp_max maximum minimum max min
    amax amin relu threshold threshold_backward cat stack index index_select gather sort argsort zeros zeros_like ones
    ones_like full full_like new_zeros new_ones new_full new_empty new_empty_strided empty empty_like fill zero arange
    eye triu tril repeat ceil floor round scalar_tensor lift_fresh flip roll slice_backward select_backward
    _unsafe_view rand randn randint randperm linspace
    """.split()
)
SUMS = set(
    """
    mm bmm addmm baddbmm dot mv sum mean cumsum cumprod prod index_add scatter_add index_put linalg_vector_norm
    linalg_cross _softmax convolution convolution_backward native_group_norm native_layer_norm var std grid_sampler_2d
    _scaled_dot_product_flash_attention_for_cpu upsample_bilinear2d _upsample_bilinear2d_aa avg_pool2d
    splatdistill::residual_forward splatdistill::noising_forward splatdistill::products_forward
    """.split()
)
# xi, uniform in -1..1. Of float32, by one unit: the number below, the number above, or neither.
NOISE = 2 * torch.rand(1 << 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
STEPS = torch.randint(-1, 2, (1 << 20,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)


class _Shaken(TorchDispatchMode):
    """Every rounded result x becomes x (1 + unit xi), xi uniform in -1..1."""

    def __init__(self, seed: int, unit: float) -> None:
        super().__init__()
        self.unit = unit
        self.generator, self.noise = torch.Generator().manual_seed(seed), 1 + unit * NOISE

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, in_place = func._schema.name.removeprefix("aten::").removesuffix("_"), func._schema.is_mutable
        if name in SUMS:
            args = (args[0], *tree_map(self.move, args[1:])) if in_place else tree_map(self.move, args)
        out = func(*args, **(kwargs or {}))
        if name in EXACT or (not in_place and any(result.alias_info for result in func._schema.returns)):
            return out
        if in_place:
            for x in tree_leaves(args[0] if out is None else out):  # operations on lists return nothing
                x.copy_(self.move(x))
            return out
        return tree_map(self.move, out)

    def move(self, x: Any) -> Any:
        if not isinstance(x, Tensor) or not x.is_floating_point() or not x.numel():
            return x
        # In float32 less than half of what lies between two numbers would be rounded away.
        steps = x.dtype == torch.float32 and self.unit == UNIT
        table = STEPS if steps else self.noise
        # A piece of the same noise each time: new numbers would take most of the time.
        first = int(torch.randint(max(1, len(table) - x.numel()), (), generator=self.generator))
        noise = table[first : first + x.numel()]
        noise = noise.repeat(-(-x.numel() // len(noise)))[: x.numel()].view(x.shape)
        if not steps:
            return (x * noise).to(x.dtype)  # in float64
        beside = (x.view(torch.int32) + noise).view(torch.float32)
        return torch.where((x != 0) & x.isfinite(), beside, x)


def moved(
    compute: Callable[[], Mapping[str, Tensor]], *, unit: float = UNIT, samples: int = SAMPLES
) -> dict[str, Tensor]:
    """By how much rounding may move each result of `compute`, element by element; times FACTOR is a bound.

    compute: plain torch, forward and backward, in float32, or in float64 as the twin of float32 code. unit: unit
    roundoff of the type that the code in question rounds to. samples: more where the results are few numbers, of which
    the largest error must be among the samples.
    """
    still = {name: x.detach().double() for name, x in compute().items()}
    found = {name: torch.zeros_like(x) for name, x in still.items()}
    for seed in range(samples):
        with _Shaken(seed, unit):
            shaken = compute()
        found = {
            name: torch.maximum(found[name], (x.detach().double() - still[name]).abs()) for name, x in shaken.items()
        }
    return found


def neighbours(x: Tensor, generator: torch.Generator) -> Tensor:
    """`x` with every element at the next number of its type, above or below at random."""
    up = torch.rand(x.shape, generator=generator) < 0.5
    return torch.nextafter(x, torch.where(up, torch.inf, -torch.inf).to(x))


def assert_within(got: Tensor, want: Tensor, allowed: Tensor | float) -> None:
    """|got - want| <= allowed, element by element; NaN is never within."""
    away = (got.detach().double() - want.detach().double()).abs()
    assert (away <= allowed).all(), f"away by {away.max():.3e}, allowed {torch.as_tensor(allowed).max():.3e} at most"


def bound(compute: Callable[[], Tensor | float], *, unit: float = UNIT, samples: int = 16) -> Tensor:
    """How far rounding may move `compute()`, element by element. unit: of the type that it is computed in."""
    found = moved(lambda: {"": torch.as_tensor(compute())}, samples=samples)[""]
    return FACTOR * unit / UNIT * found  # to first order all errors are proportional to the unit


def assert_rounded(
    compute: Callable[[], Tensor | float], want: Tensor | float, *, off: float | Tensor = 0.0, unit: float = UNIT
) -> None:
    """`compute()` is `want` but for rounding. off: how far `want` itself may be off, as by the decimals it is given
    with.
    """
    assert_within(torch.as_tensor(compute()), torch.as_tensor(want), bound(compute, unit=unit) + off)


def assert_same(compute: Callable[[], tuple[Tensor, Tensor]], *, unit: float = UNIT) -> None:
    """Two ways to one answer of a network differ by rounding only, with one bound for all of their many numbers. unit:
    of the type that both are computed in.
    """
    a, b = compute()
    found = moved(lambda: dict(zip("ab", compute(), strict=True)))
    assert_within(a, b, FACTOR * unit / UNIT * (found["a"].max() + found["b"].max()))


def assert_quantised(got: Any, want: Any, *, step: float | Tensor = GRAY) -> None:
    """`got` is the multiple of `step` that is nearest to `want`: a division, a rounding and a product away from it.
    Both are numbers, arrays or tensors.
    """
    got, want = torch.as_tensor(got), torch.as_tensor(want)
    assert_within(got, want, 0.5 * step + 4 * UNIT * want.detach().double().abs())
