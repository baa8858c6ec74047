"""The VAE: its gradient against finite differences, and a backward that survives a lack of memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from splatdistill.priors.latent_space import LatentSpace
from tests.priors import families
from tests.rounding import DOUBLE, assert_same, assert_within, bound


def latent_space(**settings: Any) -> LatentSpace:
    torch.manual_seed(1)
    return LatentSpace(families.vae(**settings).eval().requires_grad_(False), dtype="fp32")


def pictures(num: int = 4) -> Tensor:
    return torch.rand(num, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1


def pull(num: int = 4) -> Tensor:
    return torch.randn(num, 4, 8, 8, generator=torch.Generator().manual_seed(3))


def gradient(latents: LatentSpace, images: Tensor, direction: Tensor) -> Tensor:
    leaf = images.clone().requires_grad_()
    latents.encode(leaf).backward(direction)
    assert leaf.grad is not None
    return leaf.grad


def assert_slope(along: Callable[[float], Tensor], slope: Tensor, *, off: Tensor | float = 0.0) -> None:
    """`slope` is that of `along` at 0, in float64: a central difference is off by what grows as h^2, a third of what
    twice the h adds, and by rounding over h, for which there are some 1,000 operations in a row.
    """
    h = 1e-4

    def difference(h: float) -> Tensor:
        return (along(h) - along(-h)) / (2 * h)

    rounded = 1000 * DOUBLE * along(0.0).abs() / h
    assert_within(difference(h), slope, (difference(2 * h) - difference(h)).abs() + rounded + off)


def test_gradient_through_the_vae_is_that_of_finite_differences() -> None:
    """In float64; along 20 random directions."""
    c = latent_space()
    c.vae.double()
    images, direction = pictures(2).double(), pull(2).double()
    c._mean, c._std = c._mean.double(), c._std.double()
    c.latents = lambda x: (c.vae.encode(x).latent_dist.mode() - c._mean) / c._std  # type: ignore[method-assign]
    grad = gradient(c, images, direction)
    g = torch.Generator().manual_seed(4)
    for _ in range(20):
        step = torch.randn(images.shape, generator=g, dtype=torch.float64)
        assert_slope(lambda h, step=step: (c.encode(images + h * step) * direction).sum(), (grad * step).sum())


def test_gradient_in_single_precision() -> None:
    """As it runs: fp32, held against differences of the same network in float64."""
    c, images, direction = latent_space(), pictures(), pull()
    grad = gradient(c, images, direction)
    step = torch.randn(images.shape, generator=torch.Generator().manual_seed(5)).double()
    rounding = bound(lambda: (gradient(c, images, direction).double() * step).sum(), samples=4)
    c.vae.double()

    def along(h: float) -> Tensor:
        return (c.vae.encode(images.double() + h * step).latent_dist.mode() / c._std * direction).sum()

    assert_slope(along, (grad * step).sum(), off=rounding)


@pytest.mark.parametrize("fails_in", ["forward", "backward"])
def test_out_of_memory_means_fewer_views_and_the_same_gradient(fails_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, images, direction = latent_space(), pictures(), pull()
    latents, grad = whole.encode(images), gradient(whole, images, direction)
    assert not whole.recompute
    small = latent_space()
    encode, calls = small.vae.encode, []

    class Heavy(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            if len(g) > 2:
                raise torch.OutOfMemoryError("out of memory")
            return g

    def limited(x: Tensor, **kwargs: Any) -> Any:
        calls.append(len(x))
        if fails_in == "forward" and len(x) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return encode(Heavy.apply(x), **kwargs)

    monkeypatch.setattr(small.vae, "encode", limited)
    chunked = gradient(small, images, direction)
    assert small.recompute and small.micro_batches.rows == 2 and max(calls[-2:]) == 2
    assert_within(chunked, grad, 2 * bound(lambda: gradient(latent_space(), images, direction), samples=2).max())
    if fails_in == "forward":
        assert_within(small.encode(images), latents, 2 * bound(lambda: latent_space().encode(images), samples=2).max())


def test_one_view_too_large_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    c = latent_space()

    def never(x: Tensor, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(c.vae, "encode", never)
    with pytest.raises(torch.OutOfMemoryError):
        c.encode(pictures(2).requires_grad_())


def test_latents_with_mean_and_standard_deviation_of_their_own() -> None:
    mean, std = [0.1, -0.2, 0.3, 0.0], [1.5, 2.0, 0.5, 1.0]
    c = latent_space(latents_mean=mean, latents_std=std, scaling_factor=0.5)
    raw = c.vae.encode(pictures()).latent_dist.mean
    expected = (raw - torch.tensor(mean).view(1, 4, 1, 1)) * 0.5 / torch.tensor(std).view(1, 4, 1, 1)
    torch.testing.assert_close(c.encode(pictures()), expected)
    assert_same(lambda: (c.decode(expected), c.vae.decode(raw).sample))
