"""The residual, noising and gram operators against the same in eager torch: forward and backward.

Three float32 terms, one thread each, taken in turn. The gradient of the residual reaches x0, as in a training step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import common
import torch
from torch import Tensor

from splatdistill import ops

NUM_TERMS = 3
SHAPES = [(4, 3, 64, 64), (8, 4, 64, 64), (8, 3, 512, 512)]  # pictures, latents of SD, large pictures


def main() -> None:
    args = common.parser(__doc__).parse_args()
    torch.set_num_threads(args.threads)
    cells = []
    for shape in SHAPES:
        for name, calls in calls_of(shape):
            samples = common.alternate(calls, rounds=11 if args.quick else 51, budget=15.0)
            title = f"{name} {'x'.join(map(str, shape[:2]))}x{shape[2]}^2"
            cells.append(common.cell(title, samples["ours"], samples["eager"], shape=list(shape)))
            common.progress(common.shown(cells[-1]))
    common.write(common.record("residual", cells, quick=args.quick, threads=args.threads), args.json)


def calls_of(shape: tuple[int, ...]) -> list[tuple[str, dict[str, Callable[[], object]]]]:
    made = {"residual": residual_calls, "noising": noising_calls, "gram": gram_calls}
    return [(name, calls(shape)) for name, calls in made.items()]


def residual_calls(shape: tuple[int, ...]) -> dict[str, Callable[[], object]]:
    g = torch.Generator().manual_seed(0)
    views = shape[0]
    x0 = torch.randn(shape, generator=g).requires_grad_()
    terms = [torch.randn(shape, generator=g) for _ in range(NUM_TERMS)]
    coef, weight = torch.randn(NUM_TERMS, views, generator=g), torch.rand(views, generator=g)

    def backward(result: Any) -> Tensor | None:
        x0.grad = None
        result[0].backward()
        return x0.grad

    return {
        "ours": lambda: backward(ops.residual(x0, terms=terms, coef=coef, weight=weight)),
        "eager": lambda: backward(ops.reference.residual(x0, terms, coef, weight, None, views)),
    }


def noising_calls(shape: tuple[int, ...]) -> dict[str, Callable[[], object]]:
    g = torch.Generator().manual_seed(0)
    x0 = torch.randn(shape, generator=g).requires_grad_()
    eps, upstream = torch.randn(shape, generator=g), torch.randn(shape, generator=g)
    alpha, sigma = torch.rand(2, shape[0], generator=g).unbind(0)

    def backward(xt: Tensor) -> Tensor | None:
        x0.grad = None
        xt.backward(upstream)
        return x0.grad

    return {
        "ours": lambda: backward(ops.noising(x0, eps=eps, alpha=alpha, sigma=sigma)),
        "eager": lambda: backward(ops.reference.noising(x0, eps, alpha, sigma)),
    }


def gram_calls(shape: tuple[int, ...]) -> dict[str, Callable[[], object]]:
    """Sums and Gram matrix of the terms; in torch one stack and one batched product, in float32."""
    g = torch.Generator().manual_seed(0)
    terms = [torch.randn(shape, generator=g) for _ in range(NUM_TERMS)]

    def eager() -> object:
        rows = torch.stack([term.flatten(1) for term in terms], 1)
        return rows.sum(-1), rows @ rows.mT

    return {"ours": lambda: ops.gram(terms), "eager": eager}


if __name__ == "__main__":
    main()
