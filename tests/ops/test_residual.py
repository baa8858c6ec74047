"""The fused residual against float64, its gradient, and what it does to bad numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from splatdistill import ops
from tests.ops.simd_levels import outputs
from tests.rounding import FACTOR, UNIT, assert_within, moved

ROOT = Path(__file__).resolve().parents[2]

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def problem(num_terms, num_views=3, shape=(4, 8, 8), seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)

    def randn(*size):
        return torch.randn(size, generator=g, dtype=torch.float64).to(dtype)

    terms = [randn(num_views, *shape) for _ in range(num_terms)]
    return randn(num_views, *shape), {"terms": terms, "coef": randn(num_terms, num_views), "weight": randn(num_views)}


def expected(x0, terms, coef, weight, clamp=None, total_views=None):
    """g [V,...] in float64, written as the formula."""
    g = torch.einsum("kv,kv...->v...", coef.double(), torch.stack([t.double() for t in terms]))
    g = g * weight.double().reshape(-1, *[1] * (x0.dim() - 1))
    return g if clamp is None else g.clamp(-clamp, clamp)


def allowed(x0, terms, coef, weight, clamp=None, total_views=None):
    """What rounding in float32 may do to g [V,...] and norms [V] (to first order, before a division by views).

    An element of g is a product, K - 1 sums and a product with the weight: K + 1 roundings, each of UNIT of at most the
    sum of the terms' sizes. Norms are summed in float64 and rounded once, so theirs are those of g added up.
    """
    sizes = expected(x0, [t.abs() for t in terms], coef.abs(), weight.abs())
    g = (len(terms) + 1) * UNIT * sizes
    exact = expected(x0, terms, coef, weight, clamp)
    return g, rows(g).norm(dim=1) + UNIT * rows(exact).norm(dim=1)


def rows(x):
    return x.flatten(1) if x.dim() > 1 else x[:, None]


@pytest.mark.parametrize("num_terms", range(1, 9))
@pytest.mark.parametrize("clamp", [None, 0.5])
def test_agrees_with_float64(num_terms, clamp):
    x0, kwargs = problem(num_terms)
    x0.requires_grad_()
    loss, norms, num_nonfinite = ops.residual(x0, **kwargs, clamp=clamp)
    (3.0 * loss).backward()
    g = expected(x0, **kwargs, clamp=clamp)
    of_g, of_norms = allowed(x0, **kwargs, clamp=clamp)
    assert_within(x0.grad, 3.0 * g / 3, of_g + 3 * UNIT * g.abs())  # 1 / V and two products with it and with 3
    assert_within(norms, g.flatten(1).norm(dim=1), of_norms)
    assert int(num_nonfinite) == 0
    assert num_nonfinite.dtype == torch.int64


@pytest.mark.parametrize("shape", [(), (1,), (4097,), (3, 64, 64)])
@pytest.mark.parametrize("num_views", [0, 1, 2])
def test_any_shape(shape, num_views):
    x0, kwargs = problem(2, num_views, shape)
    loss, norms, num_nonfinite = ops.residual(x0.requires_grad_(), **kwargs)
    loss.backward()
    g, (of_g, of_norms) = expected(x0, **kwargs), allowed(x0, **kwargs)
    assert_within(x0.grad, g / max(num_views, 1), of_g / max(num_views, 1) + 2 * UNIT * g.abs())
    assert_within(norms, rows(g).norm(dim=1), of_norms)
    assert norms.shape == (num_views,) and num_nonfinite == 0


def test_total_views_of_all_ranks_divides_the_gradient():
    x0, kwargs = problem(2)
    x0.requires_grad_()
    ops.residual(x0, **kwargs, total_views=12).loss.backward()
    g = expected(x0, **kwargs) / 12
    assert_within(x0.grad, g, allowed(x0, **kwargs)[0] / 12 + 3 * UNIT * g.abs())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_a_number_that_is_not_finite_becomes_zero_there_only(bad):
    x0, kwargs = problem(2)
    g = expected(x0, **kwargs)
    kwargs["coef"][0, 1] = 2.0
    kwargs["weight"][1] = 2.0
    g = expected(x0, **kwargs)
    of_g, of_norms = allowed(x0, **kwargs)
    kwargs["terms"][0][1, 2, 3, 4] = bad
    g[1, 2, 3, 4] = 0
    x0.requires_grad_()
    loss, norms, num_nonfinite = ops.residual(x0, **kwargs)
    loss.backward()
    assert_within(x0.grad, g / 3, of_g / 3 + 3 * UNIT * g.abs())
    assert_within(norms, g.flatten(1).norm(dim=1), of_norms)
    assert int(num_nonfinite) == 1


def test_clamp_comes_after_the_zeroing():
    x0, kwargs = problem(1, num_views=1)
    kwargs |= {"coef": torch.ones(1, 1), "weight": torch.ones(1)}
    kwargs["terms"][0][0, 0, 0, 0] = float("inf")
    x0.requires_grad_()
    ops.residual(x0, **kwargs, clamp=0.25).loss.backward()
    assert x0.grad[0, 0, 0, 0] == 0
    assert x0.grad.abs().max() == 0.25


def test_gradcheck():
    """The loss has no value to take differences of. The reference's has, and has the same gradient."""
    x0, kwargs = problem(3, num_views=2, shape=(2, 3), dtype=torch.float64)
    x0.requires_grad_()

    def with_a_value(x):
        return ops.reference.residual(x, **kwargs, clamp=0.7, total_views=2)[0]

    assert torch.autograd.gradcheck(with_a_value, (x0,))
    (got,) = torch.autograd.grad(ops.residual(x0, **kwargs, clamp=0.7).loss, x0)
    (want,) = torch.autograd.grad(with_a_value(x0), x0)
    torch.testing.assert_close(got, want, rtol=4 * 2.0**-53, atol=0)  # the same operations, but for 1 / V and a product


