"""Sums and Gram matrix of scores, from which guidance takes coefficients: one pass over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from splatdistill.ops import _check, _library, reference
from splatdistill.ops.residual import FLOATS, MAX_TERMS

_gram = torch.ops.splatdistill.gram_forward.default


class Gram(NamedTuple):
    """Both float64.

    sums: [V,K], each of a term over the elements of a view.
    matrix: [V,K,K], inner products of every two terms.
    """

    sums: Tensor
    matrix: Tensor


def gram(terms: Sequence[Tensor]) -> Gram:
    """Per view the sum of each term and the inner product of every two; no gradient flows.

    terms: 1 to 8 tensors [V,...] of one shape, each float32, float64, float16 or bfloat16. All is added up in float64,
    where a product of two float32 is exact: |a - b|^2 = <a,a> - 2 <a,b> + <b,b> keeps its digits though a and b are
    nearly equal.
    """
    if not 1 <= len(terms) <= MAX_TERMS:
        raise ValueError(f"terms must hold 1 to {MAX_TERMS} tensors, got {len(terms)}.")
    first = terms[0]
    if not isinstance(first, Tensor) or first.dtype not in FLOATS or first.dim() < 1:
        raise ValueError("terms[0] must be a floating-point tensor of shape [V,...].")
    kept = []
    for k, term in enumerate(terms):
        dtype = term.dtype if isinstance(term, Tensor) and term.dtype in FLOATS else first.dtype
        term = _check.tensor(f"terms[{k}]", term, shape=first.shape, dtype=dtype, device=first.device)
        kept.append(term.detach().contiguous())
    if not _library.native(first.device):
        return Gram(*reference.gram(kept))
    return Gram(*_gram(kept))


@torch.library.register_fake("splatdistill::gram_forward")
def _gram_fake(terms) -> tuple[Tensor, Tensor]:
    views, num = terms[0].shape[0], len(terms)
    like = {"dtype": torch.float64, "device": terms[0].device}
    return torch.empty(views, num, **like), torch.empty(views, num, num, **like)
