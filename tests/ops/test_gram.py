"""Sums and Gram matrix of scores against float64, and what they are for: what cancels keeps its digits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from splatdistill import ops
from tests.ops.simd_levels import outputs
from tests.rounding import assert_within

ROOT = Path(__file__).resolve().parents[2]
ADDED = 2.0**-53  # unit roundoff of float64: a sum of n numbers is off by n of it, times what is added, in any order
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def draw(num_terms: int, shape: tuple[int, ...], dtypes: list[torch.dtype] = DTYPES) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(num_terms)
    terms = [torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(num_terms)]
    return [term.to(dtypes[k % len(dtypes)]) for k, term in enumerate(terms)]


def expected(terms: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    wide = torch.stack([term.double() for term in terms])
    return torch.einsum("kv...->vk", wide), torch.einsum("jv...,kv...->vjk", wide, wide)


@pytest.mark.parametrize("num_terms", range(1, 9))
@pytest.mark.parametrize("shape", [(3, 4, 65, 63), (2,), (1, 5000), (0, 4), (2, 0)])
def test_agrees_with_float64(num_terms, shape):
    terms = draw(num_terms, shape)
    for made in (ops.gram(terms), ops.reference.gram(terms)):
        assert made[0].dtype == made[1].dtype == torch.float64
        sizes = expected([term.abs() for term in terms])
        for got, want, size in zip(made, expected(terms), sizes, strict=True):
            assert_within(got, want, 2 * ADDED * size * terms[0][:1].numel())


def test_a_small_difference_keeps_its_digits():
    """Guided and plain scores differ by a thousandth: float32 sums would lose all of |a - b|^2."""
    a = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    b = a + 1e-4 * torch.randn(a.shape, generator=torch.Generator().manual_seed(1))
    gram = ops.gram([a, b]).matrix
    squared = gram[:, 0, 0] - 2 * gram[:, 0, 1] + gram[:, 1, 1]
    # What cancels is |a|^2 + 2 |a b| + |b|^2, summed in 32 rows of 128 numbers, then by rows, then by chunks.
    adds = 128 + 32 + 3 * 64 * 64 / 4096
    want = (a.double() - b.double()).flatten(1).square().sum(1)
    assert_within(squared, want, adds * ADDED * 4 * a.double().flatten(1).square().sum(1))


def test_a_bad_number_stays_in_its_view_and_among_its_terms():
    terms = draw(3, (2, 3, 9, 9), [torch.float32])
    terms[1][1, 0, 4, 4] = float("nan")
    sums, gram = ops.gram(terms)
    assert sums.isnan().nonzero().tolist() == [[1, 1]]
    assert gram.isnan()[0].sum() == 0
    assert gram[1].isnan().tolist() == [[False, True, False], [True, True, True], [False, True, False]]


def test_strides_threads_and_gradients():
    terms = draw(3, (3, 3, 100, 100))
    one = ops.gram(terms)
    strided = [torch.stack([t, t], -1)[..., 0].requires_grad_() for t in terms]
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        made = ops.gram(strided)
        assert all(torch.equal(a, b) and not a.requires_grad for a, b in zip(made, one, strict=True))


HASH = """
import hashlib, torch
from splatdistill import ops
g = torch.Generator().manual_seed(0)
dtypes = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
made = ops.gram([torch.randn(3, 3, 65, 63, generator=g, dtype=torch.float64).to(d) for d in dtypes])
print(hashlib.sha256(b"".join(r.numpy().tobytes() for r in made)).hexdigest())
"""


def test_instruction_sets_do_not_change_a_bit():
    assert len(outputs(HASH)) == 1


def test_opcheck():
    torch.library.opcheck(torch.ops.splatdistill.gram_forward.default, (draw(3, (2, 4, 8, 8)),))


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([], "terms must hold 1 to 8 tensors, got 0."),
        ([torch.zeros(3, 4)] * 9, "terms must hold 1 to 8 tensors, got 9."),
        ([torch.zeros(3).long()], "terms[0] must be a floating-point tensor of shape [V,...]."),
        ([1.0], "terms[0] must be a floating-point tensor of shape [V,...]."),
        ([torch.zeros(3, 4), 1.0], "terms[1] must be a tensor, got float."),
        ([torch.zeros(3, 4), torch.zeros(3, 4).long()], "terms[1] must be float32, got int64."),
        ([torch.zeros(3, 4), torch.zeros(3, 5)], "terms[1] must have shape [3, 4], got [3, 5]."),
        ([torch.zeros(3, 4), torch.zeros(3, 4, device="meta")], "terms[1] must be on cpu, got meta."),
    ],
)
def test_bad_inputs_name_the_argument(terms, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011  the whole message is compared below
        ops.gram(terms)
    assert str(error.value) == message