class Calls(TorchDispatchMode):
    """Names of the operators that are called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_an_upstream_gradient_of_one_is_not_multiplied_in(factor):
    x0, kwargs = problem(2)
    with Calls() as forward:
        loss = ops.residual(x0.requires_grad_(), **kwargs).loss
    assert [name for name in forward.names if name.startswith("splatdistill")] == ["splatdistill::residual_forward"]
    assert (loss.item(), loss.device.type) == (0.0, "cpu")
    scaled = loss * factor
    with Calls() as backward:
        scaled.backward()
    assert backward.names.count("aten::mul") == (1 if factor == 1 else 2)  # that of `scaled`, and of the residual


@pytest.mark.parametrize("x0_format", [torch.contiguous_format, torch.channels_last])
def test_channels_last_terms_are_taken_as_they_are(x0_format):
    x0, kwargs = problem(3, shape=(4, 6, 5))
    want = x0.clone().requires_grad_()
    made = ops.residual(want, **kwargs, clamp=0.9)
    made.loss.backward()
    kwargs["terms"] = [t.to(memory_format=torch.channels_last) for t in kwargs["terms"]]
    leaf = x0.to(memory_format=x0_format, copy=True).requires_grad_()
    with Calls() as calls:
        got = ops.residual(leaf, **kwargs, clamp=0.9)
    assert not {"aten::clone", "aten::copy_", "aten::_to_copy"} & set(calls.names)
    got.loss.backward()
    assert torch.equal(leaf.grad, want.grad)
    assert_within(got.norms, made.norms, 2 * allowed(x0, **kwargs, clamp=0.9)[1])


def test_terms_in_other_orders_of_memory_are_put_in_one():
    x0, kwargs = problem(4, shape=(4, 6, 5))
    made = ops.residual(x0, **kwargs)
    first, second, third, fourth = kwargs["terms"]
    for terms in (
        [first.to(memory_format=torch.channels_last), second, third, fourth.mT.contiguous().mT],
        [first.mT.contiguous().mT, second.to(memory_format=torch.channels_last), third, fourth],
        [first[:, :, ::1].expand(3, 4, 6, 5), *(torch.stack([x, x], -1)[..., 1] for x in (second, third, fourth))],
    ):
        leaf = x0.clone().requires_grad_()
        got = ops.residual(leaf, **(kwargs | {"terms": terms}))
        got.loss.backward()
        assert_within(got.norms, made.norms, 2 * allowed(x0, **kwargs)[1])
        g = expected(x0, **kwargs) / 3
        assert_within(leaf.grad, g, allowed(x0, **kwargs)[0] / 3 + 3 * UNIT * g.abs())


def test_the_operator_refuses_what_it_would_read_wrongly():
    x0, kwargs = problem(2, shape=(4, 6, 5))
    first, second = kwargs["terms"]
    others = second.to(memory_format=torch.channels_last), first.transpose(0, 1).contiguous().transpose(0, 1)
    for other in (*others, second[:, :, :, :1].expand(3, 4, 6, 5)):
        with pytest.raises(RuntimeError, match="in the order of the others"):
            torch.ops.splatdistill.residual_forward(x0, [first, other], kwargs["coef"], kwargs["weight"], None, 3)


@pytest.mark.parametrize("x0_dtype", DTYPES)
@pytest.mark.parametrize("term_dtype", DTYPES)
def test_any_mix_of_types_is_computed_in_float32_or_better(x0_dtype, term_dtype):
    """Inputs are read without error, so all that is left is the rounding of float32 and of the gradient's type."""
    x0, kwargs = problem(3, shape=(3, 20, 20), dtype=torch.float64)
    kwargs["terms"] = [t.to(d) for t, d in zip(kwargs["terms"], (term_dtype, *DTYPES[2:]), strict=True)]
    kwargs |= {"coef": kwargs["coef"].float(), "weight": kwargs["weight"].float()}
    x0 = x0.to(x0_dtype).requires_grad_()
    loss, norms, num_nonfinite = ops.residual(x0, **kwargs, clamp=2.0)
    loss.backward()
    g = expected(x0, **kwargs, clamp=2.0)
    assert x0.grad.dtype == x0_dtype
    assert norms.dtype == (torch.float64 if x0_dtype == torch.float64 else torch.float32)
    of_g, of_norms = allowed(x0, **kwargs, clamp=2.0)
    rounding = 0.5 * torch.finfo(x0_dtype).eps  # of the gradient's type; below its normal numbers, of the smallest
    narrow = rounding * torch.clamp(g.abs() / 3 + of_g, min=torch.finfo(x0_dtype).smallest_normal)
    assert_within(x0.grad, g / 3, of_g / 3 + 2 * UNIT * g.abs() + narrow)
    assert_within(norms, g.flatten(1).norm(dim=1), of_norms)
    assert int(num_nonfinite) == 0
    assert_norms_close_to_reference(norms, x0.detach(), kwargs, clamp=2.0)


