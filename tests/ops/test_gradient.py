"""A loss that is given by its gradient: what arrives, and that a factor of 1 costs nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from splatdistill import ops
from tests.ops.test_residual import Calls


def pair(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    x, gradient = (torch.randn(3, 2, generator=g, dtype=torch.float64).to(dtype) for _ in range(2))
    return x.requires_grad_(), gradient


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("factor", [1.0, -1.0, 0.0, 2.5])
def test_the_gradient_is_the_given_one_times_the_upstream_factor(factor: float, dtype: torch.dtype) -> None:
    x, gradient = pair(dtype)
    loss = ops.loss_with_gradient(x, gradient=gradient)
    assert loss.shape == () and loss.item() == 0 and loss.device.type == "cpu"
    (factor * loss).backward()
    assert x.grad is not None and x.grad.dtype == dtype
    assert torch.equal(x.grad, factor * gradient)  # one product, rounded once


def test_it_goes_on_through_what_x_was_made_of() -> None:
    """For y = f(x), the gradient of x is that of <f(x), gradient>."""
    x, gradient = pair()
    (want,) = torch.autograd.grad((x.exp() * gradient).sum(), x)
    (got,) = torch.autograd.grad(ops.loss_with_gradient(x.exp(), gradient=gradient), x)
    assert torch.equal(got, want)


def test_a_factor_of_one_is_not_multiplied_in() -> None:
    for factor, products in ((1, 0), (3, 1)):
        x, gradient = pair()
        loss = ops.loss_with_gradient(x, gradient=gradient)
        with Calls() as calls:
            torch.autograd.grad(loss, x, torch.tensor(float(factor)))
        assert sum(name.startswith("aten::mul") for name in calls.names) == products
        assert not any(name in ("aten::clone", "aten::copy_") for name in calls.names)


def test_beside_another_loss_both_gradients_arrive() -> None:
    x, gradient = pair()
    torch.autograd.backward([ops.loss_with_gradient(x, gradient=gradient), x.square().sum()])
    assert x.grad is not None
    assert torch.equal(x.grad, gradient + 2 * x.detach())


def test_the_gradient_keeps_its_order_of_memory() -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    gradient = torch.randn_like(x)
    (got,) = torch.autograd.grad(ops.loss_with_gradient(x, gradient=gradient), x)
    assert got.stride() == gradient.stride() and torch.equal(got, gradient)


@pytest.mark.parametrize(
    ("gradient", "what"), [(torch.ones(2, 3), "shape"), (torch.ones(3, 2), "dtype"), (torch.ones(3, 2).half(), "dtype")]
)
def test_a_gradient_that_does_not_fit_is_one_sentence(gradient: Tensor, what: str) -> None:
    x, _ = pair()
    with pytest.raises(ValueError, match=rf"^gradient must have the {what} of x, [^\n]*, not [^\n]*\.$"):
        ops.loss_with_gradient(x, gradient=gradient)
