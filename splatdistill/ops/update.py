"""The end of a step on native operators: whether all gradients are finite, then Adam over all tensors of the splats
together with the statistics of densify. On CUDA that is one launch each, and a third for the counts of skipped steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from splatdistill.ops import _check, _library, reference

MAX_TENSORS = 8
_ops = torch.ops.splatdistill


class Betas(NamedTuple):
    """How much of Adam's two moments stays at a step; beta1 is at least 0.5."""

    beta1: float
    beta2: float


class Verdict(NamedTuple):
    """skip: [] bool, whether the step is left out. correction: [2] float64, 1 - beta1^t and the root of 1 - beta2^t."""

    skip: Tensor
    correction: Tensor


class Learned(NamedTuple):
    """A tensor with its gradient, both moments, all of one shape, and its learning rate."""

    value: Tensor
    grad: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    rate: float


class Statistics(NamedTuple):
    """What `densify.accumulate` takes: sums [N] float32 and counts [N] int64, which it adds to, and what it adds."""

    grad_sum: Tensor
    count: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    probe_grad: Tensor
    radii: Tensor


def check(grads: Sequence[Tensor], *, num_nonfinite: Tensor, num_updates: Tensor, betas: Betas) -> Verdict:
    """Whether Adam can take these grads, of any shapes, float32 on one device: all are finite, and their squares too.

    num_nonfinite: [] int64, elements found not to be finite before; the step is skipped if there were any. num_updates:
    [] float32, the steps taken up to now; it goes up by one unless this one is skipped. Nothing waits for the device.
    """
    device = num_nonfinite.device
    grads = [_check.tensor(f"grads[{i}]", x, shape=x.shape, dtype=torch.float32, device=device)
             for i, x in enumerate(grads)]  # fmt: skip
    op = _ops.check_gradients if _library.native(device) else reference.check_gradients
    return Verdict(*op(grads, num_nonfinite, num_updates, *betas))


@torch.no_grad()
def update(learned: Sequence[Learned], *, verdict: Verdict, num_updates: Tensor, betas: Betas, eps: float,
           statistics: Statistics) -> None:  # fmt: skip
    """One step of Adam for 1 to 8 float32 tensors, in place, unless the verdict is to skip it; the statistics of
    densify are added to in any case. num_updates: as `check` left it.
    """
    device = statistics.grad_sum.device
    values = [tensors.value.detach() for tensors in learned]
    grads = [_check.tensor("grad", x.grad, shape=x.value.shape, dtype=torch.float32, device=device) for x in learned]
    moments = [x.exp_avg for x in learned], [x.exp_avg_sq for x in learned]
    rates = [x.rate for x in learned]
    if _library.native(device):
        _ops.update_splats(values, grads, *moments, rates, *verdict, *betas, eps, *statistics)
        torch.autograd.graph.increment_version(values)
    else:
        reference.densify_accumulate(*statistics)
        reference.adam(values, grads, *moments, rates, verdict.skip, num_updates, *betas, eps)


def count_skip(counts: Tensor, skipped: Tensor, *, fresh: bool) -> None:
    """Counts steps that were left out, in place. counts: [3] int64, those in a row up to now, the longest row, and all.
    skipped: [] bool, whether this one was. fresh: forget all but the rows first.
    """
    op = _ops.count_skip if _library.native(counts.device) else reference.count_skip
    op(counts, skipped, fresh)


@torch.library.register_fake("splatdistill::check_gradients")
def _check_fake(grads, num_nonfinite, num_updates, beta1, beta2) -> tuple[Tensor, Tensor]:
    return num_updates.new_empty((), dtype=torch.bool), num_updates.new_empty(2, dtype=torch.float64)


@torch.library.register_fake("splatdistill::update_splats")
def _update_fake(*_) -> None:
    return None


@torch.library.register_fake("splatdistill::count_skip")
def _count_fake(counts, skipped, fresh) -> None:
    return None