def assert_norms_close_to_reference(norms, x0, kwargs, *, clamp):
    """The reference sums in the type that it computes in and in torch's order: moving it says how far that goes."""

    def reference():
        return {"norms": ops.reference.residual(x0, **kwargs, clamp=clamp, total_views=3)[1]}

    want = reference()["norms"]
    assert_within(norms, want, FACTOR * (moved(reference)["norms"] + UNIT * want.abs()))


def test_terms_get_no_gradient_and_may_be_strided():
    x0, kwargs = problem(2)
    want = ops.residual(x0, **kwargs)
    kwargs["terms"] = [torch.stack([t, t], -1)[..., 0].requires_grad_() for t in kwargs["terms"]]
    got = ops.residual(x0, **kwargs)
    assert not got.loss.requires_grad
    assert torch.equal(got.norms, want.norms)


def test_threads_do_not_change_a_bit():
    x0, kwargs = problem(3, shape=(3, 100, 100))
    one = torch.ops.splatdistill.residual_forward(x0, *kwargs.values(), None, 3)
    for threads in (2, 4):
        torch.set_num_threads(threads)
        for a, b in zip(one, torch.ops.splatdistill.residual_forward(x0, *kwargs.values(), None, 3), strict=True):
            assert torch.equal(a, b)


HASH_OF_A_RESULT = """
import hashlib, torch
from splatdistill import ops
g = torch.Generator().manual_seed(0)
x0, *terms = (torch.randn(3, 3, 65, 63, generator=g).to(d) for d in (torch.bfloat16, torch.float16, torch.float32))
arguments = torch.randn(2, 3, generator=g), torch.randn(3, generator=g), 0.7, 3
results = torch.ops.splatdistill.residual_forward(x0, terms, *arguments)
print(hashlib.sha256(b"".join(r.float().numpy().tobytes() for r in results)).hexdigest())
"""


def test_instruction_sets_do_not_change_a_bit():
    assert len(outputs(HASH_OF_A_RESULT)) == 1


def test_reference_agrees():
    x0, kwargs = problem(4)
    kwargs["terms"][2][0, 0, 0, 0] = float("nan")
    got = ops.residual(x0, **kwargs, clamp=0.5)
    assert got[2] == ops.reference.residual(x0, **kwargs, clamp=0.5, total_views=3)[2] == 1
    assert_norms_close_to_reference(got.norms, x0, kwargs, clamp=0.5)


def test_opcheck():
    x0, kwargs = problem(2)
    torch.library.opcheck(torch.ops.splatdistill.residual_forward.default, (x0, *kwargs.values(), 0.5, 3))


BAD = {
    "x0 must be a floating-point tensor of shape [V,...].": {"x0": torch.zeros(3, dtype=torch.int64)},
    "terms[1] must be float32, got int64.": {"terms": [torch.zeros(3, 4, 8, 8), torch.zeros(3, 4, 8, 8).long()]},
    "terms must hold 1 to 8 tensors, got 0.": {"terms": []},
    "terms must hold 1 to 8 tensors, got 9.": {"terms": [torch.zeros(3, 4, 8, 8)] * 9},
    "terms[1] must have shape [3, 4, 8, 8], got [3, 4, 8].": {"terms": [torch.zeros(3, 4, 8, 8), torch.zeros(3, 4, 8)]},
    "terms[0] must be on cpu, got meta.": {"terms": [torch.zeros(3, 4, 8, 8, device="meta")] * 2},
    "coef must have shape [2, 3], got [3].": {"coef": torch.zeros(3)},
    "weight must be a tensor, got float.": {"weight": 1.0},
    "weight must be float32, got int64.": {"weight": torch.ones(3, dtype=torch.int64)},
    "clamp must be positive and finite, or None, got 0.": {"clamp": 0},
    "total_views must be an integer from 3 to 2147483648, got 2.": {"total_views": 2},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_inputs_name_the_argument(message):
    x0, kwargs = problem(2)
    with pytest.raises(ValueError) as error:  # noqa: PT011  the whole message is compared below
        ops.residual(**({"x0": x0} | kwargs | BAD[message]))
    assert str(error.value) == message


def noise_problem(num_views=3, shape=(3, 16, 16), x0_dtype=torch.float32, eps_dtype=torch.float32):
    g = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(num_views, *shape, generator=g).to(d) for d in (x0_dtype, eps_dtype))
    return x0, {"eps": eps, "alpha": torch.rand(num_views, generator=g), "sigma": torch.rand(num_views, generator=g)}


@pytest.mark.parametrize("x0_dtype", DTYPES)
@pytest.mark.parametrize("eps_dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (700,), (3, 16, 16)])
def test_noising_is_torchs_expression_to_the_bit(x0_dtype, eps_dtype, shape):
    x0, kwargs = noise_problem(shape=shape, x0_dtype=x0_dtype, eps_dtype=eps_dtype)
    noised = ops.noising(x0, **kwargs)
    assert noised.dtype == x0_dtype
    assert torch.equal(noised, ops.reference.noising(x0, **kwargs))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("alpha", [1.0, 0.3, 1.7, 6e-5, 1e-7, 300.0])
def test_every_half_number_is_read_and_rounded_as_torch_does(dtype, alpha):
    """All 65536, subnormal, infinite and NaN among them, and results on both sides of every limit."""
    x0 = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)[None]
    alpha, zero = torch.tensor([alpha]), torch.zeros(1)
    noised = ops.noising(x0, eps=torch.zeros_like(x0), alpha=alpha, sigma=zero)
    torch.testing.assert_close(noised, (alpha * x0.float()).to(dtype), rtol=0, atol=0, equal_nan=True)


def test_noising_gradient_is_alpha_times_upstream():
    x0, kwargs = noise_problem(num_views=2, shape=(2, 3), x0_dtype=torch.float64)
    x0.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ops.noising(x, **kwargs), (x0,))
    half = x0.detach().to(torch.bfloat16).requires_grad_()
    kwargs["eps"].requires_grad_()
    kwargs["alpha"].requires_grad_()
    upstream = torch.ones_like(half)
    ops.noising(half, **kwargs).backward(upstream)
    assert torch.equal(half.grad, kwargs["alpha"].detach()[:, None, None].to(torch.bfloat16).expand(2, 2, 3))
    assert kwargs["eps"].grad is None and kwargs["alpha"].grad is None


def test_noising_of_nothing_and_of_strides():
    x0, kwargs = noise_problem(num_views=0)
    assert ops.noising(x0, **kwargs).shape == x0.shape
    x0, kwargs = noise_problem()
    strided = torch.stack([x0, x0], -1)[..., 0]
    assert torch.equal(ops.noising(strided, **kwargs), ops.noising(x0, **kwargs))


def test_noising_threads_and_opcheck():
    x0, kwargs = noise_problem(shape=(3, 100, 100))
    one = ops.noising(x0, **kwargs)
    for threads in (2, 4):
        torch.set_num_threads(threads)
        assert torch.equal(ops.noising(x0, **kwargs), one)
    torch.library.opcheck(torch.ops.splatdistill.noising_forward.default, (x0, *kwargs.values()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x0": [1.0]}, "x0 must be a floating-point tensor of shape [V,...]."),
        ({"eps": torch.zeros(3, 16, 16)}, "eps must have shape [3, 3, 16, 16], got [3, 16, 16]."),
        ({"eps": torch.zeros(3, 3, 16, 16, device="meta")}, "eps must be on cpu, got meta."),
        ({"alpha": 0.5}, "alpha must be a tensor, got float."),
        ({"alpha": torch.zeros(3, dtype=torch.int32)}, "alpha must be float32, got int32."),
        ({"sigma": torch.zeros(3, 1)}, "sigma must have shape [3], got [3, 1]."),
    ],
)
def test_noising_bad_inputs_name_the_argument(change, message):
    x0, kwargs = noise_problem()
    with pytest.raises(ValueError) as error:  # noqa: PT011  the whole message is compared below
        ops.noising(**({"x0": x0} | kwargs | change))
    assert str(error.value) == message
